"""qmail-rspawn: the protocol of the spawners, and what becomes of qmail-remote's two reports; as the original."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import BIN, run
from tests.queuehomes import BOTH, ORIGINALS, QueueHome, program, queue_home
from tests.spawners import HELLO, Sender, put

__all__ = ["queue_home"]

RECIPIENT = b"to@b.example"


@pytest.fixture
def home(queue_home: QueueHome) -> QueueHome:
    return queue_home


def rspawn(home: QueueHome, which: str, does: str, **env: str) -> Sender:
    """With a script in the place of qmail-remote."""
    script = home.path / "script"
    script.write_text("#!/bin/sh\n" + does)
    script.chmod(0o755)
    return Sender(program(which, "qmail-rspawn", home), home.env(QMAILREMOTE=str(script), **env))


@BOTH
def test_qmail_remote_is_given_host_sender_recipient_and_the_message(which: str, home: QueueHome) -> None:
    with rspawn(home, which, "printf 'r\\000K'; printf '%s,' \"$@\"; cat; printf '\\000'") as sender:
        assert sender.hello == HELLO
        text = sender.deliver(put(home, text=b"a\nb\n"), b"x@y@z.example", b"s@c.example")
    assert text == b"Kz.example,s@c.example,x@y@z.example,a\nb\n"


@BOTH
@pytest.mark.parametrize(
    ("does", "report"),
    [
        ("printf 'r\\000Kaccepted\\n\\000'", b"Kaccepted\n"),
        ("printf 'rx\\000Kaccepted\\n\\000'", b"Kxaccepted\n"),
        ("printf 'hno\\n\\000Dgiving up\\n\\000'", b"Dno\ngiving up\n"),
        ("printf 'slater\\n\\000Dgiving up\\n\\000'", b"Zlater\ngiving up\n"),
        ("printf 'hno\\n\\000Kaccepted\\n\\000'", b"Dno\n"),
        ("printf 'slater\\n\\000Kaccepted\\n\\000'", b"Zlater\n"),
        ("printf 'hno\\n\\000Zdied\\n\\000'", b"Dno\n"),
        ("printf 'Zno host\\n\\000'", b"Zno host\n"),
        ("printf 'Dno host\\n\\000'", b"Dno host\n"),
        ("printf 'Kok\\000Znot\\000'", b"Koknot"),
        ("printf 'r\\000x\\000Kok\\000'", b"K"),
        ("printf 'r\\000'", b"D"),
        ("printf 'text'", b"D"),
        ("printf '\\000Kok\\000'", b"KKok"),
        ("true", b"Zqmail-remote produced no output.\n"),
        ("printf 'r\\000Kok\\000'; exit 111", b"ZUnable to run qmail-remote.\n"),
        ("printf 'r\\000Kok\\000'; exit 100", b"DUnable to run qmail-remote.\n"),
        ("exit 3", b"DUnable to run qmail-remote.\n"),
        ("kill -9 $$", b"Zqmail-remote crashed.\n"),
        ("printf 'r\\000K' >&2; printf 'x\\000'", b"Kx"),
        ("printf 'r\\000K'; head -c 9000 /dev/zero | tr '\\000' x; printf '\\000'", b"K" + b"x" * 9000),
    ],
)
def test_reports(which: str, home: QueueHome, does: str, report: bytes) -> None:
    with rspawn(home, which, does) as sender:
        assert sender.deliver(put(home), RECIPIENT) == report


OUTPUT = st.lists(st.sampled_from([b"r", b"h", b"s", b"K", b"Z", b"D", b"\0", b"x", b"\n"]), max_size=14).map(b"".join)

if ORIGINALS:

    @settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(outputs=st.lists(OUTPUT.map(lambda text: text + b"\0"), min_size=40, max_size=60))
    def test_any_output_is_reported_as_by_the_original(home: QueueHome, outputs: list[bytes]) -> None:
        """Of output whose last report has no end, the original prints what happens to be in memory."""
        for number, text in enumerate(outputs):
            (home.path / f"out{number}").write_bytes(text)
        told = []
        for which in ("ours", "the original"):
            with rspawn(home, which, f'cat "{home.path}/$1"') as sender:
                message = put(home)
                told.append([sender.deliver(message, f"x@out{number}".encode()) for number in range(len(outputs))])
        assert told[0] == told[1]


@BOTH
@pytest.mark.parametrize(
    ("number", "name", "recipient", "report"),
    [
        (120, b"1/24", RECIPIENT, b"ZInternal error: delnum too big. (#4.3.5)\n"),
        (255, b"1/24", RECIPIENT, b"ZInternal error: delnum too big. (#4.3.5)\n"),
        (119, b"1/24", RECIPIENT, b"Kok"),
        (0, b"1/24x", RECIPIENT, b"DInternal error: messid has nonnumerics. (#5.3.5)\n"),
        (0, b"../1/24", RECIPIENT, b"DInternal error: messid has nonnumerics. (#5.3.5)\n"),
        (0, b"/24", RECIPIENT, b"DInternal error: messid has nonnumerics. (#5.3.5)\n"),
        (0, b"1/" * 50, RECIPIENT, b"DInternal error: messid too long. (#5.3.5)\n"),
        (0, b"1/" * 49 + b"1", RECIPIENT, b"Zqmail-spawn unable to open message. (#4.3.0)\n"),
        (0, b"x" * 200, RECIPIENT, b"DInternal error: messid has nonnumerics. (#5.3.5)\n"),
        (0, b"", RECIPIENT, b"DInternal error: messid too short. (#5.3.5)\n"),
        (0, b"1/24", b"to", b"DSorry, address must include host name. (#5.1.3)\n"),
        (0, b"1/24", b"", b"DSorry, address must include host name. (#5.1.3)\n"),
        (0, b"1/25", RECIPIENT, b"Zqmail-spawn unable to open message. (#4.3.0)\n"),
        (0, b"1", RECIPIENT, b"ZSorry, message has wrong type. (#4.3.5)\n"),
        (0, b"1//24", RECIPIENT, b"Kok"),
    ],
)
def test_what_is_wrong_with_a_request_is_reported(
    which: str, home: QueueHome, number: int, name: bytes, recipient: bytes, report: bytes
) -> None:
    with rspawn(home, which, "printf 'r\\000Kok\\000'") as sender:
        put(home)
        assert sender.deliver(name, recipient, number=number) == report


@BOTH
def test_a_message_of_another_owner_is_not_touched(which: str, home: QueueHome) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    with rspawn(home, which, "exit 0") as sender:
        name = put(home)
        os.chown(home.queue / "mess" / name.decode(), 54321, -1)
        assert sender.deliver(name, RECIPIENT) == b"ZSorry, message has wrong owner. (#4.3.5)\n"


@BOTH
def test_a_number_in_use_is_not_used_again(which: str, home: QueueHome) -> None:
    fifo = home.path / "fifo"
    os.mkfifo(fifo)
    with rspawn(home, which, f"read line < {fifo}; printf 'r\\000Kok\\000'") as sender:
        name = put(home)
        sender.ask(0, name, RECIPIENT)
        with open(fifo, "wb"):
            sender.ask(0, name, RECIPIENT)
            assert sender.report() == (0, b"ZInternal error: delnum in use. (#4.3.5)\n")
        assert sender.report() == (0, b"Kok")


@BOTH
def test_requests_may_come_in_any_pieces(which: str, home: QueueHome) -> None:
    with rspawn(home, which, "printf 'r\\000Kok\\000'") as sender:
        name = put(home)
        text = b"".join(b"%c%s\0s@a\0to@b\0" % (number, name) for number in range(3))
        for byte in text:
            sender.to.write(bytes([byte]))
        assert sorted(sender.report() for _ in range(3)) == [(number, b"Kok") for number in range(3)]


def test_a_program_that_is_not_there_defers(home: QueueHome) -> None:
    """With the original, all mail goes back to its senders while a program is replaced."""
    with Sender(program("ours", "qmail-rspawn", home), home.env(QMAILREMOTE="/nowhere")) as sender:
        assert sender.deliver(put(home), RECIPIENT) == b"ZUnable to run qmail-remote.\n"


@pytest.mark.parametrize("code", [1, 2, 126, 127])
def test_a_program_that_does_not_come_to_start_defers(home: QueueHome, code: int) -> None:
    with rspawn(home, "ours", f"exit {code}") as sender:
        assert sender.deliver(put(home), RECIPIENT) == b"ZUnable to run qmail-remote.\n"


@BOTH
def test_the_program_is_looked_for_along_the_path(which: str, home: QueueHome) -> None:
    (home.path / "qmail-remote").write_text("#!/bin/sh\nprintf 'r\\000Kmine\\000'\n")
    (home.path / "qmail-remote").chmod(0o755)
    env = home.env(PATH=f"{home.path}:{home.env()['PATH']}")
    with Sender(program(which, "qmail-rspawn", home), env) as sender:
        assert sender.deliver(put(home), RECIPIENT) == b"Kmine"


@BOTH
def test_hosts_that_did_not_answer_are_forgotten_at_the_start(which: str, home: QueueHome) -> None:
    table = home.queue / "lock" / "tcpto"
    table.write_bytes(b"x" * 1024)
    with rspawn(home, which, ""):
        assert table.read_bytes() == bytes(1024)


@pytest.mark.parametrize(("number", "hello"), [("200", b"\xc8"), ("20", b"x"), ("255", b"\xff"), ("256", b"\0\1")])
def test_the_control_file_may_ask_for_more_slots(home: QueueHome, number: str, hello: bytes) -> None:
    home.control(concurrencyremote=number)
    script = home.path / "script"
    script.write_text("#!/bin/sh\nprintf 'r\\000Kok\\000'")
    script.chmod(0o755)
    with Sender(program("ours", "qmail-rspawn", home), home.env(QMAILREMOTE=str(script)), len(hello)) as sender:
        assert sender.hello == hello
        last = int.from_bytes(hello, "little") - 1
        assert sender.deliver(put(home), RECIPIENT, number=last) == b"Kok"


def test_fewer_descriptors_are_fewer_slots(home: QueueHome) -> None:
    argv = ["sh", "-c", 'ulimit -n 60; exec "$0"', str(BIN / "qmail-rspawn")]
    with Sender(argv, home.env(QMAILREMOTE="/nowhere")) as sender:
        assert sender.hello == bytes([60 - 16])


def test_output_without_end_costs_no_memory_and_is_deferred(home: QueueHome) -> None:
    with rspawn(home, "ours", "head -c 9000000 /dev/zero | tr '\\000' x; printf '\\000Kok\\000'") as sender:
        text = sender.deliver(put(home), RECIPIENT)
        peak = next(
            line for line in Path(f"/proc/{sender.process.pid}/status").read_text().splitlines() if "VmHWM" in line
        )
    assert text == b"Z"
    assert int(peak.split()[1]) < 30000  # kB


def test_without_a_queue_it_does_not_start(home: QueueHome) -> None:
    home.queue.rename(home.path / "elsewhere")
    done = run([BIN / "qmail-rspawn"], env=home.env())
    text = f"qmail-rspawn: fatal: unable to switch to {home.path}/queue/mess: file does not exist\n"
    assert (done.returncode, done.stdout, done.stderr) == (111, b"", text.encode())
