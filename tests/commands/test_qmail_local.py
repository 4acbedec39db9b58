"""qmail-local beside the original: which file counts, what each line does, what programs find, and what is left when
something fails."""

import fcntl
import os
import re
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.commands.localuser import MESSAGE, User, user
from tests.helpers import BIN, eventually, needs
from tests.queuehomes import BOTH, QueueHome, needs_originals, nobody, original, queue_home
from tests.servers import public_folder

__all__ = ["queue_home", "user"]

OURS = BIN / "qmail-local"
RPLINE = b"Return-Path: <s@b.example>\n"
DTLINE = b"Delivered-To: joe@a.example\n"
UFLINE = b"From s@b.example DATE\n"
USAGE = b"qmail-local: usage: qmail-local [ -nN ] user homedir local dash ext domain sender aliasempty\n"


def local(which: str) -> str | Path:
    return OURS if which == "ours" else original("qmail-local")


@BOTH
def test_without_a_file_the_default_counts(which: str, user: User) -> None:
    done = user.local(local(which))
    assert (done.code, done.out, done.err) == (0, b"did 1+0+0\n", b"")
    assert done.files == {"Mailbox": UFLINE + RPLINE + DTLINE + MESSAGE + b"\n"}
    assert (user.path / "Mailbox").stat().st_mode & 0o777 == 0o600


@BOTH
def test_a_maildir_gets_a_file_of_its_own(which: str, user: User) -> None:
    folder = user.maildir()
    done = user.local(local(which), otherwise=b"./Maildir/")
    assert (done.code, done.out, done.err) == (0, b"did 1+0+0\n", b"")
    assert done.files == {"Maildir/new/": RPLINE + DTLINE + MESSAGE}
    (name,) = os.listdir(folder / "new")
    assert re.fullmatch(r"\d{10}\.\d+\." + re.escape(os.uname().nodename), name)
    assert (folder / "new" / name).stat().st_mode & 0o777 == 0o600


@BOTH
def test_an_empty_file_is_as_none_even_if_it_may_be_executed(which: str, user: User) -> None:
    user.write(".qmail", b"", 0o744)
    assert user.local(local(which), otherwise=b"./default").files.keys() == {"default"}


@BOTH
def test_an_absolute_name_is_followed(which: str, user: User) -> None:
    user.write(".qmail", b"%s/box" % bytes(user.path))
    assert user.local(local(which)).files.keys() == {"box"}


FILES = [
    (b"", b"", [".qmail", ".qmaildefault"]),
    (b"-", b"", [".qmail-", ".qmail-default"]),
    (b"-", b"a", [".qmail-a", ".qmail-default"]),
    (b"-", b"a-b-C", [".qmail-a-b-c", ".qmail-a-b-default", ".qmail-a-default", ".qmail-default"]),
    (b"-", b"a-b-", [".qmail-a-b-", ".qmail-a-b-default", ".qmail-a-default", ".qmail-default"]),
    (b"-", b"--x", [".qmail---x", ".qmail---default", ".qmail--default", ".qmail-default"]),
    (b"-", b"A.B-../x", [".qmail-a:b-::-x", ".qmail-a:b-default", ".qmail-default"]),
    (b"-", b"a-default", [".qmail-a-default", ".qmail-default"]),
    (b"+", b"a", [".qmail+a", ".qmail+default"]),
    (b"-list-", b"a-b", [".qmail-list-a-b", ".qmail-list-a-default", ".qmail-list-default"]),
]


@BOTH
@pytest.mark.parametrize(("dash", "ext", "names"), FILES)
def test_the_first_file_that_exists_counts(which: str, user: User, dash: bytes, ext: bytes, names: list[str]) -> None:
    ext = ext.replace(b"/x", b"-x")
    for name in names:
        user.write(name, b"|echo %s $DEFAULT\n" % name.encode())
    for name in names:
        done = user.local(local(which), ext, dash)
        found, *default = done.out.partition(b"\n")[0].split(b" ")
        assert (done.code, found) == (0, name.encode())
        if name.endswith("default"):
            assert default == [ext[len(name.encode()) - len(b".qmail" + dash) - len(b"default") :]] or default == []
        (user.path / name).unlink()
    done = user.local(local(which), ext, dash)
    if dash:
        assert (done.code, done.err) == (100, b"Sorry, no mailbox here by that name. (#5.1.1)\n")
    else:
        assert (done.code, list(done.files)) == (0, ["Mailbox"])


@BOTH
@pytest.mark.parametrize(("name", "ext", "value"), [
    (".qmail-default", b"Foo.Bar-X", b"Foo.Bar-X"),
    (".qmail-foo:bar-default", b"Foo.Bar-X", b"X"),
    (".qmail-foo-default", b"Foo-Default", b"Default"),
    (".qmail-foo-x", b"foo-x", b"before"),
])  # fmt: skip
def test_default_is_what_the_word_stands_for(which: str, user: User, name: str, ext: bytes, value: bytes) -> None:
    user.write(name, b"|echo $DEFAULT")
    assert user.local(local(which), ext, DEFAULT="before").out == value + b"\ndid 0+0+1\n"


@BOTH
@pytest.mark.parametrize("kind", ["folder", "fifo", "dangling", "loop"])
def test_what_is_no_file_is_passed_over(which: str, user: User, kind: str) -> None:
    path = user.path / ".qmail-a"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere" if kind == "dangling" else ".qmail-a")
    user.write(".qmail-default", b"./box")
    assert user.local(local(which), b"a").files.keys() == {"box"}


@BOTH
def test_a_file_may_be_a_link_to_one(which: str, user: User) -> None:
    user.write("real", b"./box")
    (user.path / ".qmail-a").symlink_to("real")
    assert user.local(local(which), b"a").files.keys() == {"real", "box"}


@BOTH
@pytest.mark.parametrize(
    ("mode", "file_mode", "code", "err"),
    [
        (0o757, 0o644, 111, b"Uh-oh: home directory is writable. (#4.7.0)\n"),
        (0o1755, 0o644, 111, b"Home directory is sticky: user is editing his .qmail file. (#4.2.1)\n"),
        (0o777, 0o666, 111, b"Uh-oh: home directory is writable. (#4.7.0)\n"),
        (0o775, 0o646, 111, b"Uh-oh: .qmail file is writable. (#4.7.0)\n"),
        (0o775, 0o664, 0, b""),
        (0o755, 0o744, 111, b"Uh-oh: .qmail has file delivery but has x bit set. (#4.7.0)\n"),
        (0o755, 0o654, 0, b""),
    ],
)
def test_modes(which: str, user: User, mode: int, file_mode: int, code: int, err: bytes) -> None:
    user.write(".qmail", b"./box", file_mode)
    user.path.chmod(mode)
    done = user.local(local(which))
    assert (done.code, done.err) == (code, err)
    assert list(done.files) == ([] if code else ["box"])


@BOTH
def test_a_sticky_home_is_a_warning_for_one_who_only_asks(which: str, user: User) -> None:
    user.path.chmod(0o1755)
    done = user.local(local(which), options=["-n"])
    assert (done.code, done.out) == (0, b"mbox ./Mailbox\ndid 1+0+0\n")
    assert done.err == b"Warning: home directory is sticky.\n"


@BOTH
def test_a_file_that_may_not_be_read_is_trouble_for_now(which: str) -> None:
    uid, gid = nobody()
    with public_folder() as folder:
        user = User(folder)
        os.chown(user.path, uid, gid)
        user.write(".qmail-a", b"./box", 0o600)
        user.write(".qmail-default", b"./box")
        binary = local(which)
        words: list[str | bytes | Path] = [binary, "joe", user.path, "joe", "-", "a", "h", "s", "x"]
        with user.message.open() as message:
            done = subprocess.run(
                words, stdin=message, capture_output=True, env=user.env(), user=uid, group=gid, extra_groups=[],
                check=False,
            )  # fmt: skip
    assert (done.returncode, done.stderr) == (111, b"Unable to open .qmail-a: access denied. (#4.3.0)\n")


@BOTH
@pytest.mark.parametrize(("home", "said"), [("missing", b"file does not exist"), ("message", b"not a directory")])
def test_a_home_that_is_away_is_trouble_for_now(which: str, user: User, home: str, said: bytes) -> None:
    path = str(user.folder / home)
    done = user.run([local(which), "joe", path, "joe", "", "", "h", "s", "./Mailbox"])
    assert done.returncode == 111
    assert done.stderr == b"Unable to switch to %s: %s. (#4.3.0)\n" % (path.encode(), said)


@BOTH
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["joe", "/", "joe", "", "", "h", "s"], USAGE),
        (["joe", "/", "joe", "", "", "h", "s", "x", "y"], USAGE),
        (["joe", "home", "joe", "", "", "h", "s", "x"], USAGE),
        (["-x", "joe", "/", "joe", "", "", "h", "s", "x"], b"qmail-local: illegal option -- x\n" + USAGE),
        ([], USAGE),
    ],
)
def test_usage(which: str, user: User, words: list[str], said: bytes) -> None:
    done = user.run([local(which), *words])
    assert (done.returncode, done.stdout, done.stderr) == (100, b"", said)


@BOTH
@pytest.mark.parametrize(
    ("header", "loops"),
    [
        (DTLINE, True),
        (b"To: x\n" + DTLINE + b"\n", True),
        (b"x" * 70000 + b"\n" + DTLINE, True),
        (b"x" * (65536 - 10) + b"\n" + DTLINE + b"\n", True),
        (b"x" * (65536 - 30) + b"\n" + DTLINE + b"\n", True),
        (b"\0\n" + DTLINE, True),
        (b"\n" + DTLINE, False),
        (b"To: x\n\n" + DTLINE, False),
        (b"x" * 65534 + b"\n\n" + DTLINE, False),
        (b"x" * 65535 + b"\n\n" + DTLINE, False),
        (DTLINE.lower(), False),
        (DTLINE[:-1], False),
        (DTLINE[:-1] + b" \n", False),
        (b" " + DTLINE, False),
    ],
    ids=range(14),
)
def test_a_message_that_was_here_before_is_refused(which: str, user: User, header: bytes, loops: bool) -> None:
    done = user.local(local(which), message=header)
    if loops:
        text = b"This message is looping: it already has my Delivered-To line. (#5.4.6)\n"
        assert (done.code, done.out, done.err, done.files) == (100, b"", text, {})
    else:
        assert (done.code, done.err) == (0, b"")
    assert user.local(local(which), options=["-n"], message=header).code == 0


@BOTH
@pytest.mark.parametrize("text", [b"\n./box", b" \t\n./box", b"\0./box\n./box", b"\n", b" "])
def test_a_first_line_that_is_blank_is_trouble(which: str, user: User, text: bytes) -> None:
    user.write(".qmail", text)
    done = user.local(local(which))
    assert (done.code, done.files) == (111, {})
    assert done.err == b"Uh-oh: first line of .qmail file is blank. (#4.2.1)\n"


@BOTH
def test_a_dry_run_shows_what_would_be_done(which: str, user: User) -> None:
    user.write(
        ".qmail", b"# c\n./m \t\n./d/\t \n|prog  a\n| b\n& joe@h\n&\njim\n\n \n+other\n./m\0x\n&a\0b\n+list\0x\nlast"
    )
    done = user.local(local(which), options=["-n"])
    shown = (
        b"mbox ./m\nmaildir ./d/\nprogram prog  a\nprogram  b\nforward  joe@h\nforward \nforward jim\nmbox ./m\0x\n"
        b"forward a\0b\nforward last\ndid 3+5+2\n"
    )
    assert (done.code, done.out, done.err, done.files) == (0, shown, b"", {})
    assert user.local(local(which), options=["-nN"], sender=b"").code == 111


@BOTH
@pytest.mark.parametrize(("line", "said"), [
    (b"./box", b"Uh-oh: .qmail has file delivery but has x bit set. (#4.7.0)\n"),
    (b"./dir/", b"Uh-oh: .qmail has file delivery but has x bit set. (#4.7.0)\n"),
    (b"|true", b"Uh-oh: .qmail has prog delivery but has x bit set. (#4.7.0)\n"),
])  # fmt: skip
@pytest.mark.parametrize("by", ["mode", "list"])
def test_a_list_only_forwards(which: str, user: User, line: bytes, said: bytes, by: str) -> None:
    user.write(".qmail", b"&a@b\n" + (b"+list\n" if by == "list" else b"") + line, 0o744 if by == "mode" else 0o644)
    done = user.local(local(which))
    assert (done.code, done.err, done.files, done.forwarded) == (111, said, {}, None)
    assert user.local(local(which), options=["-n"])[:3] == (111, b"forward a@b\n", said)


@BOTH
def test_a_message_is_forwarded_once_and_last(which: str, user: User) -> None:
    user.write(".qmail", b"&a@b\nc d@e\n|test ! -e envelope; cat > seen\n./box\n&\xff\n&x\0y")
    done = user.local(local(which))
    assert (done.code, done.out, done.err) == (0, b"did 1+4+1\nqp PID\n", b"")
    assert done.files.keys() == {"seen", "box"}
    assert done.forwarded == (DTLINE + MESSAGE, b"Fs@b.example\0Ta@b\0Tc d@e\0T\xff\0Tx\0\0")


@BOTH
@pytest.mark.parametrize(
    ("ext", "owners", "sender", "found"),
    [
        (b"", [], b"s@b", b"s@b"),
        (b"", [".qmail-owner"], b"s@b", b"joe-owner@a.example"),
        (b"", [".qmail-owner", ".qmail-owner-default"], b"s@b", b"joe-owner-@a.example-@[]"),
        (b"", [".qmail-owner-default"], b"s@b", b"s@b"),
        (b"", [".qmail-owner", ".qmail-owner-default"], b"", b""),
        (b"", [".qmail-owner", ".qmail-owner-default"], b"#@[]", b"#@[]"),
        (b"L.x-a", [".qmail-l:x-a-owner"], b"s@b", b"joe-owner@a.example"),
        (b"l-a", [".qmail-l-owner"], b"s@b", b"s@b"),
    ],
    ids=range(8),
)
def test_the_sender_of_what_is_forwarded(
    which: str, user: User, ext: bytes, owners: list[str], sender: bytes, found: bytes
) -> None:
    user.write(".qmail-default" if ext else ".qmail", b"&x@y\n|echo $NEWSENDER $SENDER")
    for name in owners:
        user.write(name, b"")
    done = user.local(local(which), ext, sender=sender)
    assert done.out.split(b"\n")[0].split() == [word for word in (found, sender) if word]
    assert done.forwarded == (DTLINE + MESSAGE, b"F" + found + b"\0Tx@y\0\0")


@BOTH
@pytest.mark.parametrize(
    ("code", "ours", "text"),
    [
        (31, 100, b"mail server permanently rejected message (#5.3.0)"),
        (53, 111, b"qq write error or disk full (#4.3.0)"),
        (99, 111, b"qq temporary problem (#4.3.0)"),
        (40, 100, b"qq permanent problem (#5.3.0)"),
    ],
)
def test_trouble_with_the_queue_is_told(which: str, user: User, code: int, ours: int, text: bytes) -> None:
    user.queue(code)
    user.write(".qmail", b"./box\n&a@b")
    done = user.local(local(which))
    assert (done.code, done.out, done.err) == (ours, b"", b"Unable to forward message: " + text + b".\n")
    assert done.files.keys() == {"box"}


@BOTH
@pytest.mark.parametrize("code", [0, 1, 64, 65, 66, 70, 71, 74, 75, 76, 77, 78, 79, 99, 100, 101, 111, 112, 126, 127])
def test_exit_codes_of_programs(which: str, user: User, code: int) -> None:
    user.write(".qmail", b"&a@b\n|echo said; echo more >&2; exit %d\n./box\n&c@d" % code)
    done = user.local(local(which))
    hard = code in (64, 65, 70, 76, 77, 78, 100, 112)
    assert done.code == (0 if code in (0, 99) else 100 if hard else 111)
    assert done.err == b"more\n"
    if code == 0:
        assert (done.out, list(done.files)) == (b"said\ndid 1+2+1\nqp PID\n", ["box"])
    elif code == 99:
        assert (done.out, done.files) == (b"said\ndid 0+1+1\nqp PID\n", {})
        assert done.forwarded is not None and done.forwarded[1] == b"Fs@b.example\0Ta@b\0\0"
    else:
        assert (done.out, done.files, done.forwarded) == (b"said\n", {}, None)


@BOTH
def test_a_program_that_crashes_is_trouble_for_now(which: str, user: User) -> None:
    user.write(".qmail", b"|kill -KILL $$\n./box")
    done = user.local(local(which))
    assert (done.code, done.err, done.files) == (111, b"Aack, child crashed. (#4.3.0)\n", {})


@BOTH
@pytest.mark.parametrize(("ext", "host"), [
    (b"", b"a.example"), (b"a", b"h"), (b"a-b", b"a.b"), (b"a-b-c-d-e", b"a.b.c.d.e"), (b"--", b".."),
    (b"x\ny", b"n\nn"),
])  # fmt: skip
@pytest.mark.parametrize("sender", [b"s@b", b"", b"#@[]", b'a b\t"c\nd@e f', b"\xff.@x"])
def test_what_a_program_finds(which: str, user: User, ext: bytes, host: bytes, sender: bytes) -> None:
    user.write(".qmail-default" if ext else ".qmail", b"|pwd; umask; trap; cat >text; env -0 >env; cat /proc/self/fd/0")
    done = user.local(local(which), ext, local=b"joe-" + ext, host=host, sender=sender, EXTRA="kept")
    assert (done.code, done.err, done.files["text"]) == (0, b"", MESSAGE)
    assert done.out == bytes(user.path) + b"\n0077\n" + MESSAGE + b"did 0+0+1\n"
    found = dict(entry.partition(b"=")[::2] for entry in done.files["env"].split(b"\0")[:-1])
    parts = ext.split(b"-", 3)
    labels = host.split(b".")
    date = b"DATE\n"
    hosts = [b".".join(labels[: max(1, len(labels) - cut)]) for cut in (1, 2, 3)] if len(labels) > 1 else [host] * 3
    line = b"joe-" + ext + b"@" + host
    wanted = {
        b"USER": b"joe", b"HOME": bytes(user.path), b"LOCAL": b"joe-" + ext, b"HOST": host, b"SENDER": sender,
        b"EXT": ext, b"EXTRA": b"kept", b"RECIPIENT": line, b"NEWSENDER": sender,
        b"DTLINE": b"Delivered-To: " + line.replace(b"\n", b"_") + b"\n",
        b"UFLINE": b"From " + (re.sub(rb"[ \t\n]", b"-", sender) or b"MAILER-DAEMON") + b" " + date,
        **{b"EXT%d" % number: ext.split(b"-", number - 1)[-1] if len(parts) >= number else b"" for number in (2, 3, 4)},
        **{b"HOST%d" % (number + 2): value for number, value in enumerate(hosts)},
    }  # fmt: skip
    if host != b"..":
        assert {name: found[name] for name in wanted} == wanted
    assert found.keys() >= {b"RPLINE", b"HOST4", b"EXT4"}
    if which != "ours":
        assert found == dict(
            entry.partition(b"=")[::2]
            for entry in user.local(OURS, ext, local=b"joe-" + ext, host=host, sender=sender, EXTRA="kept")
            .files["env"].split(b"\0")[:-1]
        )  # fmt: skip


@BOTH
def test_each_instruction_finds_the_message_from_its_beginning(which: str, user: User) -> None:
    user.maildir()
    user.write(".qmail", b"|head -c 3\n./box\n|head -c 5\n./Maildir/\n&a@b\n|head -c 1")
    done = user.local(local(which))
    assert (done.code, done.out) == (0, b"RecReceiRdid 2+1+3\nqp PID\n")
    assert done.files == {
        "box": UFLINE + RPLINE + DTLINE + MESSAGE + b"\n", "Maildir/new/": RPLINE + DTLINE + MESSAGE
    }  # fmt: skip
    assert done.forwarded is not None and done.forwarded[0] == DTLINE + MESSAGE


@BOTH
def test_a_pipe_is_no_message(which: str, user: User) -> None:
    words: list[str | bytes | Path] = [local(which), "joe", user.path, "joe", "", "", "h", "s", "./box"]
    done = subprocess.run(words, input=b"text", capture_output=True, env=user.env(), check=False)
    assert (done.returncode, done.stderr) == (111, b"Unable to rewind message. (#4.3.0)\n")


@BOTH
def test_a_message_that_cannot_be_read_is_trouble_for_now(which: str, user: User) -> None:
    words: list[str | bytes | Path] = [local(which), "joe", user.path, "joe", "", "", "h", "s", "./box"]
    with open(user.folder / "message", "ab") as unreadable:
        done = subprocess.run(words, stdin=unreadable, capture_output=True, env=user.env(), check=False)
    text = b"Unable to read message: file descriptor not open. (#4.3.0)\n"
    assert (done.returncode, done.stderr) == (111, text)
    done = subprocess.run(["sh", "-c", 'exec "$0" "$@" <&-', *words], capture_output=True, env=user.env(), check=False)
    assert (done.returncode, done.stderr) == (111, b"Unable to rewind message. (#4.3.0)\n")


BODIES = {
    "empty": b"", "no newline": b"a\n\nb", "nul": b"a\0\nFrom \0\n\0", "from": b"From \nfrom \n>From x\nFrom\n>>>From ",
    "only": b"From ", "long": b"x" * 200000, "lines": b"\n" * 70000, "crlf": b"a\r\nFrom b\r\n",
    "edge": b"x" * 65534 + b"\nFrom y\n", "marks": b">" * 70000 + b"From \n",
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("before", [b"", b"From x\n\nold\n\n"])
def test_bytes_of_files(which: str, user: User, body: str, before: bytes) -> None:
    text = BODIES[body]
    user.maildir()
    user.write("box", before)
    user.write(".qmail", b"./box\n./Maildir/\n|cat >copy\n&a@b")
    done = user.local(local(which), message=text)
    quoted = re.sub(rb"^(>*From )", rb">\1", text, flags=re.MULTILINE) + (
        b"\n" if text[-1:] not in (b"", b"\n") else b""
    )
    assert done.code == 0
    assert done.files == {
        "box": before + UFLINE + RPLINE + DTLINE + quoted + b"\n", "Maildir/new/": RPLINE + DTLINE + text, "copy": text
    }  # fmt: skip
    assert done.forwarded == (DTLINE + text, b"Fs@b.example\0Ta@b\0\0")


def test_a_large_message_takes_no_memory(user: User) -> None:
    user.maildir()
    size = 25_000_000
    text = b"From the beginning\n>From x\n" + b"some text\n" * (size // 10)
    user.write(".qmail", b"./box\n./Maildir/\n&a@b")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (16_000_000, 16_000_000))

    user.message.write_bytes(text)
    words: list[str | bytes | Path] = [OURS, "joe", user.path, "joe", "", "", "h", "s", "x"]
    with user.message.open("rb") as message:
        done = subprocess.run(words, stdin=message, capture_output=True, env=user.env(), check=False, preexec_fn=limit)
    assert (done.returncode, done.stderr) == (0, b"")
    files = user.files()
    assert len(files["box"]) == len(files["Maildir/new/"]) + len(b"From s DATE\n") + 3
    forwarded = user.forwarded()
    assert forwarded is not None and forwarded[0].endswith(text)


def test_one_process_may_put_two_messages_into_a_maildir(user: User) -> None:
    """Within a second, and without a process for each."""
    folder = user.maildir()
    user.write(".qmail", b"./Maildir/\n./Maildir/\n" + bytes(folder) + b"/")
    done = user.local(OURS)
    assert (done.code, done.out, done.err) == (0, b"did 3+0+0\n", b"")
    names = sorted(os.listdir(folder / "new"))
    assert [re.sub(r"\d{2,}", "", name).split(".")[1] for name in names] == ["", "_2", "_3"]


@BOTH
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: d.rename(d.with_name("x")), b"Unable to chdir to maildir. (#4.2.1)\n"),
        (lambda d: (d.rename(d.with_name("x")), d.touch()), b"Unable to chdir to maildir. (#4.2.1)\n"),
        (lambda d: (d / "tmp").rmdir(), b"Temporary error on maildir delivery. (#4.3.0)\n"),
        (lambda d: (d / "new").rmdir(), b"Temporary error on maildir delivery. (#4.3.0)\n"),
        (lambda d: ((d / "new").rmdir(), (d / "new").touch()), b"Temporary error on maildir delivery. (#4.3.0)\n"),
    ],
    ids=["missing", "a file", "no tmp", "no new", "new is a file"],
)
def test_a_maildir_that_is_none(which: str, user: User, spoil: Callable[[Path], object], said: bytes) -> None:
    folder = user.maildir()
    spoil(folder)
    done = user.local(local(which), otherwise=b"./Maildir/")
    assert (done.code, done.out, done.err) == (111, b"", said)
    assert [name for name in done.files if name.startswith("Maildir/tmp")] == []


@BOTH
@pytest.mark.parametrize(
    ("part", "mode", "code", "said"),
    [
        (".", 0o600, 111, b"Unable to chdir to maildir. (#4.2.1)\n"),
        (".", 0o100, 0, b""),
        ("tmp", 0o500, 111, b"Temporary error on maildir delivery. (#4.3.0)\n"),
        ("new", 0o500, 111, b"Temporary error on maildir delivery. (#4.3.0)\n"),
        ("new", 0o300, 0, b""),
        ("tmp", 0o300, 0, b""),
        ("cur", 0o000, 0, b""),
    ],
)
def test_modes_of_a_maildir(which: str, part: str, mode: int, code: int, said: bytes) -> None:
    uid, gid = nobody()
    with public_folder() as folder:
        user = User(folder)
        maildir = user.maildir()
        for path in (user.path, maildir, *maildir.iterdir()):
            os.chown(path, uid, gid)
        (maildir / part).chmod(mode)
        words: list[str | bytes | Path] = [local(which), "joe", user.path, "joe", "", "", "h", "s", "./Maildir/"]
        with user.message.open() as message:
            done = subprocess.run(
                words, stdin=message, capture_output=True, env=user.env(), user=uid, group=gid, extra_groups=[],
                check=False,
            )  # fmt: skip
        assert (done.returncode, done.stderr) == (code, said)
        assert [len(os.listdir(maildir / name)) for name in ("tmp", "new")] == [0, code == 0]


@BOTH
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (b"./missing/box", b"Unable to open ./missing/box: file does not exist. (#4.2.1)\n"),
        (b"./folder", b"Unable to open ./folder: is a directory. (#4.2.1)\n"),
        (b".", b"Unable to open .: is a directory. (#4.2.1)\n"),
        (b"./fifo", b"Unable to open ./fifo: device not configured. (#4.2.1)\n"),
        (b"/dev/null", b"Unable to write /dev/null: invalid argument. (#4.3.0)\n"),
        (b"/dev/full", b"Unable to write /dev/full: out of disk space. (#4.3.0)\n"),
    ],
)
def test_an_mbox_that_is_none(which: str, user: User, name: bytes, said: bytes) -> None:
    (user.path / "folder").mkdir()
    os.mkfifo(user.path / "fifo")
    done = user.local(local(which), otherwise=name)
    assert (done.code, done.out, done.err) == (111, b"", said)


@BOTH
def test_an_mbox_that_another_holds_is_waited_for(which: str, user: User) -> None:
    user.write("Mailbox", b"")
    words: list[str | bytes | Path] = [local(which), "joe", user.path, "joe", "", "", "h", "s", "./Mailbox"]
    with (user.path / "Mailbox").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with user.message.open("rb") as message, subprocess.Popen(words, stdin=message, env=user.env()) as process:
            inode = f":{(user.path / 'Mailbox').stat().st_ino} "
            assert eventually(lambda: any("->" in line and inode in line for line in open("/proc/locks")))
            assert process.poll() is None
            fcntl.flock(held, fcntl.LOCK_UN)
            assert process.wait(20) == 0
    assert MESSAGE in (user.path / "Mailbox").read_bytes()


def test_an_mbox_that_is_replaced_by_whom_it_waits_for_is_the_new_one(user: User) -> None:
    """maildir2mbox does that; the original writes to the file that is gone, and calls that a delivery."""
    user.write("Mailbox", b"")
    words: list[str | bytes | Path] = [OURS, "joe", user.path, "joe", "", "", "h", "s", "./Mailbox"]
    with (user.path / "Mailbox").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with user.message.open("rb") as message, subprocess.Popen(words, stdin=message, env=user.env()) as process:
            inode = f":{(user.path / 'Mailbox').stat().st_ino} "
            assert eventually(lambda: any("->" in line and inode in line for line in open("/proc/locks")))
            user.write("new", b"From x\n\nold\n\n")
            (user.path / "new").rename(user.path / "Mailbox")
            fcntl.flock(held, fcntl.LOCK_UN)
            assert process.wait(20) == 0
    text = (user.path / "Mailbox").read_bytes()
    assert text.startswith(b"From x\n\nold\n\nFrom s ")
    assert MESSAGE in text


def test_an_mbox_that_is_removed_by_whom_it_waits_for_is_made_anew(user: User) -> None:
    user.write("Mailbox", b"")
    words: list[str | bytes | Path] = [OURS, "joe", user.path, "joe", "", "", "h", "s", "./Mailbox"]
    with (user.path / "Mailbox").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with user.message.open("rb") as message, subprocess.Popen(words, stdin=message, env=user.env()) as process:
            inode = f":{(user.path / 'Mailbox').stat().st_ino} "
            assert eventually(lambda: any("->" in line and inode in line for line in open("/proc/locks")))
            (user.path / "Mailbox").unlink()
            fcntl.flock(held, fcntl.LOCK_UN)
            assert process.wait(20) == 0
    assert MESSAGE in (user.path / "Mailbox").read_bytes()


@BOTH
def test_an_mbox_is_waited_for_half_a_minute(which: str, user: User) -> None:
    """The alarm comes early here."""
    user.write("Mailbox", b"old")
    words: list[str | bytes | Path] = [local(which), "joe", user.path, "joe", "", "", "h", "s", "./Mailbox"]
    with (user.path / "Mailbox").open("ab") as held, user.message.open("rb") as message:
        fcntl.flock(held, fcntl.LOCK_EX)
        with subprocess.Popen(words, stdin=message, stderr=subprocess.PIPE, env=user.env()) as process:
            inode = f":{(user.path / 'Mailbox').stat().st_ino} "
            assert eventually(lambda: any("->" in line and inode in line for line in open("/proc/locks")))
            os.kill(process.pid, signal.SIGALRM)
            assert process.stderr is not None
            said = process.stderr.read()
            assert (process.wait(20), said) == (111, b"File has been locked for 30 seconds straight. (#4.3.0)\n")
    assert (user.path / "Mailbox").read_bytes() == b"old"


def test_alarms(user: User) -> None:
    """A day for a Maildir, half a minute for an mbox file that is held."""
    strace = needs("strace")
    folder = user.maildir()
    log = user.folder / "log"
    user.write(".qmail", b"./Maildir/\n./held")
    words: list[str | bytes | Path] = [
        strace,
        "-o",
        log,
        "-e",
        "trace=alarm",
        OURS,
        "joe",
        user.path,
        "joe",
        "",
        "",
        "h",
        "s",
        "x",
    ]
    with (user.path / "held").open("ab") as held, user.message.open("rb") as message:
        fcntl.flock(held, fcntl.LOCK_EX)
        with subprocess.Popen(words, stdin=message, stderr=subprocess.DEVNULL, env=user.env()) as process:
            assert eventually(lambda: log.exists() and "alarm(30)" in log.read_text())
            fcntl.flock(held, fcntl.LOCK_UN)
            assert process.wait(20) == 0
    assert re.findall(r"alarm\((\d+)\)", log.read_text()) == ["86400", "0", "30", "0"]
    assert len(os.listdir(folder / "new")) == 1


# A disk of a size is mounted at $1/disk, in a view of the file system of its own; then the program.
ON_A_SMALL_DISK = """
mkdir "$1/disk" && mount -t tmpfs -o size=$2 none "$1/disk" && mkdir "$1/disk/tmp" "$1/disk/new" || exit 99
printf 'From x\\n\\nold\\n\\n' > "$1/disk/box"
[ $0 = rw ] || mount -o remount,ro "$1/disk"
folder=$1; shift 2
"$@"
code=$?
find "$folder/disk" -type f | sort > "$folder/left"; cat "$folder/disk/box" >> "$folder/left"
exit $code
"""


@BOTH
@pytest.mark.parametrize("kind", ["rw", "ro"])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"disk/", b"Temporary error on maildir delivery. (#4.3.0)\n"),
        (b"disk/box", b"Unable to write %s: out of disk space. (#4.3.0)\n"),
    ],
)
def test_a_disk_that_is_full_or_read_only(which: str, user: User, line: bytes, said: bytes, kind: str) -> None:
    nobody()
    user.message.write_bytes(b"x" * 300_000)
    path = bytes(user.path) + b"/" + line
    if b"%s" in said:
        said = said % path
        if kind == "ro":
            said = b"Unable to open %s: read-only file system. (#4.2.1)\n" % path
    words: list[str | bytes | Path] = [local(which), "joe", user.path, "joe", "", "", "h", "s", path]
    done = user.run(["unshare", "-m", "sh", "-c", ON_A_SMALL_DISK, kind, user.path, "128k", *words])
    assert (done.returncode, done.stdout, done.stderr) == (111, b"", said)
    left = (user.path / "left").read_bytes()
    assert left == bytes(user.path) + b"/disk/box\nFrom x\n\nold\n\n"


def test_a_line_that_a_writer_left_unfinished_gets_an_end(user: User) -> None:
    """The original makes one message of two."""
    user.write("Mailbox", b"From x\n\npart")
    done = user.local(OURS)
    assert done.files["Mailbox"] == b"From x\n\npart\n\n" + UFLINE + RPLINE + DTLINE + MESSAGE + b"\n"


def left_by(user: User, call: str, when: int, box: bytes) -> tuple[int, list[bytes], bytes, list[str]]:
    """Exit code, messages in new, the mbox file, and tmp, when a signal kills qmail-local at a system call."""
    user.fresh()
    folder = user.maildir()
    user.write(".qmail", b"./Maildir/\n./box")
    user.write("box", box)
    inject = [needs("strace"), "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}"]
    done = user.run([*inject, OURS, "joe", user.path, "joe", "", "", "h", "s", "x"])
    new = [path.read_bytes() for path in (folder / "new").iterdir()]
    return done.returncode, new, (user.path / "box").read_bytes(), os.listdir(folder / "tmp")


@pytest.mark.parametrize("call", ["openat", "write", "fsync", "close", "linkat", "unlinkat", "alarm", "flock", "lseek"])
def test_a_kill_at_any_system_call_loses_nothing_and_shows_no_part(user: User, call: str) -> None:
    old = b"From x\n\nold\n\n"
    whole = b"Return-Path: <s>\nDelivered-To: joe@h\n" + MESSAGE
    kills = 0
    last = None
    for when in range(1, 1000):
        code, new, box, tmp = left_by(user, call, when, old)
        assert new in ([], [whole])
        assert box.startswith(old)
        assert box == old or re.sub(rb"^From s .*\n", b"", box[len(old) :]) == whole + b"\n"
        assert len(tmp) <= 1
        if code == 0:
            assert (len(new), box != old, tmp) == (1, True, [])
            break
        kills += 1
        last = new, box
    assert kills > 0
    if call == "fsync":
        assert kills == 3
        assert last is not None and last[0] == [whole]


@pytest.mark.parametrize("call", ["write", "fsync", "linkat", "openat"])
def test_a_failure_of_a_system_call_leaves_nothing_of_the_message(user: User, call: str) -> None:
    strace = needs("strace")
    for name, line in (("Maildir", b"./Maildir/"), ("box", b"./box")):
        for when in range(1, 3 if call in ("fsync", "write") else 2):
            user.fresh()
            folder = user.maildir()
            user.write("box", b"old\n")
            where = folder if name == "Maildir" else user.path / "box"
            words: list[str | bytes | Path] = [
                strace,
                "-f",
                "-o",
                "/dev/null",
                "-P",
                where,
                "-P",
                folder / "tmp",
                "-P",
                folder / "new",
            ]
            words += ["-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when={when}"]
            done = user.run([*words, OURS, "joe", user.path, "joe", "", "", "h", "s", line])
            files = user.files()
            if done.returncode == 0:
                continue
            assert done.returncode == 111
            assert files == {"box": b"old\n"}, (call, name, when)


WORDS = st.sampled_from([
    b"#c", b"./box", b"./dir/", b"&a@b", b"a@b", b"|true", b"|exit 99", b"|exit 100", b"|exit 3", b"+list", b"+x", b" ",
    b"\t", b"", b"\0", b"./a\0/", b"&", b"|", b"/", b".", b"\xff",
])  # fmt: skip
TEXTS = st.lists(
    st.tuples(WORDS, st.sampled_from([b"\n", b" \n", b"", b"\t\t\n", b"\0\n"])).map(b"".join), max_size=6
).map(b"".join)


@needs_originals
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, dry=st.booleans(), mode=st.sampled_from([0o644, 0o744]))
def test_any_file_is_followed_as_the_original_follows_it(user: User, text: bytes, dry: bool, mode: int) -> None:
    found = []
    for which in ("ours", "the original"):
        user.fresh()
        user.maildir("dir")
        user.write(".qmail", text, mode)
        found.append(user.local(local(which), options=["-n"] if dry else []))
    assert found[0] == found[1]


@needs_originals
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(st.sampled_from([b"From ", b"From", b">", b"\n", b"x", b"\0", b" ", b"F"])).map(b"".join))
def test_any_message_is_quoted_as_the_original_does(user: User, text: bytes) -> None:
    found = []
    for which in ("ours", "the original"):
        user.fresh()
        found.append(user.local(local(which), message=text))
    assert found[0] == found[1]


@needs_originals
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ext=st.lists(st.sampled_from([b"a", b"-", b".", b"B", b"default", b"owner"]), max_size=5).map(b"".join),
    names=st.lists(st.sampled_from(["a", "default", "a-default", "owner", "a-owner", "a-owner-default", "b-default"])),
    sender=st.sampled_from([b"", b"#@[]", b"x", b"a b@c", b'"@\n']),
)
def test_any_address_is_found_as_the_original_finds_it(user: User, ext: bytes, names: list[str], sender: bytes) -> None:
    found = []
    for which in ("ours", "the original"):
        user.fresh()
        for name in names:
            user.write(f".qmail-{name}", b"|env | sort | grep -v ^_=\n&x@y")
        found.append(user.local(local(which), ext, b"-", sender=sender))
    assert found[0] == found[1]


def test_the_message_gets_into_the_queue_of_the_home(user: User, queue_home: QueueHome) -> None:
    user.write(".qmail", b"&x@y")
    env = {name: value for name, value in user.env().items() if name != "QMAILQUEUE"}
    with user.message.open("rb") as message:
        words: list[str | bytes | Path] = [OURS, "joe", user.path, "joe", "", "", "h", "s@t", "x"]
        done = subprocess.run(
            words, stdin=message, capture_output=True, check=False, env={**env, "QMAILHOME": str(queue_home.path)}
        )
    queued = queue_home.message()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"did 0+1+0\nqp %d\n" % queued.pid, b"")
    assert (queued.sender, queued.recipients) == (b"s@t", [b"x@y"])
    assert queued.body == b"Delivered-To: joe@h\n" + MESSAGE


@pytest.mark.parametrize("cold", ["", "1"])
def test_our_programs_do_their_part(user: User, cold: str) -> None:
    user.write(".qmail", b"|except false\n|preline -f cat >copy\n|condredirect a@b grep -q Subject\n./box")
    done = user.local(OURS, QMAILPY_COLD=cold)
    assert (done.code, done.out) == (0, b"did 0+0+3\n")
    assert done.err == b"condredirect: qp PID\n"
    assert done.files == {"copy": RPLINE + DTLINE + MESSAGE}
    assert done.forwarded == (DTLINE + MESSAGE, b"Fs@b.example\0Ta@b\0\0")


def test_a_plain_command_of_ours_needs_no_shell(user: User) -> None:
    strace = needs("strace")
    log = user.folder / "log"
    user.write(".qmail", b"|except 'false'\n|preline -f true\n|except \"false\"")
    words: list[str | bytes | Path] = ["joe", user.path, "joe", "", "", "h", "s", "x"]
    done = user.run([strace, "-f", "-e", "trace=execve", "-e", "status=successful", "-o", log, OURS, *words])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"did 0+0+3\n", b"")
    assert log.read_text().count('execve("/bin/sh"') == 1


@pytest.mark.parametrize(
    "command", [b"preline cat", b"preline env", b"preline sh -c 'pwd; umask; ls /proc/self/fd; trap'"]
)
def test_it_finds_what_it_would_find_behind_a_shell(user: User, command: bytes) -> None:
    found = []
    for line in (command, command + b";"):
        user.write(".qmail", b"|" + line)
        done = user.local(OURS, PWD="/elsewhere")
        found.append((done.code, sorted(done.out.split(b"\n")), done.err))
    assert found[0] == found[1]
    assert found[0][0] == 0


def test_procmail_delivers(user: User) -> None:
    procmail = needs("procmail")
    user.maildir()
    user.write(".procmailrc", b"MAILDIR=%s\nDEFAULT=%s/Maildir/\n" % (bytes(user.path), bytes(user.path)))
    user.write(".qmail", b"|preline %s -m ./.procmailrc\n" % procmail.encode())
    done = user.local(OURS)
    assert (done.code, done.err) == (0, b"")
    (text,) = [path.read_bytes() for path in (user.path / "Maildir" / "new").iterdir()]
    assert RPLINE in text and DTLINE in text and text.endswith(MESSAGE)


def test_maildrop_delivers(user: User) -> None:
    maildrop = needs("maildrop")
    user.maildir()
    user.write("filter", b'to "%s/Maildir"\n' % bytes(user.path), 0o600)
    user.write(".qmail", b"|preline -f %s ./filter\n" % maildrop.encode())
    done = user.local(OURS)
    assert (done.code, done.err) == (0, b"")
    (text,) = [path.read_bytes() for path in (user.path / "Maildir" / "new").iterdir()]
    assert text == RPLINE + DTLINE + MESSAGE
