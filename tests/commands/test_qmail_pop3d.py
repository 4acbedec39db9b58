"""qmail-pop3d on pipes and sockets: the original's bytes and files, and what hostile clients and Maildirs do to it.

Single sessions are in tests/dialogues. Where QMAIL_BIN names the C program, it has to pass what is its own too.
"""

import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialogues import Home, Talk, home
from tests.helpers import BIN, ROOT, run
from tests.pop3_original import Heap, originals, pop3d
from tests.protocols.test_pop3 import INPUTS, TEXTS

__all__ = ["home"]

POP3D = BIN / "qmail-pop3d"
PROGRAMS = [str(POP3D), *originals("qmail-pop3d")]
everybodys = pytest.mark.parametrize("program", PROGRAMS)
GREETING = b"+OK \r\n"
MUCH = 2000  # kB that a session may grow by, whatever its client does

# qmail-pop3d with another timeout
IMPATIENT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from qmailpy.commands import qmail_pop3d
qmail_pop3d.TIMEOUT = 0.1
os._exit(qmail_pop3d.main([b"qmail-pop3d", b"Maildir"], {}))
"""


def peak(talk: Talk) -> int:
    """kB that the process has had in memory at most."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{talk.process.pid}/status").read_text())
    assert match is not None
    return int(match[1])


# Start


@everybodys
def test_it_refuses_to_run_as_root(program: str) -> None:
    prefix = [] if os.geteuid() == 0 else ["unshare", "-r"]
    result = run([*prefix, program, "Maildir"], b"QUIT\r\n")
    assert (result.stdout, result.stderr) == (b"", b"qmail-pop3d invoked as uid 0, terminating\n")
    assert result.returncode == 1


@everybodys
@pytest.mark.parametrize("words", [[], ["missing"], ["accounts"], [""]])
def test_without_a_maildir_it_says_so_and_ends_well(program: str, words: list[str], home: Home) -> None:
    done = home.run([program, *words], b"QUIT\r\n")
    assert (done.stdout, done.stderr) == (b"-ERR this user has no $HOME/Maildir\r\n", b"")
    assert done.returncode == 0


@everybodys
@pytest.mark.parametrize("missing", ["new", "cur"])
def test_a_maildir_that_cannot_be_scanned_is_refused(program: str, missing: str, home: Home) -> None:
    (home.maildir / missing).rmdir()
    assert home.pop3d(b"QUIT\r\n", program) == b"-ERR unable to scan $HOME/Maildir\r\n"


@everybodys
def test_stale_files_in_tmp_are_removed_at_the_start(program: str, home: Home) -> None:
    home.message(b"tmp/stale", b"x", mtime=int(time.time()) - 130000)
    home.message(b"tmp/.stale", b"x", mtime=int(time.time()) - 130000)
    home.message(b"tmp/fresh", b"x", mtime=int(time.time()) - 100000)
    home.pop3d(b"", program)
    assert sorted(os.listdir(home.maildir / "tmp")) == [".stale", "fresh"]


@everybodys
def test_messages_of_the_future_are_not_seen_and_not_moved(program: str, home: Home) -> None:
    home.message(b"new/later", b"x", mtime=int(time.time()) + 1000)
    home.message(b"new/before", b"x")
    assert home.pop3d(b"UIDL\r\nQUIT\r\n", program) == GREETING + b"+OK \r\n1 before\r\n.\r\n+OK \r\n"
    assert home.files() == [b"cur/before:2,", b"new/later"]


@everybodys
def test_messages_of_one_second_are_in_the_order_of_the_heap(program: str, home: Home) -> None:
    for number in range(60):
        folder = b"cur" if number % 3 else b"new"
        home.message(folder + b"/%d" % number, b"x", mtime=home.old - number % 4)
    heap = Heap()
    for folder in (b"new", b"cur"):
        for entry in os.scandir(bytes(home.maildir) + b"/" + folder):
            heap.insert(int(entry.stat().st_mtime), entry.name)
    rows = b"".join(b"%d %b\r\n" % (number, heap.remove()) for number in range(1, 61))
    assert home.pop3d(b"UIDL\r\n", program) == GREETING + GREETING + rows + b".\r\n"


# Sessions


@everybodys
@settings(max_examples=40)
@given(texts=st.lists(TEXTS, max_size=4), input=INPUTS, new=st.integers(0, 4))
def test_sessions_and_what_they_leave_are_those_of_the_model(
    program: str, texts: list[bytes], input: bytes, new: int
) -> None:
    messages = [(b"%b/m%d" % (b"new" if n < new else b"cur", n), text) for n, text in enumerate(texts)]
    with tempfile.TemporaryDirectory(prefix="qmailpy-pop3-") as folder:
        home = Home(Path(folder))
        for path, text in messages:
            home.message(path, text)
        answer, left = pop3d(messages, input)
        assert home.pop3d(input, program) == answer
        assert home.files() == left


@everybodys
def test_dots_at_the_border_of_two_blocks_are_doubled(program: str, home: Home) -> None:
    messages = []
    for before in range(65533, 65539):
        text = b"x" * before + b"\n.\n..\nend"
        messages.append((b"new/%d" % before, text))
        home.message(*messages[-1])
    input = b"".join(b"RETR %d\r\nTOP %d 1\r\n" % (n, n) for n in range(1, len(messages) + 1))
    assert home.pop3d(input, program) == pop3d(messages, input)[0]


@everybodys
def test_unlinks_that_fail_are_said_before_the_last_ok(program: str, home: Home) -> None:
    for name in (b"new/a", b"new/b", b"cur/c:2,", b"cur/d:2,"):
        home.message(name, b"x")
    (home.maildir / "new").chmod(0o500)
    answer = home.pop3d(b"DELE 1\r\nDELE 2\r\nDELE 3\r\nQUIT\r\n", program)
    (home.maildir / "new").chmod(0o700)
    assert answer == GREETING * 4 + b"-ERR unable to unlink all deleted messages\r\n" * 2 + b"+OK \r\n"
    assert home.files() == [b"cur/d:2,", b"new/a", b"new/b"]


@everybodys
def test_files_that_vanish_after_the_scan_are_refused(program: str, home: Home) -> None:
    for name in (b"new/a", b"new/b", b"new/c", b"new/d"):
        home.message(name, b"x\n")
    with Talk(home, [program, "Maildir"]) as talk:
        assert talk.line() == GREETING
        (home.maildir / "new/a").unlink()
        (home.maildir / "new/b").rename(home.maildir / "cur/b:2,S")
        (home.maildir / "new/c").unlink()
        talk.send(b"RETR 1\r\nTOP 2 0\r\nLIST 1\r\nDELE 3\r\nRETR 4\r\nQUIT\r\n")
        unable = b"-ERR unable to open that message\r\n"
        unlink = b"-ERR unable to unlink all deleted messages\r\n"
        assert talk.rest() == unable * 2 + b"+OK 1 2\r\n+OK \r\n+OK \r\nx\r\n\r\n.\r\n" + unlink + b"+OK \r\n"
        assert talk.end() == (0, b"")
    assert home.files() == [b"cur/b:2,S", b"cur/d:2,"]


# Hostile Maildirs


@everybodys
def test_a_file_that_may_not_be_read_is_refused_and_moved_all_the_same(program: str, home: Home) -> None:
    home.message(b"new/a", b"x").chmod(0)
    assert home.pop3d(b"LIST 1\r\nRETR 1\r\nQUIT\r\n", program) == (
        GREETING + b"+OK 1 1\r\n-ERR unable to open that message\r\n+OK \r\n"
    )
    assert home.files() == [b"cur/a:2,"]


def test_links_directories_fifos_and_sockets_break_nothing(home: Home) -> None:
    os.mkdir(home.maildir / "new/directory")
    os.mkfifo(home.maildir / "new/fifo")
    os.symlink("nowhere", home.maildir / "new/dangling")
    os.symlink("link", home.maildir / "new/link")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home.maildir / "new/socket"))
    home.message(b"cur/real", b"real\n")
    for name in ("directory", "fifo", "socket"):
        home.own(home.maildir / "new" / name)
        home.date(home.maildir / "new" / name)
    unable = b"-ERR unable to open that message\r\n"
    answer = home.pop3d(b"UIDL\r\nRETR 1\r\nRETR 2\r\nRETR 3\r\nRETR 4\r\nTOP 1 0\r\nDELE 1\r\nQUIT\r\n")
    rows = b"1 real\r\n2 directory\r\n3 fifo\r\n4 socket\r\n.\r\n"
    assert answer.startswith(GREETING + b"+OK \r\n" + rows + b"+OK \r\nreal\r\n\r\n.\r\n" + unable)
    assert home.files() == [b"cur/directory:2,", b"cur/fifo:2,", b"cur/socket:2,", b"new/dangling", b"new/link"]


def test_a_directory_that_is_deleted_stays(home: Home) -> None:
    os.mkdir(home.maildir / "new/directory")
    home.own(home.maildir / "new/directory")
    home.date(home.maildir / "new/directory")
    answer = home.pop3d(b"DELE 1\r\nQUIT\r\n")
    assert answer == GREETING * 2 + b"-ERR unable to unlink all deleted messages\r\n+OK \r\n"
    assert home.files() == [b"new/directory"]


def test_a_fifo_whose_writer_says_nothing_holds_nobody_up(home: Home) -> None:
    path = home.maildir / "new/fifo"
    os.mkfifo(path)
    home.own(path)
    home.date(path)
    fd = os.open(path, os.O_RDWR)
    try:
        answer = home.pop3d(b"RETR 1\r\nNOOP\r\nQUIT\r\n")
    finally:
        os.close(fd)
    assert answer == GREETING + b"-ERR unable to open that message\r\n+OK \r\n+OK \r\n"


def test_names_of_any_bytes_are_served_and_never_break_a_reply(home: Home) -> None:
    names = [b"a\r\n.\r\nb", b"\n", b"\xff\xfe", b" ", b"*", b"\x1b[2J", b"x" * 200, b"-ERR", b":"]
    for name in names:
        home.message(b"new/" + name, b"%d\n" % len(name))
    input = b"UIDL\r\nUIDL 1\r\nRETR 1\r\nRETR 3\r\nDELE 2\r\nQUIT\r\n"
    rows = [b"1 a=0D=0A.=0D=0Ab", b"2 =0A", b"3 \xff\xfe", b"4  ", b"5 *", b"6 \x1b[2J", b"7 " + b"x" * 200, b"8 -ERR"]
    assert home.pop3d(input) == (
        GREETING * 2 + b"\r\n".join([*rows, b"9 ", b".", b"+OK 1 a=0D=0A.=0D=0Ab", b""])
        + b"+OK \r\n7\r\n\r\n.\r\n+OK \r\n2\r\n\r\n.\r\n+OK \r\n+OK \r\n"
    )  # fmt: skip
    assert home.files() == sorted(b"cur/" + name + b":2," for name in names if name != b"\n")


# Hostile clients


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_ten_thousand_commands_in_one_go_are_answered_in_order(kind: str, home: Home) -> None:
    home.message(b"new/a", b"x\n")
    input = b"".join(b"LIST %d\r\n" % (n % 3) for n in range(10000)) + b"QUIT\r\n"
    wanted = pop3d([(b"new/a", b"x\n")], input)[0]
    if kind == "pipe":
        assert home.pop3d(input) == wanted
        return
    with Talk(home, [POP3D, "Maildir"]) as talk:
        sender = threading.Thread(target=talk.send, args=(input,))
        sender.start()
        assert talk.rest() == wanted
        sender.join()


def test_output_that_nobody_reads_does_not_pile_up(home: Home) -> None:
    for number in range(1000):
        home.message(b"cur/%d" % number, b"")
    with Talk(home, [POP3D, "Maildir"]) as talk:
        talk.send(b"LIST\r\n")
        listing = len(GREETING) * 2 + sum(len(b"%d 0\r\n" % n) for n in range(1, 1001)) + 3
        assert len(talk.take(listing)) == listing
        before = peak(talk)
        talk.send(b"LIST\r\n" * 1000)  # 20 times what the socket takes
        wanted = (listing - len(GREETING)) * 1000
        assert len(talk.take(wanted)) == wanted
        assert peak(talk) < before + MUCH
        talk.send(b"QUIT\r\n")
        assert talk.rest() == GREETING


def test_a_line_without_end_needs_no_memory(home: Home) -> None:
    with Talk(home, [POP3D, "Maildir"]) as talk:
        talk.send(b"NOOP\r\n")
        assert talk.line() + talk.line() == GREETING * 2
        before = peak(talk)
        talk.send(b"STAT " + b"x" * 1_000_000)
        talk.send(b"\r\nNOOP\r\n")
        assert talk.line() + talk.line() == b"-ERR line too long\r\n+OK \r\n"
        assert peak(talk) < before + MUCH


def test_a_large_message_needs_no_memory(home: Home) -> None:
    text = b"some line of text\n" * 500_000
    home.message(b"new/large", text)
    with Talk(home, [POP3D, "Maildir"]) as talk:
        talk.send(b"NOOP\r\n")
        assert talk.line() + talk.line() == GREETING * 2
        before = peak(talk)
        talk.send(b"RETR 1\r\nNOOP\r\n")
        wanted = GREETING + text.replace(b"\n", b"\r\n") + b"\r\n.\r\n+OK \r\n"
        assert talk.take(len(wanted)) == wanted
        assert peak(talk) < before + MUCH


def test_nothing_changes_unless_the_client_has_said_quit(home: Home) -> None:
    session = b"RETR 2\r\nDELE 1\r\nQUIT\n"
    for name in (b"new/a", b"new/b"):
        home.message(name, b"x\n")
    for length in range(len(session)):
        home.pop3d(session[:length])
        assert home.files() == [b"new/a", b"new/b"], session[:length]
    home.pop3d(session)
    assert home.files() == [b"cur/b:2,"]


@everybodys
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_client_that_left_before_it_got_a_message_does_not_lose_it(program: str, kind: str, home: Home) -> None:
    home.message(b"new/a", b"x\n" * 10)
    how: dict[str, Any] = {"stdout": subprocess.PIPE} if kind == "pipe" else {}
    with Talk(home, [program, "Maildir"], **how) as talk:
        if kind == "pipe":
            assert talk.process.stdout is not None
            assert os.read(talk.process.stdout.fileno(), 100) == GREETING
            talk.process.stdout.close()
        else:
            assert talk.line() == GREETING
            talk.socket.shutdown(socket.SHUT_RD)
        talk.send(b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
        assert talk.end() == (0, b"")
    assert home.files() == [b"new/a"]


@pytest.mark.parametrize("sent", [b"", b"STA", b"NOOP\r\nST"])
def test_a_silent_client_is_dropped(sent: bytes, home: Home) -> None:
    with Talk(home, ["python3", "-c", IMPATIENT, ROOT], sent) as talk:
        assert talk.rest() == GREETING + GREETING * sent.count(b"\n")
        assert talk.end() == (0, b"")


def test_a_client_that_never_reads_is_dropped(home: Home) -> None:
    home.message(b"new/large", b"x\n" * 1_000_000)
    with Talk(home, ["python3", "-c", IMPATIENT, ROOT], b"RETR 1\r\nDELE 1\r\nQUIT\r\n") as talk:
        assert talk.end() == (0, b"")
    assert home.files() == [b"new/large"]


@pytest.mark.parametrize("moved", [1, 100, 249])
def test_a_quit_that_is_killed_loses_nothing(moved: int, home: Home) -> None:
    names = [b"%d" % number for number in range(500)]
    for name in names:
        home.message(b"new/" + name, b"x")
    deleted = set(names[::2])
    with Talk(home, [POP3D, "Maildir"]) as talk:
        talk.send(b"".join(b"DELE %d\r\n" % (int(name) + 1) for name in deleted))
        assert b"".join(talk.line() for _ in range(251)) == GREETING * 251
        cur = home.maildir / "cur"
        talk.send(b"QUIT\r\n")
        while len(os.listdir(cur)) < moved and talk.process.poll() is None:
            pass
        talk.process.kill()
        talk.process.wait()
    left = home.files()
    for name in names:
        found = [path for path in left if path in (b"new/" + name, b"cur/" + name + b":2,")]
        assert len(found) == 1 or (not found and name in deleted)
    assert len(left) == len(set(left)) and all(path.split(b"/")[1].removesuffix(b":2,") in names for path in left)
