"""qmail-queuectl: which messages are meant, what is printed of them, and what is ordered."""

import fcntl
import json
import os
import pwd
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.commands import qmail_queuectl
from qmailpy.mta import selection
from qmailpy.stores import lasterrors, orders, queue
from tests.helpers import BIN, PYTHON, eventually, needs, run
from tests.queuehomes import (
    QueueHome,
    inside,
    needs_originals,
    nobody,
    open_to_all,
    original,
    queue_home,
    run_queue,
    shared_home,
)

__all__ = ["queue_home", "shared_home"]

QUEUECTL = BIN / "qmail-queuectl"
HOLD: list[str | Path] = [QUEUECTL, "hold", "7"]

HOUR = 3600


class Home:
    """A home with messages in it; settled: their files belong to whom their folders do."""

    def __init__(self, home: QueueHome) -> None:
        self.home = home
        self.queue = home.queue
        self.now = int(time.time())  # a minute later ages would be others
        self.fd = os.open(home.queue, os.O_PATH | os.O_DIRECTORY)

    def path(self, folder: str, number: int) -> Path:
        plain = folder in ("todo", "intd", "bounce", "last")
        return self.queue / folder / (str(number) if plain else f"{number % 23}/{number}")

    def write(self, folder: str, number: int, text: bytes, age: int = 0, mode: int = 0o600) -> None:
        path = self.path(folder, number)
        path.write_bytes(text)
        path.chmod(mode)
        os.utime(path, (self.now - age, self.now - age))
        if os.geteuid() == 0:
            status = path.parent.stat()
            os.chown(path, status.st_uid, status.st_gid)

    def add(self, number: int, sender: bytes = b"joe@a.example", age: int = HOUR, **channels: bytes) -> None:
        """Recipients stand as in the files."""
        self.write("mess", number, b"Received: x\nSubject: test\n\nbody\n", mode=0o644)
        self.write("info", number, b"F" + sender + b"\0", age)
        for channel, text in channels.items():
            self.write(channel, number, text)

    def add_new(self, number: int, envelope: bytes, age: int = 0) -> None:
        self.write("mess", number, b"Received: x\n\nbody\n", mode=0o644)
        self.write("intd", number, envelope, age, mode=0o644)
        os.link(self.path("intd", number), self.path("todo", number))

    def note(self, number: int, channel: bytes, address: bytes, ago: int, text: bytes) -> None:
        lasterrors.note(self.fd, number, channel, address, self.now - ago, text)
        if os.geteuid() == 0:
            status = self.path("last", number).parent.stat()
            os.chown(self.path("last", number), status.st_uid, status.st_gid)

    def order(self, number: int) -> int:
        return self.path("info", number).stat().st_mode & 0o7777

    def numbers(self, *folders: str) -> dict[str, set[int]]:
        """Which messages have files, by folder; of all folders, if none are given."""
        found: dict[str, set[int]] = {}
        for name in self.home.files():
            folder, *_, number = name.split("/")
            if not folders or folder in folders:
                found.setdefault(folder, set()).add(int(number))
        return found

    def run(self, *words: str | bytes, code: int = 0, said: bytes = b"", cwd: Path | None = None) -> bytes:
        done = run([QUEUECTL, *words], env=self.home.env(), cwd=cwd)
        assert (done.returncode, done.stderr) == (code, said), done.stdout
        return done.stdout

    def objects(self, *words: str, code: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run(*words, code=code).splitlines()]

    def listed(self, *words: str) -> list[int]:
        lines = run([QUEUECTL, "-j", "list", *words], env=self.home.env()).stdout.splitlines()
        return [json.loads(line)["number"] for line in lines]


@pytest.fixture
def home(queue_home: QueueHome) -> Iterator[Home]:
    home = Home(queue_home)
    yield home
    os.close(home.fd)


@pytest.fixture
def roots(shared_home: QueueHome) -> Iterator[Home]:
    """For root: a queue whose mess is one user's, and whose info is another's."""
    uid, group = pwd.getpwnam("uucp").pw_uid, shared_home.queue.stat().st_gid
    for name in ("info", "local", "remote", "bounce", "last"):
        for path in (shared_home.queue / name, *(shared_home.queue / name).iterdir()):
            os.chown(path, uid, group)
    for name in ("sendmutex", "trigger"):
        os.chown(shared_home.queue / "lock" / name, uid, group)
    home = Home(shared_home)
    yield home
    os.close(home.fd)


@pytest.fixture(params=["one user's", "root's"])
def any_home(request: pytest.FixtureRequest) -> Home:
    home = request.getfixturevalue("home" if request.param == "one user's" else "roots")
    assert isinstance(home, Home)
    return home


class Sender:
    """A qmail-send that does nothing but listen, in `with`: at each question it notes the modes and times it sees, and
    answers, unless it is the original. A thread of the test."""

    def __init__(self, home: Home, original: bool = False) -> None:
        self.home = home
        self.original = original
        self.seen: list[dict[int, tuple[int, int]]] = []
        self.mutex = os.open(home.queue / "lock/sendmutex", os.O_WRONLY)
        fcntl.flock(self.mutex, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.known = orders.asked(home.fd)
        self.ready = threading.Event()
        self.over, self.end = os.pipe()
        self.thread = threading.Thread(target=self.listen, daemon=True)

    def __enter__(self) -> "Sender":
        self.thread.start()
        assert self.ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.end)
        self.thread.join(20)
        os.close(self.over)
        os.close(self.mutex)

    def listen(self) -> None:
        while True:
            trigger = os.open(self.home.queue / "lock/trigger", os.O_RDONLY | os.O_NONBLOCK)
            self.ready.set()
            self.look()
            poller = select.poll()
            poller.register(trigger, select.POLLIN)
            poller.register(self.over, select.POLLHUP)
            found = {fd for fd, _ in poller.poll()}
            os.close(trigger)
            if self.over in found:
                return

    def look(self) -> None:
        asked = orders.asked(self.home.fd)
        if asked == self.known or self.original:
            return
        self.known = asked
        self.seen.append(
            {
                int(path.name): (path.stat().st_mode & 0o7777, self.next(int(path.name)))
                for path in (self.home.queue / "info").glob("*/*")
            }
        )
        orders.answer(self.home.fd, asked)

    def next(self, number: int) -> int:
        return int(self.home.path("remote", number).stat().st_mtime)


def three(home: Home) -> None:
    """Messages 7, 8 and 9, of which one has been delivered in part."""
    home.add(7, b"joe@a.example", 3 * HOUR, remote=b"Tmary@b.example\0Dx@b.example\0Ty@c.example\0")
    home.note(7, b"remote", b"mary@b.example", HOUR, b"192.0.2.7 does not like recipient.\n")
    home.note(7, b"remote", b"x@b.example", HOUR, b"forgotten")
    home.add(8, b"", 2 * HOUR, local=b"Talias-joe@me.example\0", remote=b"Tmary@b.example\0")
    home.add(9, b"joe@a.example", HOUR, local=b"Talias-joe@me.example\0")


# What is listed and shown


def test_a_line_per_message_the_oldest_first(any_home: Home) -> None:
    three(any_home)
    any_home.write("remote", 8, b"Tmary@b.example\0", age=60 - 7 * 86400)
    any_home.write("local", 8, b"Dalias-joe@me.example\0")
    any_home.path("info", 9).chmod(0o700)
    any_home.add_new(10, b"u1\0p2\0Fnew@a.example\0Tmary@b.example\0", 4 * HOUR)
    assert any_home.run("list") == (
        b"10  18  4h  1/1       new  <new@a.example>  mary@b.example\n"
        b" 7  32  3h  2/3       due  <joe@a.example>  mary@b.example: 192.0.2.7 does not like recipient.\n"
        b" 8  32  2h  1/2  in 6d23h  <>  mary@b.example\n"
        b" 9  32  1h  1/1      held  <joe@a.example>  alias-joe@me.example\n"
    )


def test_an_empty_queue(any_home: Home) -> None:
    assert any_home.run("list") == any_home.run("show") == any_home.run("list", "-j") == b""
    assert any_home.run("delete", "--all") == b"delete: 0 messages\n"


def test_one_that_has_nobody_left(home: Home) -> None:
    home.add(7, remote=b"Dx@b.example\0")
    home.add(8)
    home.write("bounce", 7, b"<x@b.example>:\nno\n\n")
    assert home.run("list").decode().split()[3:6] == ["0/1", "due", "<joe@a.example>"]
    (first, second) = home.objects("list", "-j")
    assert (first["left"], first["done"], first["bouncing"], first["next"], first["error"]) == (0, 1, True, None, None)
    assert (second["left"], second["done"], second["bouncing"]) == (0, 0, False)


def test_an_object_per_message(any_home: Home) -> None:
    three(any_home)
    first = any_home.objects("list", "-j", "7")[0]
    assert first.pop("age") in range(3 * HOUR, 4 * HOUR)
    assert first == {
        "number": 7,
        "size": 32,
        "birth": any_home.now - 3 * HOUR,
        "sender": "joe@a.example",
        "state": "waiting",
        "bouncing": False,
        "left": 2,
        "done": 1,
        "next": any_home.now,
        "error": {
            "address": "mary@b.example",
            "when": any_home.now - HOUR,
            "text": "192.0.2.7 does not like recipient.\n",
        },
    }


def test_all_that_is_known_is_shown(any_home: Home) -> None:
    three(any_home)
    any_home.write("bounce", 7, b"<z@b.example>:\nno\n\n")
    assert any_home.run("show", "7") == (
        b"message 7\n"
        b"    size 32\n"
        b"    age 3h\n"
        b"    sender <joe@a.example>\n"
        b"    state waiting\n"
        b"    recipients have failed, of which the sender will be told\n"
        b"    to remote mary@b.example\n"
        b"        failed 1h ago: 192.0.2.7 does not like recipient.\n"
        b"        next attempt now\n"
        b"    to remote x@b.example\n"
        b"        done\n"
        b"    to remote y@c.example\n"
        b"        next attempt now\n"
        b"    header\n"
        b"        Received: x\n"
        b"        Subject: test\n"
    )
    (shown,) = any_home.objects("show", "-j", "7")
    assert shown["header"] == "Received: x\nSubject: test\n"
    assert shown["recipients"] == [
        {
            "channel": "remote",
            "address": "mary@b.example",
            "done": False,
            "error": {"when": any_home.now - HOUR, "text": "192.0.2.7 does not like recipient.\n"},
        },
        {"channel": "remote", "address": "x@b.example", "done": True, "error": None},
        {"channel": "remote", "address": "y@c.example", "done": False, "error": None},
    ]
    assert any_home.run("show").count(b"\n\nmessage ") == 2


def test_a_new_message_is_listed_and_shown_as_it_is(any_home: Home) -> None:
    any_home.add_new(10, b"u1\0p2\0Fnew@a.example\0Tmary@b.example\0Tjoe@me.example\0")
    any_home.add(11)
    any_home.add_new(11, b"u1\0p2\0Fnewer@a.example\0")  # what was taken up before a crash does not count
    assert any_home.listed("--new") == any_home.listed() == [10, 11]
    shown = any_home.objects("show", "-j")
    assert [each["state"] for each in shown] == ["new", "new"]
    assert [each["sender"] for each in shown] == ["new@a.example", "newer@a.example"]
    assert shown[0]["next"] is None
    assert shown[0]["recipients"] == [
        {"channel": None, "address": address, "done": False, "error": None}
        for address in ("mary@b.example", "joe@me.example")
    ]
    assert b"    to mary@b.example\n    to joe@me.example\n" in any_home.run("show", "10")


def test_a_split_todo_is_read(tmp_path: Path) -> None:
    home = Home(QueueHome(tmp_path / "home", split=5, split_todo=True))
    assert run_queue([BIN / "qmail-queue"], b"x", b"Fa@b\0Tc@d\0\0", home.home.env()).returncode == 0
    (found,) = home.objects("list", "-j")
    assert (found["sender"], found["state"], found["left"]) == ("a@b", "new", 1)
    os.close(home.fd)


def test_nothing_reaches_a_terminal_that_could_command_it(home: Home) -> None:
    evil = b"a\x1b]0;x\x07\r\n\tb\x9b@a"
    home.add(7, evil, remote=b"T" + evil + b"\0Dx" + evil + b"\0")
    home.note(7, b"remote", evil, 9 * HOUR, b"no\x1b[2J\n\x9bno\n")
    home.write("mess", 7, b"Subject: \x1b[31m\x9b\r\n\tmore\n\nbody\x1b", mode=0o644)
    home.add_new(8, b"u1\0p2\0F" + evil + b"\0T" + evil + b"\0")
    for words in (["list"], ["show"], ["list", "-j"], ["show", "-j"], ["hold", "-n", "--all"]):
        shown = home.run(*words)
        assert not shown.translate(None, bytes(range(32, 127)) + b"\n\t"), words
    assert b"<a^[]0;x^G^M  bM-^[@a>  a^[]0;x^G^M  bM-^[@a: no^[[2J M-^[no\n" in home.run("list", "7")
    assert len(home.run("list").splitlines()) == 2
    assert home.objects("list", "-j", "7")[0]["sender"] == "a\x1b]0;x\x07\r\n\tb\\x9b@a"


ADDRESS = st.one_of(st.binary(max_size=20), st.sampled_from([b"mary@b.example", b"joe@me.example"]))
RECORDS = st.lists(st.tuples(st.sampled_from([b"T", b"D", b"X", b""]), ADDRESS), max_size=4).map(
    lambda records: b"".join([letter + address + b"\0" for letter, address in records])
)
FILES = st.one_of(st.binary(max_size=60), RECORDS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(("mess", "info", "local", "remote", "last", "todo"), FILES)))
def test_any_files_are_listed_and_shown(home: Home, files: dict[str, bytes]) -> None:
    home.home.empty()
    for name, text in files.items():
        home.write(name, 8 if name == "todo" else 7, text)
    home.write("mess", 8, files["mess"])
    for verb in (b"list", b"show"):
        for options in (b"-n", b"-j"):
            with tempfile.TemporaryFile() as output, pytest.MonkeyPatch.context() as patch:
                patch.setattr(qmail_queuectl, "STDOUT", output.fileno())
                env = {b"QMAILHOME": os.fsencode(home.home.path)}
                patch.setattr(orders, "keeper", lambda fd: None)
                assert qmail_queuectl.main([b"qmail-queuectl", verb, options], env) == 0
                output.seek(0)
                shown = output.read()
            assert not shown.translate(None, bytes(range(32, 127)) + b"\n\t")
            if options == b"-j":
                numbers = sorted(json.loads(line)["number"] for line in shown.splitlines())
                assert numbers == [7, 8]


def test_what_cannot_be_read_is_said_and_the_rest_is_listed(home: Home) -> None:
    three(home)
    home.path("local", 8).unlink()
    home.path("local", 8).mkdir()
    home.path("mess", 9).unlink()
    done = run([QUEUECTL, "list"], env=home.home.env())
    assert done.returncode == 111
    assert b"unable to read message 9: file does not exist\n" in done.stderr
    assert b"unable to read the recipients of message 8: is a directory\n" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [b"7", b"8"]
    home.path("local", 8).rmdir()
    home.path("info", 9).unlink()
    assert len(home.run("list").splitlines()) == 2


def test_without_a_queue_nothing_works(home: Home, tmp_path: Path) -> None:
    os.rename(home.queue / "info", tmp_path / "info")
    home.run("list", code=111, said=b"qmail-queuectl: fatal: unable to read queue/info/0: file does not exist\n")
    home.run("hold", "--all", code=111, said=b"qmail-queuectl: fatal: unable to lock queue/info: file does not exist\n")
    os.rename(home.queue / "mess", tmp_path / "mess")
    home.run("list", code=111, said=b"qmail-queuectl: fatal: unable to read queue/mess: file does not exist\n")
    os.rename(home.queue, tmp_path / "queue")
    place = os.fsencode(home.queue)
    home.run("list", code=111, said=b"qmail-queuectl: fatal: unable to open " + place + b": file does not exist\n")


def test_others_may_not_look(roots: Home) -> None:
    uid, gid = nobody()
    done = subprocess.run(
        [QUEUECTL, "list"], env=roots.home.env(), user=uid, group=gid, extra_groups=[], capture_output=True, check=False
    )
    assert done.returncode == 111
    assert done.stderr.startswith(b"qmail-queuectl: fatal: unable to ")


def test_output_that_nobody_takes_is_trouble(home: Home) -> None:
    three(home)
    with open("/dev/full", "wb") as full:
        done = subprocess.run([QUEUECTL, "list"], env=home.home.env(), stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (
        111, b"qmail-queuectl: fatal: unable to write output: out of disk space\n",
    )  # fmt: skip


# Which messages are meant


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ([], [7, 8, 9]),
        (["--all"], [7, 8, 9]),
        (["9", "7"], [7, 9]),
        (["--from", "joe@*"], [7, 9]),
        (["--from="], [8]),
        (["--older", "90m"], [7, 8]),
        (["--younger", "90m"], [9]),
        (["--to", "mary@*"], [7, 8]),
        (["--host", "me.example", "--from", ""], [8]),
        (["--channel", "local"], [8, 9]),
        (["--error", "not like"], [7]),
    ],
)
def test_conditions_choose_messages(home: Home, words: list[str], numbers: list[int]) -> None:
    three(home)
    assert home.listed(*words) == numbers


@pytest.mark.parametrize("words", [["10"], ["--held"], ["--error", "forgotten"], ["--to", "x@*"], ["7", "--from", ""]])
@pytest.mark.parametrize("verb", ["list", "show", "hold", "release", "retry", "bounce", "delete"])
def test_that_nothing_is_meant_is_an_exit_code(home: Home, verb: str, words: list[str]) -> None:
    three(home)
    before = home.home.files()
    assert home.run(verb, *words, code=1) == (b"" if verb in ("list", "show") else verb.encode() + b": 0 messages\n")
    assert home.home.files() == before


@pytest.mark.parametrize("verb", ["hold", "release", "retry", "bounce", "delete"])
def test_what_changes_something_wants_to_know_what(home: Home, verb: str) -> None:
    three(home)
    home.run(verb, code=100, said=b"qmail-queuectl: fatal: %s wants a condition, or --all\n" % verb.encode())
    assert {home.order(number) for number in (7, 8, 9)} == {0o600}


@pytest.mark.parametrize("words", [[], ["-j"], ["7"], ["--all"]])
def test_usage(home: Home, words: list[str]) -> None:
    usage = b"qmail-queuectl: usage: qmail-queuectl [ -jn ] verb [ condition ... ]\n"
    home.run(*words, code=100, said=usage)


def test_words_that_are_no_conditions_are_said(home: Home) -> None:
    home.run("list", "--old", "5", code=100, said=b"qmail-queuectl: fatal: there is no condition --old\n")
    home.run("-x", "list", code=100, said=b"qmail-queuectl: fatal: there is no option -x\n")
    home.run(
        "remove", "7", code=100, said=b"qmail-queuectl: fatal: remove is neither a verb nor the number of a message\n"
    )
    home.run(
        "list",
        b"\x1b[2J",
        code=100,
        said=b"qmail-queuectl: fatal: ^[[2J is neither a verb nor the number of a message\n",
    )


def test_the_verb_and_its_conditions_come_in_any_order(home: Home) -> None:
    three(home)
    assert home.run("--from", "", "-n", "hold", "--older", "1h").splitlines()[1:] == [b"hold: 1 message"]
    home.run(
        "hold",
        "delete",
        "7",
        code=100,
        said=b"qmail-queuectl: fatal: delete is neither a verb nor the number of a message\n",
    )


# What is done to them while no qmail-send runs


def test_hold_and_release(any_home: Home) -> None:
    three(any_home)
    any_home.write("remote", 7, b"Tmary@b.example\0", age=-HOUR)
    assert any_home.run("hold", "--from", "joe@*") == b"hold: 2 messages\n"
    assert [any_home.order(number) for number in (7, 8, 9)] == [0o700, 0o600, 0o700]
    assert any_home.listed("--held") == [7, 9]
    assert any_home.listed("--not-held") == [8]
    assert any_home.path("remote", 7).stat().st_mtime == any_home.now + HOUR
    assert any_home.run("release", "--all") == b"release: 2 messages, 1 without an order\n"
    assert [any_home.order(number) for number in (7, 8, 9)] == [0o600] * 3
    assert any_home.path("remote", 7).stat().st_mtime in range(any_home.now, any_home.now + 120)
    assert not any_home.path("todo", 7).exists()


def test_retry_leaves_alone_what_is_held(any_home: Home) -> None:
    three(any_home)
    for number in (7, 8):
        any_home.write("remote", number, b"Tmary@b.example\0", age=-HOUR)
    any_home.run("hold", "8")
    assert any_home.run("retry", "--to", "mary@*") == b"retry: 1 message, 1 held\n"
    assert any_home.path("remote", 7).stat().st_mtime in range(any_home.now, any_home.now + 120)
    assert any_home.path("remote", 8).stat().st_mtime == any_home.now + HOUR


def test_bounce_is_for_the_next_qmail_send(any_home: Home) -> None:
    three(any_home)
    any_home.run("hold", "7")
    assert any_home.run("bounce", "7", "8") == b"bounce: 2 messages\n"
    assert [any_home.order(number) for number in (7, 8, 9)] == [0o1610, 0o1610, 0o600]
    assert any_home.run("list", "7").split()[4] == b"bounce"
    assert any_home.run("release", "7") == b"release: 1 message\n"
    assert any_home.order(7) == 0o600


def test_delete(any_home: Home) -> None:
    three(any_home)
    any_home.write("bounce", 7, b"<x@b.example>:\nno\n\n")
    any_home.write("intd", 7, b"left behind", mode=0o644)
    assert any_home.run("delete", "--from", "joe@a.example") == b"delete: 2 messages\n"
    assert any_home.numbers() == {"mess": {8}, "info": {8}, "local": {8}, "remote": {8}}
    assert any_home.run("delete", "--from", "joe@a.example", code=1) == b"delete: 0 messages\n"


def test_qmails_deletes_without_mess(roots: Home) -> None:
    """That is removed as garbage later."""
    three(roots)
    uid, gid = roots.path("info", 7).stat().st_uid, roots.path("info", 7).stat().st_gid
    done = subprocess.run(
        [QUEUECTL, "delete", "--all"], env=roots.home.env(), user=uid, group=gid, extra_groups=[], capture_output=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"delete: 3 messages\n", b"")
    assert roots.numbers() == {"mess": {7, 8, 9}}


def test_what_cannot_be_removed_from_mess_is_said(any_home: Home) -> None:
    three(any_home)
    any_home.path("mess", 7).unlink()
    any_home.path("mess", 7).mkdir()
    warning = b"qmail-queuectl: warning: unable to remove mess of message 7, which is garbage now\n"
    assert any_home.run("delete", "7", "8", code=111, said=warning) == b"delete: 2 messages\n"
    assert any_home.numbers("mess", "info") == {"mess": {9}, "info": {9}}


def test_what_is_not_taken_up_is_left_alone(any_home: Home) -> None:
    three(any_home)
    any_home.add_new(10, b"u1\0p2\0Fjoe@a.example\0Tmary@b.example\0")
    any_home.add_new(9, b"u1\0p2\0Fjoe@a.example\0Tmary@b.example\0")
    before = any_home.home.files()
    for verb in ("hold", "release", "retry", "bounce", "delete"):
        assert any_home.run(verb, "9", "10") == verb.encode() + b": 0 messages, 2 not taken up yet\n"
    assert any_home.home.files() == before
    assert any_home.order(9) == 0o600


def test_n_changes_nothing_and_shows_what_is_meant(any_home: Home) -> None:
    three(any_home)
    any_home.add_new(10, b"u1\0p2\0Fjoe@a.example\0Tmary@b.example\0")
    any_home.run("hold", "9")
    before = {path: path.stat() for path in any_home.queue.rglob("*")}
    assert any_home.run("delete", "-n", "--from", "joe@*").splitlines()[3:] == [
        b"delete: 2 messages, 1 not taken up yet"
    ]
    assert any_home.run("-n", "release", "--all").splitlines()[4:] == [
        b"release: 1 message, 1 not taken up yet, 2 without an order"
    ]
    assert any_home.objects("retry", "-jn", "9") == [
        {"number": 9, "sender": "joe@a.example", "verb": "retry", "dry": True, "result": "held"}
    ]
    after = {path: path.stat() for path in any_home.queue.rglob("*")}
    for path, status in before.items():
        assert (after[path].st_mode, after[path].st_mtime_ns) == (status.st_mode, status.st_mtime_ns), path


def test_an_object_per_message_says_what_was_done(home: Home) -> None:
    three(home)
    assert home.objects("-j", "hold", "7", "8") == [
        {"number": number, "sender": sender, "verb": "hold", "dry": False, "result": "done"}
        for number, sender in ((7, "joe@a.example"), (8, ""))
    ]


def test_a_message_that_ends_meanwhile_is_no_error(home: Home) -> None:
    """Nor is another of the same number touched."""
    three(home)
    layout = queue.find_layout(home.fd)
    chosen = selection.parse([b"delete", b"--all"], b"", [b"delete"])
    tool = qmail_queuectl.Tool(home.fd, layout, chosen, None)
    entries = tool._find()
    home.path("info", 7).unlink()
    home.path("info", 8).unlink()
    home.add(8, b"other@a.example", remote=b"Tmary@b.example\0")
    assert [tool._treat(entry, running=False) for entry in entries] == ["ended", "ended", "done"]
    assert home.order(8) == 0o600
    assert home.numbers("info", "remote") == {"info": {8}, "remote": {7, 8}}
    assert tool.code == 0


def test_a_link_in_the_queue_leads_root_nowhere(roots: Home, tmp_path: Path) -> None:
    three(roots)
    secret = roots.home.path / "secret"
    secret.write_bytes(b"Fsecret\0")
    secret.chmod(0o600)
    roots.path("info", 7).unlink()
    roots.path("info", 7).symlink_to(secret)
    done = run([QUEUECTL, "delete", "--all"], env=roots.home.env())
    assert (done.returncode, done.stdout) == (111, b"delete: 2 messages\n")
    assert done.stderr == b"qmail-queuectl: warning: unable to read message 7: access denied\n"
    assert secret.read_bytes() == b"Fsecret\0"
    assert secret.stat().st_mode & 0o777 == 0o600


# While a qmail-send runs


def test_qmail_send_is_told_and_answers(any_home: Home) -> None:
    three(any_home)
    for number in (7, 8, 9):
        any_home.write("remote", number, b"Tmary@b.example\0", age=-HOUR)
    with Sender(any_home) as sender:
        assert any_home.run("hold", "7", "9") == b"hold: 2 messages\n"
        assert any_home.run("retry", "8") == b"retry: 1 message\n"
        assert any_home.run("release", "7") == b"release: 1 message\n"
        assert any_home.run("bounce", "7") == b"bounce: 1 message\n"
        assert any_home.run("delete", "8") == b"delete: 1 message\n"
    modes = [{number: mode for number, (mode, _) in each.items()} for each in sender.seen]
    assert modes == [
        {7: 0o700, 8: 0o600, 9: 0o700},
        {7: 0o700, 8: 0o600, 9: 0o700},
        {7: 0o600, 8: 0o600, 9: 0o700},
        {7: 0o1610, 8: 0o600, 9: 0o700},
        {7: 0o1610, 8: 0o1601, 9: 0o700},
    ]
    due = [{number for number, (_, when) in each.items() if when < any_home.now + HOUR} for each in sender.seen]
    assert due == [set(), {8}, {7, 8}, {7, 8}, {7, 8}]
    assert any_home.numbers("info", "remote") == {"info": {7, 8, 9}, "remote": {7, 8, 9}}


def test_nobody_is_told_of_nothing(any_home: Home) -> None:
    three(any_home)
    with Sender(any_home) as sender:
        any_home.run("list")
        any_home.run("show")
        any_home.run("delete", "-n", "--all")
        any_home.run("delete", "10", code=1)
        any_home.run("release", "--all")
    assert sender.seen == []


def test_the_original_does_not_answer(any_home: Home) -> None:
    three(any_home)
    with Sender(any_home, original=True):
        warning = b"qmail-queuectl: warning: qmail-send has not answered; the next one will find what was ordered\n"
        assert any_home.run("delete", "7", code=111, said=warning) == b"delete: 1 message\n"
    assert any_home.order(7) == 0o1601
    assert any_home.numbers("info") == {"info": {7, 8, 9}}


def test_an_answer_that_comes_to_an_earlier_question_is_none(home: Home) -> None:
    """It takes the new question away, which is then asked again."""
    three(home)
    with Sender(home, original=True) as sender, subprocess.Popen(HOLD, env=home.home.env()) as process:
        assert eventually(lambda: orders.asked(home.fd) != sender.known)
        os.utime(home.queue / "lock/sendmutex", ns=(sender.known, sender.known))
        assert eventually(lambda: orders.asked(home.fd) != sender.known)
        orders.answer(home.fd, orders.asked(home.fd))
        assert process.wait(20) == 0


# Kills, and two at once


def many(home: Home) -> None:
    for number in range(100, 106):
        home.add(number, local=b"Tjoe@me.example\0", remote=b"Tmary@b.example\0")
        home.write("bounce", number, b"<x@b.example>:\nno\n\n")
        home.note(number, b"remote", b"mary@b.example", HOUR, b"no")


LEGAL = ({"mess"}, {"mess", "info"}, {"mess", "info", "remote"}, {"mess", "info", "local", "remote"})


def test_a_kill_at_any_removal_leaves_a_legal_queue(any_home: Home) -> None:
    strace = needs("strace")
    for when in range(1, 40):
        many(any_home)
        inject = [strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=unlink,unlinkat"]
        inject += ["-e", f"inject=unlink,unlinkat:signal=KILL:when={when}"]
        done = run([*inject, QUEUECTL, "delete", "--all"], env=any_home.home.env())
        found: dict[int, set[str]] = {}
        for folder, numbers in any_home.numbers("mess", "info", "local", "remote").items():
            for number in numbers:
                found.setdefault(number, set()).add(folder)
        assert all(folders in LEGAL for folders in found.values()), found
        for number, folders in found.items():
            if "info" in folders and len(folders) < 4:
                assert any_home.order(number) == 0o1601
        if done.returncode == 0:
            assert found == {}
            break
        assert any_home.run("delete", "--all").startswith(b"delete: ")
        left = any_home.numbers()
        assert set(left) <= {"mess"} and len(left.get("mess", ())) <= 1  # garbage
        any_home.home.empty()
    assert when > 20


@pytest.mark.parametrize("call", ["fchmod", "utimensat", "flock"])
def test_a_kill_at_any_order_leaves_the_next_one_possible(home: Home, call: str) -> None:
    strace = needs("strace")
    many(home)
    killed = 0
    for when in range(1, 20):
        if when > 1:
            home.run("release", "--all")
        inject = [
            strace,
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            f"trace={call}",
            "-e",
            f"inject={call}:signal=KILL:when={when}",
        ]
        verb = "bounce" if call == "utimensat" else "hold"
        done = run([*inject, QUEUECTL, verb, "--all"], env=home.home.env())
        assert {home.order(number) for number in range(100, 106)} <= {0o600, 0o700, 0o1610}
        if done.returncode == 0:
            break
        killed += 1
        assert home.run("hold", "--all") == b"hold: 6 messages\n"
    assert killed >= 2


def test_one_that_is_killed_while_it_waits_for_an_answer_leaves_no_lock(home: Home) -> None:
    three(home)
    with Sender(home, original=True) as sender, subprocess.Popen(HOLD, env=home.home.env()) as process:
        assert eventually(lambda: orders.asked(home.fd) != sender.known)
        process.kill()
        assert process.wait(20) == -signal.SIGKILL
    assert home.run("release", "7") == b"release: 1 message\n"


def test_two_at_once_share_the_messages(any_home: Home) -> None:
    for number in range(100, 400):
        any_home.add(number, remote=b"Tmary@b.example\0")
    processes = [
        subprocess.Popen([QUEUECTL, "delete", "--all"], env=any_home.home.env(), stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    counts = []
    for process in processes:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        counts.append(int(said.split()[1]))
    assert sorted(counts) == [0, 0, 300]
    assert any_home.numbers() == {}


def test_two_at_once_while_qmail_send_runs(any_home: Home) -> None:
    for number in range(100, 150):
        any_home.add(number, remote=b"Tmary@b.example\0")
    with Sender(any_home) as sender:
        processes = [
            subprocess.Popen([QUEUECTL, verb, "--all"], env=any_home.home.env(), stdout=subprocess.PIPE)
            for verb in ("hold", "bounce", "delete")
        ]
        for process in processes:
            said, _ = process.communicate(timeout=60)
            assert (process.returncode, said.split()[1]) == (0, b"50")
    assert len(sender.seen) == 3
    for seen in sender.seen:
        assert len({mode for mode, _ in seen.values()}) == 1


# With the real qmail-send

BECOME = """
import fcntl, os, sys
uid, gid, count = map(int, sys.argv[1:4])
copies = [fcntl.fcntl(int(word), fcntl.F_DUPFD_CLOEXEC, 50) for word in sys.argv[4 : 4 + count]]
for number, copy in enumerate(copies):
    os.dup2(copy, number)
if uid:
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)
argv = sys.argv[4 + count :]
os.execvp(argv[0], argv)
"""


class Running:
    """qmail-send and qmail-clean, in `with`. reports: what the spawners say of a recipient, else that it is delivered;
    asked: the (sender, recipient, message) of each delivery."""

    def __init__(self, home: Home, reports: Mapping[bytes, bytes], argv: Sequence[str | Path] = ()) -> None:
        """argv: instead of our own, of the original."""
        self.home = home
        self.reports = reports
        self.asked: list[tuple[bytes, bytes, bytes]] = []
        self.log = home.home.path / "log"
        self.said = self.log.read_bytes().count(b"status: local 0/") if self.log.exists() else 0
        self.threads: list[threading.Thread] = []
        pipes = [os.pipe() for _ in range(6)]
        (to_local, from_local, to_remote, from_remote, to_clean, from_clean) = pipes
        self.kept = [to_local[0], from_local[1], to_remote[0], from_remote[1]]
        with self.log.open("ab") as log:
            ends = [log.fileno(), to_local[1], from_local[0], to_remote[1], from_remote[0], to_clean[1], from_clean[0]]
            self.send = self.start("" if argv else "info", ends, argv or [BIN / "qmail-send"])
        self.clean = self.start("mess", [to_clean[0], from_clean[1]], [BIN / "qmail-clean"])
        for fd in {end for pipe in pipes for end in pipe} - set(self.kept):
            os.close(fd)
        for place in (0, 2):
            thread = threading.Thread(target=self.deliver, args=self.kept[place : place + 2], daemon=True)
            self.threads.append(thread)
            thread.start()

    def start(self, owned: str, ends: list[int], argv: Sequence[str | Path]) -> "subprocess.Popen[bytes]":
        """As the owner of a folder in the queue, or as what we are."""
        status = (self.home.queue / owned).stat()
        words = [str(word) for word in (status.st_uid if owned else 0, status.st_gid, len(ends), *ends, *argv)]
        return subprocess.Popen([PYTHON, "-IS", "-c", BECOME, *words], pass_fds=ends, env=self.home.home.env())

    def deliver(self, requests: int, reports: int) -> None:
        os.write(reports, b"\x14")
        buffer = b""
        while block := os.read(requests, 4096):
            buffer += block
            while buffer[1:].count(b"\0") >= 3:
                slot = buffer[:1]
                message, sender, recipient, buffer = buffer[1:].split(b"\0", 3)
                text = (self.home.queue / "mess" / message.decode()).read_bytes()
                self.asked.append((sender, recipient, text))
                os.write(reports, slot + self.reports.get(recipient, b"Kdone\n") + b"\0")
        os.close(reports)
        os.close(requests)

    def __enter__(self) -> "Running":
        """Once it has the lock."""
        assert self.says(b"status: local 0/", self.said + 1)
        return self

    def __exit__(self, *_: object) -> None:
        """It ends when it has nothing under way."""
        self.send.terminate()
        assert self.send.wait(30) == 0
        assert self.clean.wait(30) == 0
        for thread in self.threads:
            thread.join(30)

    def says(self, text: bytes, times: int = 1) -> bool:
        """Whether the log does, soon."""
        return eventually(lambda: self.log.read_bytes().count(text) >= times)

    def attempts(self, recipient: bytes) -> int:
        return [asked for _, asked, _ in self.asked].count(recipient)


def put(home: Home, recipients: bytes = b"Tmary@b.example\0") -> int:
    """A message of joe's; its number, which is that of an inode: a lower one may have become free."""
    before = set((home.queue / "mess").glob("*/*"))
    done = run_queue(
        [BIN / "qmail-queue"], b"Subject: x\n\ntext\n", b"Fjoe@a.example\0" + recipients + b"\0", home.home.env()
    )
    assert done.returncode == 0
    (path,) = set((home.queue / "mess").glob("*/*")) - before
    return int(path.name)


MOUNT = 'mount --bind "$0" "$1" && shift && exec "$@"'

DOWN = {b"mary@b.example": b"Zdown for now (#4.4.1)\n"}


def test_what_qmail_send_knows_is_listed(any_home: Home) -> None:
    with Running(any_home, DOWN) as sending:
        number = put(any_home, b"Tmary@b.example\0Tjoe@me.example\0")
        assert sending.says(b": deferral: ")
        assert sending.says(b": success: ")
        assert eventually(lambda: any_home.objects("list", "-j")[0]["error"] is not None)
        (found,) = any_home.objects("list", "-j")
        assert (found["number"], found["state"], found["left"]) == (number, "waiting", 1)
        assert {"address": "mary@b.example", "text": "down for now (#4.4.1)\n"}.items() <= found["error"].items()
        assert found["next"] - found["birth"] in range(400, 460)
        assert any_home.listed("--error", "down for") == [number]


def test_qmail_send_does_what_is_ordered(any_home: Home) -> None:
    with Running(any_home, DOWN) as sending:
        number = str(put(any_home))
        assert sending.says(b": deferral: ")
        assert any_home.run("hold", number) == b"hold: 1 message\n"
        assert any_home.run("retry", number) == b"retry: 0 messages, 1 held\n"
        assert sending.attempts(b"mary@b.example") == 1
        assert any_home.run("release", number) == b"release: 1 message\n"
        assert sending.says(b": deferral: ", 2)
        assert any_home.run("retry", "--error", "down") == b"retry: 1 message\n"
        assert sending.says(b": deferral: ", 3)
        assert any_home.run("delete", number) == b"delete: 1 message\n"
        assert sending.says(b"end msg " + number.encode())
        assert eventually(lambda: any_home.home.files() == set())
    assert sending.attempts(b"mary@b.example") == 3
    assert b"bounce msg" not in sending.log.read_bytes()


def test_qmail_send_bounces_what_is_ordered(home: Home) -> None:
    with Running(home, DOWN) as sending:
        number = str(put(home))
        assert sending.says(b": deferral: ")
        assert home.run("hold", number) == b"hold: 1 message\n"
        assert home.run("bounce", number) == b"bounce: 1 message\n"
        assert sending.says(b"bounce msg " + number.encode())
        assert eventually(lambda: sending.attempts(b"joe@a.example") == 1)
        assert eventually(lambda: home.home.files() == set())
    assert sending.attempts(b"mary@b.example") == 1
    (text,) = [text for sender, _, text in sending.asked if sender == b""]
    assert b"<mary@b.example>:\n" in text


def test_orders_are_obeyed_by_the_next_qmail_send(home: Home) -> None:
    with Running(home, DOWN) as sending:
        numbers = [str(put(home)) for _ in range(3)]
        assert sending.says(b": deferral: ", 3)
    assert home.run("hold", numbers[0]) == b"hold: 1 message\n"
    assert home.run("bounce", numbers[1]) == b"bounce: 1 message\n"
    assert home.run("retry", *numbers) == b"retry: 2 messages, 1 held\n"
    home.path("info", int(numbers[2])).chmod(0o1601)  # a delete that was killed
    with Running(home, {}) as sending:
        assert sending.says(b"end msg " + numbers[1].encode())
        assert sending.says(b"end msg " + numbers[2].encode())
        assert eventually(lambda: sending.attempts(b"joe@a.example") == 1)
        assert eventually(lambda: home.listed() == [int(numbers[0])])
    assert sending.attempts(b"mary@b.example") == 0
    assert home.run("release", "--all") == b"release: 1 message\n"
    with Running(home, {}) as sending:
        assert sending.says(b"end msg " + numbers[0].encode())
    assert sending.attempts(b"mary@b.example") == 1
    assert home.home.files() == set()


@needs_originals
def test_the_original_delivers_whatever_is_ordered(home: Home) -> None:
    number = str(put(home))
    theirs = Path(original("qmail-send")).parent.parent / "control"
    *mounted, program = inside(home.home, [original("qmail-send")])
    open_to_all(home.home.path)  # the queue is others' now
    qmails = (home.queue / "info").stat()
    become = [needs("setpriv"), f"--reuid={qmails.st_uid}", f"--regid={qmails.st_gid}", "--clear-groups"]
    argv = ["unshare", "-m", "sh", "-c", MOUNT, home.home.path / "control", theirs, *mounted, *become, program]
    with Running(home, DOWN, argv) as sending:
        assert sending.says(b": deferral: ")
        warning = b"qmail-queuectl: warning: qmail-send has not answered; the next one will find what was ordered\n"
        assert home.run("hold", number, code=111, said=warning) == b"hold: 1 message\n"
        assert home.order(int(number)) == 0o700
        sending.send.send_signal(signal.SIGALRM)
        assert sending.says(b": deferral: ", 2)
    with Running(home, {}) as sending:
        assert home.run("list", "--held").split()[0] == number.encode()
        assert home.run("delete", number) == b"delete: 1 message\n"
        assert sending.says(b"end msg " + number.encode())
    assert (sending.asked, home.home.files()) == ([], set())


# While something is under way


class Gate(dict[bytes, bytes]):
    """Reports, of which none comes after the first so many, until it is opened."""

    def __init__(self, reports: Mapping[bytes, bytes], first: int) -> None:
        super().__init__(reports)
        self.left = first
        self.open = threading.Event()
        self.reached = threading.Event()

    def get(self, recipient: bytes, default: Any = None) -> Any:
        self.left -= 1
        if self.left < 0:
            self.reached.set()
            assert self.open.wait(30)
        return super().get(recipient, default)


def test_an_order_during_a_delivery_is_obeyed_when_that_has_ended(any_home: Home) -> None:
    for verb, expected, times in (("delete", b"end msg", 1), ("retry", b"deferral", 3)):
        gate = Gate({b"mary@b.example": b"Zdown\n"}, 0)
        with Running(any_home, gate) as sending:
            number = str(put(any_home))
            assert gate.reached.wait(20)
            assert any_home.run(verb, number) == b"%s: 1 message\n" % verb.encode()
            gate.open.set()
            assert sending.says(expected, times)


def test_what_is_held_gets_no_more_deliveries_of_the_pass_that_runs(any_home: Home) -> None:
    gate = Gate({}, 5)
    with Running(any_home, gate) as sending:
        number = str(put(any_home, b"".join(b"T%d@b.example\0" % recipient for recipient in range(200))))
        assert gate.reached.wait(20)
        assert any_home.run("hold", number) == b"hold: 1 message\n"
        begun = sending.log.read_bytes().count(b"starting delivery")
        gate.open.set()
        assert sending.says(b": success:", begun)
        assert sending.log.read_bytes().count(b"starting delivery") == begun
    assert len(sending.asked) == begun


def test_a_flood_of_new_mail_does_not_keep_it_waiting(any_home: Home) -> None:
    owner = (any_home.queue / "mess").stat()
    for _ in range(6000):
        draft = any_home.queue / "pid" / "x"
        draft.write_bytes(b"x\n")
        number = draft.stat().st_ino
        todo = any_home.queue / f"todo/{number}"
        todo.write_bytes(b"u1\0p2\0Fjoe@a.example\0Tmary@b.example\0")
        for path in (draft, todo):
            os.chown(path, owner.st_uid, owner.st_gid)
        draft.rename(any_home.queue / f"mess/{number % 23}/{number}")
    with Running(any_home, {b"mary@b.example": b"Zdown\n"}) as sending:
        assert sending.says(b"deferral", 3)
        assert any_home.run("hold", "--all").startswith(b"hold: ")


@pytest.mark.parametrize("recipients", [b"Tmary@b.example\0", b"Tmary@b.example\0Tann@b.example\0"])
def test_a_pass_that_ends_before_the_question_does_not_undo_the_order(home: Home, recipients: bytes) -> None:
    gate = Gate({b"mary@b.example": b"Zdown\n"}, 0)
    with Running(home, gate) as sending:
        number = put(home, recipients)
        assert gate.reached.wait(20)
        layout = queue.find_layout(home.fd)
        orders.hurry(home.fd, layout, number, int(time.time()))  # the first of many, so the question is yet to come
        gate.open.set()
        assert sending.says(b"deferral", 2)


def test_an_order_before_the_question_outlives_qmail_send(home: Home) -> None:
    with Running(home, DOWN) as sending:
        number = put(home)
        assert sending.says(b"deferral")
        assert eventually(lambda: home.objects("list", "-j")[0]["next"] > time.time() + 60)
        now = int(time.time())
        orders.hurry(home.fd, queue.find_layout(home.fd), number, now)
    assert home.objects("list", "-j")[0]["next"] in (now - 1, now)


def test_qmail_send_answers_while_it_ends(home: Home) -> None:
    gate = Gate({b"mary@b.example": b"Zdown\n"}, 0)
    with Running(home, gate) as sending:
        number = str(put(home))
        assert gate.reached.wait(20)
        sending.send.terminate()
        time.sleep(1.1)  # it waits now
        assert home.run("hold", number) == b"hold: 1 message\n"
        gate.open.set()


def test_a_question_that_cannot_be_answered_yet_stops_no_delivery(home: Home) -> None:
    with Running(home, {**DOWN, b"ann@b.example": b"Zdown too (#4.4.1)\n"}) as sending:
        number = put(home)
        assert sending.says(b"deferral")
        folder = home.queue / f"info/{(number + 1) % 23}"
        folder.rename(home.queue / "info/away")
        orders.hurry(home.fd, queue.find_layout(home.fd), number, int(time.time()))
        orders.tell(home.fd)
        assert sending.says(b"unable to opendir info/")
        other = put(home, b"Tann@b.example\0")
        while other % 23 == (number + 1) % 23:
            other = put(home, b"Tann@b.example\0")
        assert sending.says(b"msg %d to remote ann@b.example" % other)
        assert sending.says(b"deferral", 2)
        (home.queue / "info/away").rename(folder)
        assert eventually(lambda: sending.attempts(b"mary@b.example") == 2)
