"""qmail-lspawn: whose mail a delivery is, as whom it is made, and what is reported; as the original, with whose parts
its own can be mixed."""

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.chain import Exec
from qmailpy.commands import qmail_lspawn
from qmailpy.formats.spawning import Request
from qmailpy.loops import workers
from tests.helpers import BIN, ROOT, eventually, run
from tests.queuehomes import BOTH, ORIGINALS, QueueHome, needs_originals, queue_home
from tests.spawners import ALIAS, HELLO, OTHER, UID, Sender, World, put, world

__all__ = ["queue_home", "world"]

OURS = BIN / "qmail-lspawn"
MAILBOX = "./Mailbox"

# What a delivery was given: ids, groups, folder; then the arguments, each on a line; then the message.
WITNESS = """
echo "$(id -u) $(id -g) $(id -G) $(pwd)"
for word; do echo "<$word>"; done
cat
"""

JOE = f"=joe.shmoe:joe:{UID}:{UID + 1}:/home/joe:-:shmoe:"


def lspawn(world: World, which: str, **env: str) -> Sender:
    return Sender(world.program(which, "qmail-lspawn", MAILBOX), world.env(**env))


def delivered(world: World, which: str, recipient: bytes) -> list[str]:
    """What qmail-local was given, first the ids."""
    world.replace("qmail-local", WITNESS)
    with lspawn(world, which) as sender:
        text = sender.deliver(put(world.home), recipient)
    assert text.endswith(b"Subject: one\n\nbody\n"), text
    assert text.startswith(b"K")
    return text[1:].decode().split("\n")


def words(lines: list[str]) -> list[str]:
    return [line[1:-1] for line in lines if line.startswith("<")]


@BOTH
def test_users_cdb_says_whose_mail_it_is_and_the_child_is_that_user_with_one_group(which: str, world: World) -> None:
    world.assign(JOE)
    got = delivered(world, which, b"Joe.Shmoe@a.example")
    home = world.home.path if which == "ours" else world.theirs
    assert got[0] == f"{UID} {UID + 1} {UID + 1} {home}"
    assert words(got) == ["--", "joe", "/home/joe", "Joe.Shmoe", "-", "shmoe", "a.example", "from@a.example", MAILBOX]


@BOTH
@pytest.mark.parametrize(
    ("local", "name", "ext"),
    [
        ("joe", "joe", ""),
        ("joe-Ext-2", "joe", "pre-Ext-2"),
        ("JOE-smith-x", "jsmith", "x"),
        ("joe-smith", "joe", "pre-smith"),
        ("other", "nobody", "other"),
        ("Other", "nobody", "Other"),
        ("", "", ""),
    ],
)
def test_the_longest_prefix_counts_and_the_rest_keeps_its_case(
    which: str, world: World, local: str, name: str, ext: str
) -> None:
    world.assign(
        f"=joe:joe:{UID}:{UID}:/home/joe:::",
        f"+joe-:joe:{UID}:{UID}:/home/joe:-:pre-:",
        f"+joe-smith-:jsmith:{UID}:{UID}:/home/joe:-::",
        f"+:nobody:{OTHER}:{OTHER}:/home/alias:-::",
    )
    if not local:
        with lspawn(world, which) as sender:
            assert sender.deliver(put(world.home), b"@a.example") == b"K"
        return
    got = words(delivered(world, which, f"{local}@a.example".encode()))
    assert (got[1], got[3], got[5]) == (name, local, ext)


@BOTH
@pytest.mark.parametrize(
    ("local", "name", "dash", "ext"),
    [
        ("joe", "joe", "", ""),
        ("JOE", "joe", "", ""),
        ("joe-Ext", "joe", "-", "Ext"),
        ("joe-", "joe", "-", ""),
        ("joe-smith", "joe-smith", "", ""),
        ("joe-smith-a-b", "joe-smith", "-", "a-b"),
        ("homeless", "alias", "-", "homeless"),
        ("elsewhere", "alias", "-", "elsewhere"),
        ("toor", "alias", "-", "toor"),
        ("-joe", "alias", "-", "-joe"),
        ("x" * 31, "x" * 31, "", ""),
        ("y" * 32, "alias", "-", "y" * 32),
    ],
)
def test_accounts_are_those_with_homes_of_their_own_and_all_else_is_alias(
    which: str, world: World, local: str, name: str, dash: str, ext: str
) -> None:
    got = words(delivered(world, which, f"{local}@a.example".encode()))
    assert (got[1].replace(ALIAS, "alias"), got[3], got[4], got[5]) == (name, local, dash, ext)


@BOTH
def test_what_users_cdb_does_not_know_is_looked_up_among_accounts(which: str, world: World) -> None:
    world.assign(JOE)
    assert words(delivered(world, which, b"joe@a.example"))[:3] == ["--", "joe", str(world.joe)]


@BOTH
def test_the_last_at_sign_ends_the_local_part(which: str, world: World) -> None:
    got = words(delivered(world, which, b"joe-a@b@c.example"))
    assert (got[3], got[5], got[6]) == ("joe-a@b", "a@b", "c.example")


@BOTH
def test_a_message_gets_into_a_mailbox(which: str, world: World) -> None:
    with lspawn(world, which) as sender:
        assert sender.hello == HELLO
        assert sender.deliver(put(world.home), b"joe@a.example") == b"Kdid 1+0+0\n"
        assert sender.deliver(put(world.home), b"joe-x@a.example") == (
            b"DSorry, no mailbox here by that name. (#5.1.1)\n"
        )
    text = (world.joe / "Mailbox").read_bytes()
    assert text.endswith(b"Return-Path: <from@a.example>\nDelivered-To: joe@a.example\nSubject: one\n\nbody\n\n")
    assert (world.joe / "Mailbox").stat().st_uid == UID


@needs_originals
@BOTH
def test_the_qmail_local_of_the_other_side_does_the_same(which: str, world: World) -> None:
    world.use_other(which, "qmail-local")
    with lspawn(world, which) as sender:
        assert sender.deliver(put(world.home), b"joe@a.example") == b"Kdid 1+0+0\n"
    assert (world.joe / "Mailbox").read_bytes().count(b"Subject: one\n") == 1


@needs_originals
@BOTH
def test_the_qmail_getpw_of_the_other_side_does_the_same(which: str, world: World) -> None:
    world.use_other(which, "qmail-getpw")
    assert words(delivered(world, which, b"joe-x@a.example"))[:3] == ["--", "joe", str(world.joe)]


@BOTH
def test_an_administrators_own_qmail_getpw_runs_as_qmailp(which: str, world: World) -> None:
    world.replace("qmail-getpw", f"printf '%s\\000' joe {UID} {UID} /home/joe - $1,$(id -u),$(id -g)")
    assert words(delivered(world, which, b"anybody@a.example"))[5] == "anybody,3,65534"


@BOTH
@pytest.mark.parametrize(
    ("does", "report"),
    [
        ("exit 115", b"ZNFS failure in qmail-local.\n"),
        ("exit 116", b"ZUnable to find alias user!\n"),
        ("exit 111", b"Z"),
        ("exit 100", b"D"),
        ("kill -9 $$", b"ZTemporary failure in qmail-lspawn.\n"),
        ("printf '%s\\000' joe 1", b"ZInternal qmail-lspawn bug.\n"),
        ("printf '%s\\000' joe 1 1 / -; printf x", b"ZInternal qmail-lspawn bug.\n"),
        ("printf '%s\\000' joe 0 1 / - x", b"ZNot allowed to perform deliveries as root.\n"),
    ],
)
def test_trouble_of_a_qmail_getpw_is_told_apart(which: str, world: World, does: str, report: bytes) -> None:
    world.replace("qmail-getpw", does)
    with lspawn(world, which) as sender:
        assert sender.deliver(put(world.home), b"anybody@a.example") == report


def test_without_a_program_qmail_getpw_anywhere_that_is_said(world: World) -> None:
    (world.home.path / "bin" / "qmail-getpw").mkdir()
    with lspawn(world, "ours") as sender:
        assert sender.deliver(put(world.home), b"joe@a.example") == b"ZUnable to run qmail-getpw.\n"


@BOTH
@pytest.mark.parametrize("text", [b"", b"no cdb", bytes(2048)])
def test_a_broken_users_cdb_defers_everything(which: str, world: World, text: bytes) -> None:
    (world.home.path / "users" / "cdb").write_bytes(text)
    with lspawn(world, which) as sender:
        assert sender.deliver(put(world.home), b"joe@a.example") == b"ZTrouble reading users/cdb in qmail-lspawn.\n"


@BOTH
@pytest.mark.parametrize("uid", ["0", "", "x", "00"])
def test_nothing_is_delivered_as_root(which: str, world: World, uid: str) -> None:
    world.replace("qmail-local", WITNESS)
    world.assign(f"=joe:joe:{uid}:{UID}:/home/joe:::")
    with lspawn(world, which) as sender:
        assert sender.deliver(put(world.home), b"joe@a.example") == b"ZNot allowed to perform deliveries as root.\n"


@pytest.mark.parametrize(("uid", "gid"), [("4294967296", "1"), ("4294967295", "1"), ("1", ""), ("1", "4294967296")])
def test_a_number_that_is_none_defers(world: World, uid: str, gid: str) -> None:
    """The original takes 2**32 for 0, and no gid for root's."""
    world.assign(f"=joe:joe:{uid}:{gid}:/home/joe:::")
    with lspawn(world, "ours") as sender:
        assert sender.deliver(put(world.home), b"joe@a.example") == b"ZInternal qmail-lspawn bug.\n"


@BOTH
@pytest.mark.parametrize(
    ("does", "report"),
    [
        ("echo text", b"Ktext\n"),
        ("exit 0", b"K"),
        ("echo no; exit 100", b"Dno\n"),
        ("echo later; exit 111", b"Zlater\n"),
        ("echo later; exit 71", b"Zlater\n"),
        ("echo later; exit 74", b"Zlater\n"),
        ("echo later; exit 75", b"Zlater\n"),
        ("echo no; exit 99", b"Dno\n"),
        ("echo x; exit 112", b"ZInternal qmail-lspawn bug.\n"),
        ("echo x; exit 115", b"ZNFS failure in qmail-local.\n"),
        ("echo x; exit 117", b"ZTrouble reading users/cdb in qmail-lspawn.\n"),
        ("kill -9 $$", b"Zqmail-local crashed.\n"),
        ("echo error >&2; exit 111", b"Zerror\n"),
        ("printf 'a\\000b'", b"Ka"),
        ("head -c 3000 /dev/zero | tr '\\000' x", b"K" + b"x" * 3000),
        ("head -c 3001 /dev/zero | tr '\\000' x", b"K" + b"x" * 2966 + b"\nError report too long, sorry.\n"),
        ("head -c 9984 /dev/zero | tr '\\000' x", b"K" + b"x" * 2966 + b"\nError report too long, sorry.\n"),
    ],
)
def test_reports(which: str, world: World, does: str, report: bytes) -> None:
    world.replace("qmail-local", does)
    with lspawn(world, which) as sender:
        assert sender.deliver(put(world.home), b"joe@a.example") == report


@pytest.mark.parametrize(
    ("text", "mode"), [(b"\0no program", 0o755), (b"#!/bin/sh\n", 0o700), (b"#!/nowhere/python3\n", 0o755)]
)
def test_a_qmail_local_that_cannot_be_run_defers(world: World, text: bytes, mode: int) -> None:
    """An original gives all mail back to its senders then."""
    world.replace("qmail-local", "")
    (world.home.path / "bin" / "qmail-local").write_bytes(text)
    (world.home.path / "bin" / "qmail-local").chmod(mode)
    with lspawn(world, "ours") as sender:
        assert sender.deliver(put(world.home), b"joe@a.example") == b"ZUnable to run qmail-local.\n"


@pytest.mark.parametrize("code", [1, 2, 126, 127])
def test_a_qmail_local_that_does_not_come_to_start_defers(world: World, code: int) -> None:
    """So do Python in the middle of an upgrade, and a loader without memory: originals bounce."""
    world.replace("qmail-local", f"echo trouble; exit {code}")
    with lspawn(world, "ours") as sender:
        assert sender.deliver(put(world.home), b"joe@a.example") == b"Ztrouble\n"


def test_without_a_qmail_local_anywhere_all_is_deferred(world: World) -> None:
    world.assign(JOE.replace("=joe.shmoe:", "=joe:"))
    with lspawn(world, "ours", PATH="/usr/bin:/bin") as sender:
        assert sender.deliver(put(world.home), b"joe@a.example") == b"ZUnable to run qmail-local.\n"


def test_a_child_holds_nothing_but_the_message_and_the_report(world: World) -> None:
    world.replace("qmail-local", "ls /proc/self/fd; cat /proc/self/status")
    with lspawn(world, "ours") as sender:
        for _ in range(2):
            text = sender.deliver(put(world.home), b"joe@a.example").decode()
            assert text.split()[:4] == ["K0", "1", "2", "3"], text  # 3 is the listing's
            masks = dict(line.split(":\t") for line in text.splitlines() if line[:4] in ("SigB", "SigI", "SigC"))
            programs = (1 << 31) - 1  # the C library has the signals above for itself
            found = {name: int(mask, 16) & programs for name, mask in masks.items()}
            assert found == {"SigBlk": 0, "SigIgn": 1 << signal.SIGPIPE - 1, "SigCgt": 0}  # as in C


def test_a_message_is_read_only_and_a_user_finds_no_way_to_root(world: World) -> None:
    world.replace("qmail-local", 'grep -E "^(Uid|Gid|Groups)" /proc/self/status; grep flags /proc/self/fdinfo/0')
    with lspawn(world, "ours") as sender:
        text = sender.deliver(put(world.home), b"joe@a.example").decode()
    fields = dict(line.split(":", 1) for line in text[1:].splitlines())
    assert [fields[name].split() for name in ("Uid", "Gid", "Groups")] == [[str(UID)] * 4, [str(UID)] * 4, [str(UID)]]
    assert int(fields["flags"], 8) & os.O_ACCMODE == os.O_RDONLY


def test_a_warm_qmail_local_is_not_root_either(world: World) -> None:
    (world.joe / ".qmail").write_text("|grep -E '^(Uid|Gid|Groups)' /proc/self/status; ls /proc/self/fd\n")
    os.chown(world.joe / ".qmail", UID, UID)
    with lspawn(world, "ours") as sender:
        lines = sender.deliver(put(world.home), b"joe@a.example").decode()[1:].splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    assert [fields[name].split() for name in ("Uid", "Gid", "Groups")] == [[str(UID)] * 4, [str(UID)] * 4, [str(UID)]]
    assert lines[-5:] == ["0", "1", "2", "3", "did 0+0+1"]


# One process for more than one delivery.

WHO = "|echo $(id -u) $(id -g) $(id -G) $PPID\n"  # ids, and the process of qmail-local


def ask_who(world: World, *folders: Path) -> None:
    for folder in folders:
        for name in (".qmail", ".qmail-default"):
            (folder / name).write_text(WHO)


def who(sender: Sender, message: bytes, local: bytes) -> tuple[list[int], int]:
    text = sender.deliver(message, local + b"@a.example")
    assert text.startswith(b"K"), text
    *found, pid = map(int, text[1:].split(b"\n")[0].split())
    return found, pid


def test_more_mail_for_a_user_is_delivered_by_the_same_process_and_nobody_elses(world: World) -> None:
    ask_who(world, world.joe, world.folder / "other")
    with lspawn(world, "ours") as sender:
        message = put(world.home)
        first, again = who(sender, message, b"joe"), who(sender, message, b"joe")
        other, other_again = who(sender, message, b"joe-smith"), who(sender, message, b"joe-smith")
        last = who(sender, message, b"joe")
    assert (first[0], other[0]) == ([UID] * 3, [OTHER] * 3)
    assert first == again == last
    assert other == other_again
    assert first[1] != other[1]


def test_a_group_is_another_process_too(world: World) -> None:
    ask_who(world, world.joe)
    world.assign(f"=a:joe:{UID}:{UID}:{world.joe}:::", f"=b:joe:{UID}:{OTHER}:{world.joe}:::")
    with lspawn(world, "ours") as sender:
        found = [who(sender, put(world.home), local) for local in (b"a", b"b", b"a", b"b")]
    assert [ids for ids, _ in found] == [[UID] * 3, [UID, OTHER, OTHER]] * 2
    assert (found[0], found[1]) == (found[2], found[3])
    assert found[0][1] != found[1][1]


def test_all_names_of_a_user_share_a_process_if_users_cdb_has_them(world: World) -> None:
    ask_who(world, world.joe)
    world.assign(f"+list-:joe:{UID}:{UID}:{world.joe}:-::")
    with lspawn(world, "ours") as sender:
        found = [who(sender, put(world.home), b"list-%d" % number) for number in range(9)]
    assert found == found[:1] * 9


def test_a_change_of_users_cdb_counts_at_once(world: World) -> None:
    ask_who(world, world.joe, world.folder / "other")
    with lspawn(world, "ours") as sender:
        message = put(world.home)
        before = who(sender, message, b"joe")
        world.assign(f"=joe:other:{OTHER}:{OTHER}:{world.folder}/other:::")
        after = who(sender, message, b"joe")
        (world.home.path / "users" / "cdb").write_bytes(b"")
        broken = sender.deliver(message, b"joe@a.example")
        (world.home.path / "users" / "cdb").unlink()
        again = who(sender, message, b"joe")
    assert (before[0], after[0], again[0]) == ([UID] * 3, [OTHER] * 3, [UID] * 3)
    assert broken == b"ZTrouble reading users/cdb in qmail-lspawn.\n"


def test_another_qmail_local_is_used_at_once(world: World) -> None:
    ask_who(world, world.joe)
    with lspawn(world, "ours") as sender:
        message = put(world.home)
        who(sender, message, b"joe")
        world.replace("qmail-local", "echo other; exit 1")
        assert sender.deliver(message, b"joe@a.example") == b"Zother\n"
        (world.home.path / "bin" / "qmail-local").unlink()
        assert who(sender, message, b"joe")[0] == [UID] * 3


def test_files_of_one_process_have_different_names_in_a_maildir(world: World) -> None:
    for name in ("", "tmp", "new", "cur"):
        (world.joe / "Maildir" / name).mkdir()
        os.chown(world.joe / "Maildir" / name, UID, UID)
    with Sender(world.program("ours", "qmail-lspawn", "./Maildir/"), world.env()) as sender:
        for number in range(1, 6):
            text = b"Subject: %d\n\nbody\n" % number
            assert sender.deliver(put(world.home, number, text), b"joe@a.example") == b"Kdid 1+0+0\n"
    files = list((world.joe / "Maildir" / "new").iterdir())
    assert len({path.name.split(".")[1].partition("_")[0] for path in files}) == 1
    assert {path.read_bytes().split(b"Subject: ")[1][:1] for path in files} == set(b"1 2 3 4 5".split())
    assert list((world.joe / "Maildir" / "tmp").iterdir()) == []


def without_time(said: bytes) -> bytes:
    """A second may have passed."""
    found, count = re.subn(rb"(\nUFLINE=From \S+ )\w{3} \w{3} [ \d]\d [\d:]{8} \d{4}\n", rb"\1\n", said)
    assert count == 1
    return found


def test_nothing_of_a_delivery_is_found_by_the_next(world: World) -> None:
    """Neither folder, environment, descriptors, masks nor what was said."""
    ask_who(world, world.joe)
    show = "|pwd; env | grep -v ^_= | sort; ls /proc/self/fd; umask; grep ^Sig /proc/self/status; cat\n"
    (world.joe / ".qmail").write_text(show)
    world.assign(
        f"=joe:joe:{UID}:{UID}:{world.joe}:::", f"+joe-:joe:{UID}:{UID}:{world.joe}:-::",
        f"=far:far:{UID}:{UID}:{world.folder}:-:x:",
    )  # fmt: skip
    (world.joe / ".qmail-bounce").write_text("|exec 3</dev/null; echo away; umask 0; exit 100\n")
    (world.joe / ".qmail-default").write_text("|export X=1; trap '' HUP; cd /; exit 111\n")
    with lspawn(world, "ours") as sender:
        message = put(world.home)
        first = without_time(sender.deliver(message, b"joe@a.example"))
        assert sender.deliver(message, b"joe-bounce@b.example", b"another@a.example") == b"Daway\n"
        assert sender.deliver(message, b"joe-x-y@b.example", b"") == b"Z"
        sender.deliver(message, b"far@b.example")
        assert without_time(sender.deliver(message, b"joe@a.example")) == first


def test_all_names_of_an_account_share_a_process(world: World) -> None:
    ask_who(world, world.joe)
    with lspawn(world, "ours") as sender:
        found = [who(sender, put(world.home), b"joe-%d" % number) for number in range(9)]
    assert found[-3:] == found[:1] * 3  # if the machine is slow, some of those between have one of their own


def test_an_account_that_has_become_another_users_is_so_at_once(world: World) -> None:
    ask_who(world, world.joe, world.folder / "other")
    passwd = world.folder / "passwd"
    with lspawn(world, "ours") as sender:
        message = put(world.home)
        before = [who(sender, message, b"joe") for _ in range(3)]
        lines = passwd.read_text().splitlines(True)
        others = f"joe:x:{OTHER}:{OTHER}::{world.folder}/other:/bin/sh\n"
        passwd.write_text("".join(others if line.startswith("joe:") else line for line in lines))
        after = [who(sender, message, b"joe") for _ in range(3)]
    assert [ids for ids, _ in before + after] == [[UID] * 3] * 3 + [[OTHER] * 3] * 3


@given(data=st.one_of(st.binary(max_size=60), st.lists(st.sampled_from([b"0", b"12345", b"x", b""])).map(b"\0".join)))
def test_no_process_goes_on_for_root_or_for_nobody(data: bytes) -> None:
    deliveries = qmail_lspawn.Deliveries(b"/nowhere", {}, b"./Mailbox")
    kind = deliveries.kind(Request(0, b"", b"", b"a@b"), data)
    if kind is not None:
        assert data.count(b"\0") >= 5
        assert kind == tuple(int(word) for word in data.split(b"\0")[1:3])
        assert kind != (0, 0)


@pytest.mark.parametrize("uid", [UID, OTHER])
def test_what_a_child_has_found_is_said_before_it_is_its_users(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    """Where the system lets users trace such a process (fs.suid_dumpable), they would say it. If it cannot be the user,
    it does not wait for more."""
    steps: list[object] = []

    class Seat(workers.Seat):
        def found(self, text: bytes) -> None:
            steps.append(text)
            self._ready = True

    def drop(*ids: int) -> None:
        steps.append(ids)
        if uid == OTHER:
            raise PermissionError

    monkeypatch.setattr("qmailpy.unix.ids.drop", drop)
    monkeypatch.setattr("qmailpy.loops.spawner.attach", lambda *numbers: None)
    deliveries = qmail_lspawn.Deliveries(os.fsencode(ROOT), {}, b"./Mailbox")
    deliveries.uid = 0
    data = b"joe\0%d\0%d\0/\0\0" % (uid, UID)
    ours, theirs = workers.pair()
    assert ours is not None
    seat = Seat(theirs)
    monkeypatch.chdir("/")
    code = deliveries.child(seat, Request(0, b"", b"", b"joe@a"), data, 0, 1)
    assert steps == [data, (uid, UID)]
    if uid == OTHER:
        assert seat.next(112) == code == 112
    else:
        assert isinstance(code, Exec)


HOSTILE = st.lists(
    st.sampled_from(
        [b"joe", b"-", b"..", b"/", b"@", b"\n", b" ", b"'", b"\xff", b"%s", b"|", b"$(id)", b"JOE", b"x" * 40]
    ),
    min_size=1,
    max_size=9,
).map(b"".join)


if ORIGINALS:

    @settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(locals_=st.lists(HOSTILE, min_size=1, max_size=12), assigned=st.booleans())
    def test_any_recipient_is_delivered_as_by_the_original(world: World, locals_: list[bytes], assigned: bool) -> None:
        world.replace("qmail-local", WITNESS.replace("$(pwd)", "").replace(" $(id -G)", ""))
        (world.home.path / "users" / "cdb").unlink(missing_ok=True)
        if assigned:
            world.assign(f"+joe-:j:{UID}:{UID}:/home/joe:-:p:", f"+jOe:J:{OTHER}:1:/:::", f"+%s:n:{OTHER}:2:/:-:q:")
        told = []
        for which in ("ours", "the original"):
            with lspawn(world, which) as sender:
                message = put(world.home)
                told.append([sender.deliver(message, local + b"@host") for local in locals_])
        assert told[0] == [text.replace(ALIAS.encode(), b"alias") for text in told[1]]


def test_a_child_that_cannot_take_its_next_delivery_has_not_made_it(world: World) -> None:
    """Its user may do much to it while it waits, as here: it gets no descriptor any more."""
    world.assign(f"=joe:joe:{UID}:{UID}:{world.joe}:::")
    done = world.folder / "done"
    (world.joe / ".qmail").write_text("|echo $PPID\n")
    with lspawn(world, "ours") as sender:
        said = sender.deliver(put(world.home), b"joe@a.example")
        pid = int(said[1:].split()[0])
        limit = ["prlimit", f"--pid={pid}", "--nofile=0:0"]
        subprocess.run(limit, user=UID, group=UID, extra_groups=[], check=True)
        (world.joe / ".qmail").write_text(f"|echo > {done}\n")
        assert sender.deliver(put(world.home, 25), b"joe@a.example") == b"Z"


@pytest.mark.parametrize("which", ["ours"])
def test_two_byte_numbers_where_the_control_file_asks_for_them(which: str, world: World) -> None:
    world.home.control(concurrencylocal="300")
    with Sender(world.program(which, "qmail-lspawn", MAILBOX), world.env(), hello=2) as sender:
        assert sender.hello == (300).to_bytes(2, "little")
        message = put(world.home)
        assert sender.deliver(message, b"joe@a.example", number=299) == b"Kdid 1+0+0\n"
        assert sender.deliver(message, b"joe@a.example", number=0) == b"Kdid 1+0+0\n"
        assert sender.deliver(message, b"joe@a.example", number=300) == b"ZInternal error: delnum too big. (#4.3.5)\n"


def test_without_an_argument_or_a_queue_it_does_not_start(queue_home: QueueHome, tmp_path: Path) -> None:
    done = run([OURS], env=queue_home.env())
    assert (done.returncode, done.stderr) == (100, b"qmail-lspawn: usage: qmail-lspawn defaultdelivery\n")
    (queue_home.queue / "mess").rename(tmp_path / "mess")
    done = run([OURS, MAILBOX], env=queue_home.env())
    text = f"qmail-lspawn: fatal: unable to switch to {queue_home.path}/queue/mess: file does not exist\n"
    assert (done.returncode, done.stdout, done.stderr) == (111, b"", text.encode())


def test_a_control_file_that_cannot_be_read_keeps_it_from_starting(queue_home: QueueHome) -> None:
    (queue_home.path / "control" / "concurrencylocal").mkdir()
    done = run([OURS, MAILBOX], env=queue_home.env())
    wanted = b"qmail-lspawn: fatal: unable to read control/concurrencylocal: is a directory\n"
    assert (done.returncode, done.stderr) == (111, wanted)


# A home of one user, without root.


class Single:
    """The home of uid OTHER."""

    def __init__(self, world: World) -> None:
        self.world = world
        for path in (world.home.path, *world.home.path.rglob("*")):
            os.chown(path, OTHER, OTHER, follow_symlinks=False)

    def lspawn(self) -> Sender:
        become = ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups"]
        return Sender(self.world.inside(*become, OURS, MAILBOX), self.world.env())


@pytest.fixture
def single(world: World) -> Single:
    return Single(world)


def test_without_root_it_delivers_to_its_own_user(single: Single) -> None:
    with single.lspawn() as sender:
        message = put(single.world.home)
        assert sender.deliver(message, b"joe-smith@a.example") == b"Kdid 1+0+0\n"
    assert (single.world.folder / "other" / "Mailbox").stat().st_uid == OTHER


def test_without_root_mail_of_others_is_deferred(single: Single) -> None:
    with single.lspawn() as sender:
        text = sender.deliver(put(single.world.home), b"joe@a.example")
    assert text == f"ZNot allowed to deliver to uid {UID}: qmail-lspawn runs as uid {OTHER}.\n".encode()


def test_without_root_or_an_account_alias_the_home_has_one(single: Single) -> None:
    passwd = single.world.folder / "passwd"
    passwd.write_text("".join(line for line in passwd.read_text().splitlines(True) if not line.startswith("alias:")))
    alias = single.world.home.path / "alias"
    (alias / ".qmail-default").write_text("./all\n")
    os.chown(alias / ".qmail-default", OTHER, OTHER)
    with single.lspawn() as sender:
        assert sender.deliver(put(single.world.home), b"anybody@a.example") == b"Kdid 1+0+0\n"
    assert stat.S_IMODE((alias / "all").stat().st_mode) == 0o600
    os.chown(alias, UID, UID)
    with single.lspawn() as sender:
        assert sender.deliver(put(single.world.home), b"anybody@a.example") == b"ZUnable to find alias user!\n"


def made_fifo(world: World) -> Path:
    """A child that reads it waits until it is opened for writing, and then until it is closed."""
    fifo = world.folder / "fifo"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    return fifo


@BOTH
def test_a_background_process_with_the_report_open_keeps_the_slot(which: str, world: World) -> None:
    fifo = made_fifo(world)
    world.replace("qmail-local", f"echo first; (read line < {fifo}; echo second) & exit 0")
    with lspawn(world, which) as sender:
        message = put(world.home)
        sender.ask(3, message, b"joe@a.example")
        with open(fifo, "wb"):  # opened once the child's child reads
            world.replace("qmail-local", "exit 0")
            assert sender.deliver(message, b"joe@a.example", number=4) == b"K"
            sender.ask(3, message, b"joe@a.example")
            assert sender.report() == (3, b"ZInternal error: delnum in use. (#4.3.5)\n")
        assert sender.report() == (3, b"Kfirst\nsecond\n")


@BOTH
def test_a_child_that_has_closed_its_output_is_waited_for(which: str, world: World) -> None:
    fifo = made_fifo(world)
    world.replace("qmail-local", f"echo text; exec >&- 2>&-; read line < {fifo}; exit 111")
    with lspawn(world, which) as sender:
        sender.ask(0, put(world.home), b"joe@a.example")
        with open(fifo, "wb"):
            world.replace("qmail-local", "exit 0")
            assert sender.deliver(put(world.home), b"joe@a.example", number=1) == b"K"
        assert sender.report() == (0, b"Ztext\n")


def test_deliveries_end_after_the_requests_have_ended(world: World) -> None:
    fifo = made_fifo(world)
    world.replace("qmail-local", f"read line < {fifo}; echo late")
    with lspawn(world, "ours") as sender:
        sender.ask(7, put(world.home), b"joe@a.example")
        with open(fifo, "wb"):
            sender.to.close()
        assert sender.report() == (7, b"Klate\n")


def test_deliveries_go_on_when_nobody_reads_reports(world: World) -> None:
    fifo = made_fifo(world)
    world.replace("qmail-local", f"read line < {fifo}; echo x; touch {world.joe}/done")
    sender = lspawn(world, "ours")
    sender.ask(0, put(world.home), b"joe@a.example")
    with open(fifo, "wb"):
        sender.to.close()
        sender.back.close()
    assert sender.process.wait(20) == 0
    assert (world.joe / "done").exists()
    assert sender.process.stderr is not None
    sender.process.stderr.close()


def test_it_starts_with_descriptors_closed(world: World) -> None:
    """As the original qmail-start has it."""
    program = ["sh", "-c", 'exec "$@" 2>&- 3>&- 4>&-', "sh", str(OURS), MAILBOX]
    with Sender(world.inside(*program), world.env()) as sender:
        assert sender.deliver(put(world.home), b"joe@a.example") == b"Kdid 1+0+0\n"


def test_killed_it_leaves_deliveries_alone(world: World) -> None:
    fifo = made_fifo(world)
    world.replace("qmail-local", f"read line < {fifo}; touch {world.joe}/done")
    sender = lspawn(world, "ours")
    sender.ask(0, put(world.home), b"joe@a.example")
    with open(fifo, "wb"):
        sender.process.send_signal(signal.SIGKILL)
        sender.process.wait()
    assert eventually(lambda: (world.joe / "done").exists())
    for file in (sender.to, sender.back, sender.process.stderr):
        assert file is not None
        file.close()


def test_what_is_forked_for_each_delivery_stays_small() -> None:
    text = (
        "import sys; sys.path.append(sys.argv[1]); import qmailpy.commands.qmail_lspawn, qmailpy.commands.qmail_local"
    )
    done = run([sys.executable, "-IS", "-c", f"{text}; print(*sys.modules)", ROOT])
    loaded = set(done.stdout.decode().split())
    assert "qmailpy.commands.qmail_local" in loaded
    assert loaded & {"collections", "dataclasses", "email", "enum", "re", "socket", "subprocess", "typing"} == set()
