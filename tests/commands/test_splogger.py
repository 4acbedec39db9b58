"""splogger: packets as the C library sends them, whatever the line, and no service is held up."""

import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import BIN, ROOT, environment, run

TIMEOUT = 20
SPLOGGER = BIN / "splogger"
PACKET = re.compile(rb"<(\d+)>(\w{3} [ \d]\d \d\d:\d\d:\d\d) (.*?): (\d+\.\d{6})([ +])(.*)", re.DOTALL)


@contextmanager
def service(path: Path, kind: int = socket.SOCK_DGRAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as made:
        made.settimeout(TIMEOUT)
        made.bind(os.fspath(path))
        if kind == socket.SOCK_STREAM:
            made.listen()
        yield made


def received(of: socket.socket) -> list[bytes]:
    """What has come, when nobody sends any more."""
    packets = []
    of.setblocking(False)
    while True:
        try:
            packets.append(of.recv(65536))
        except BlockingIOError:
            return packets


def logged(text: bytes, *words: str | Path, folder: Path) -> list[bytes]:
    """The packets for an input that the service's queue takes at once."""
    with service(folder / "log") as log:
        result = run([SPLOGGER, "-s", folder / "log", *words], text)
        assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
        packets = received(log)
    (folder / "log").unlink()
    return packets


def fields(packet: bytes) -> tuple[bytes, ...]:
    """Number, tag, mark and text."""
    found = PACKET.fullmatch(packet)
    assert found is not None, packet
    return found[1], found[3], found[5], found[6]


@pytest.mark.parametrize(
    ("words", "tag", "number"),
    [
        ([], b"splogger", 22),
        (["qmail"], b"qmail", 22),
        (["qmail", "3"], b"qmail", 30),
        (["qmail", "23x"], b"qmail", 190),
        (["qmail", "0"], b"qmail", 6),
        (["qmail", "x"], b"qmail", 6),
        (["qmail", "128"], b"qmail", 14),
        (["--", "-5"], b"-5", 22),
        (["", "2"], b"", 22),
    ],
)
def test_tag_and_facility_are_those_of_the_words(words: list[str], tag: bytes, number: int, tmp_path: Path) -> None:
    packets = logged(b"text\n", *words, folder=tmp_path)
    assert [fields(packet) for packet in packets] == [(b"%d" % number, tag, b" ", b"text")]


def test_the_time_is_in_front_twice(tmp_path: Path) -> None:
    before = time.time()
    found = PACKET.fullmatch(logged(b"text\n", folder=tmp_path)[0])
    assert found is not None
    assert before - 0.001 <= float(found[4]) <= time.time()
    assert found[2].decode() in [time.strftime("%b %e %T", time.localtime(before + more)) for more in range(3)]


def test_priorities_are_those_of_the_first_word(tmp_path: Path) -> None:
    text = b"warning: a\nalert: b\nc warning:\n Alert:\nalert:\n"
    numbers = [fields(packet)[0] for packet in logged(text, folder=tmp_path)]
    assert numbers == [b"20", b"17", b"22", b"22", b"17"]


@pytest.mark.parametrize("size", [798, 799, 800, 1598, 1599, 70000])
def test_long_lines_are_continued(size: int, tmp_path: Path) -> None:
    text = (b"alert: " + b"0123456789" * (size // 10 + 1))[:size]
    packets = []
    with service(tmp_path / "log") as log, fed([SPLOGGER, "-s", tmp_path / "log"]) as (_, writer):
        os.write(writer, text[:65536])  # what a pipe holds
        if text[65536:]:
            packets.append(log.recv(65536))
        os.write(writer, text[65536:] + b"\nnext\n")
        while not packets or not packets[-1].endswith(b" next"):
            packets.append(log.recv(65536))
    parts = [fields(packet) for packet in packets[:-1]]
    assert b"".join(part[3] for part in parts) == text
    assert {len(part[3]) for part in parts[:-1]} <= {799}
    assert [part[2] for part in parts] == [b" ", *[b"+"] * (len(parts) - 1)]
    assert {part[0] for part in parts} == {b"17"}
    assert len({PACKET.fullmatch(packet)[4] for packet in packets[:-1]}) == 1  # type: ignore[index]
    assert fields(packets[-1])[0] == b"22"


def test_what_is_not_printable_becomes_a_question_mark_and_empty_lines_nothing(tmp_path: Path) -> None:
    packets = logged(b"\n\n\ta\0\x7f\xff~ \r\n\n", folder=tmp_path)
    assert [fields(packet)[3] for packet in packets] == [b"?a???~ ?"]


def test_a_last_line_without_an_end_is_logged_too(tmp_path: Path) -> None:
    """The original loses it."""
    assert [fields(packet)[3] for packet in logged(b"one\ntwo", folder=tmp_path)] == [b"one", b"two"]


@settings(max_examples=20)
@given(text=st.lists(st.sampled_from([b"\n", b"a", b"\xff", b"x" * 400, b"warning: "]), max_size=9).map(b"".join))
def test_every_byte_of_every_line_arrives(text: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    lines: list[bytes] = []
    for packet in logged(text, folder=tmp_path_factory.mktemp("splogger")):
        _, _, mark, part = fields(packet)
        if mark == b"+":
            lines[-1] += part
        else:
            lines.append(part)
    assert lines == [line.replace(b"\xff", b"?") for line in text.split(b"\n") if line]


# Other forms


def test_rfc_5424_has_year_microseconds_and_utc(tmp_path: Path) -> None:
    before = time.time()
    packets = logged(b"warning: a\n" + b"x" * 800 + b"\n", "-5", "q mail", folder=tmp_path)
    host = re.escape(socket.gethostname().encode())
    found = re.fullmatch(rb"<20>1 (\S{19}\.\d{6})Z %s q\?mail - - - warning: a" % host, packets[0])
    assert found is not None, packets[0]
    stamp = time.mktime(time.strptime(found[1].decode()[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert int(before) <= stamp <= time.time()
    assert packets[1].endswith(b" - - - " + b"x" * 799)
    assert packets[2].endswith(b" - - - +x")


def test_the_journal_gets_fields(tmp_path: Path) -> None:
    packet, *rest = logged(b"alert: a\n", "-j", "qmail", "3", folder=tmp_path)
    assert rest == []
    assert re.fullmatch(
        rb"MESSAGE=alert: a\nPRIORITY=1\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=qmail\n"
        rb"SYSLOG_TIMESTAMP=\S{19}\.\d{6}Z\n",
        packet,
    )


@pytest.mark.parametrize("words", [["-x"], ["-s"], ["-5", "-"]])
def test_wrong_options_are_100(words: list[str]) -> None:
    result = run([SPLOGGER, *words]) if words != ["-5", "-"] else run([SPLOGGER, "-5Z", "-"])
    assert result.returncode == 100
    assert result.stderr.endswith(b"splogger: usage: splogger [ -5j ] [ -s socket ] [tag [facility]]\n")


# As the C library does it

DEV = """
mkdir "$0/dev" && mount --bind /dev "$0/dev" && mount -t tmpfs tmpfs /dev || exit 99
for file in null zero full urandom; do touch /dev/$file; mount --bind "$0/dev/$file" /dev/$file || exit 99; done
exec "$@"
"""

COMPARE = """
import os, socket, subprocess, sys, syslog
kind = getattr(socket, sys.argv[1])
listening = socket.socket(socket.AF_UNIX, kind)
listening.bind("/dev/log")
if kind == socket.SOCK_STREAM:
    listening.listen()
listening.settimeout(20)

def packets(send):
    send()
    if kind != socket.SOCK_STREAM:
        listening.setblocking(False)
        while True:
            try:
                yield listening.recv(65536)
            except BlockingIOError:
                return
    with listening.accept()[0] as connection:
        stream = b"".join(iter(lambda: connection.recv(65536), b""))
    yield from stream.split(b"\\0")

text = sys.stdin.buffer.read()
ours = list(packets(lambda: subprocess.run([sys.argv[2], *sys.argv[3:]], input=text, check=True)))

def by_libc():
    tag = sys.argv[3] if sys.argv[3:] else "splogger"
    syslog.openlog(tag, 0, int(sys.argv[4]) << 3 if sys.argv[4:] else syslog.LOG_MAIL)
    for packet in ours:
        if packet:
            number = int(packet[1:].partition(b">")[0])
            syslog.syslog(number & 7, packet.partition(tag.encode() + b": ")[2].decode())
    syslog.closelog()

libcs = list(packets(by_libc))
for one, other in zip(ours, libcs, strict=True):
    sys.stdout.buffer.write(repr((one, other)).encode() + b"\\n")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have a /dev/log of its own: run the tests as root")
@pytest.mark.parametrize("kind", ["SOCK_DGRAM", "SOCK_STREAM"])
@pytest.mark.parametrize("words", [[], ["qmail"], ["a b", "16"], ["zero", "0"], ["large", "200"]])
def test_the_packets_are_those_of_the_c_library(kind: str, words: list[str], tmp_path: Path) -> None:
    text = b"status: ok\nwarning: a %s %n\nalert: b\n" + b"x" * 1000 + b"\n\xff\xfe\nlast"
    argv: list[str | Path] = [
        "unshare",
        "-m",
        "sh",
        "-c",
        DEV,
        tmp_path,
        sys.executable,
        "-ISc",
        COMPARE,
        kind,
        SPLOGGER,
        *words,
    ]
    result = run(argv, text, env=environment(TZ="AAA-5"))
    assert (result.returncode, result.stderr) == (0, b"")
    pairs = [eval(line) for line in result.stdout.splitlines()]  # of our own making
    assert len(pairs) == (7 if kind == "SOCK_DGRAM" else 8)  # a stream ends with a NUL too
    for one, other in pairs:
        date = re.compile(rb"(?<=>)\w{3} [ \d]\d \d\d:\d\d:\d\d(?= )")
        assert date.sub(b"", one) == date.sub(b"", other)
        assert len(date.findall(one)) == len(date.findall(other)) == (1 if one else 0)


# A service that is missing, restarted, or asleep


@contextmanager
def fed(argv: Sequence[str | Path]) -> "Iterator[tuple[subprocess.Popen[bytes], int]]":
    reader, writer = os.pipe()
    with subprocess.Popen(argv, stdin=reader, stderr=subprocess.PIPE, env=environment(), cwd=ROOT) as child:
        os.close(reader)
        try:
            yield child, writer
        finally:
            try:
                os.close(writer)
            except OSError:
                pass
            if child.poll() is None and sys.exc_info()[0] is not None:
                child.kill()


def test_a_missing_service_is_said_once(tmp_path: Path) -> None:
    result = run([SPLOGGER, "-s", tmp_path / "log"], b"line\n" * 1000)
    where = os.fsencode(tmp_path / "log")
    assert result.stderr == (
        b"splogger: warning: unable to write to %s, lines are lost: file does not exist\n"
        b"splogger: warning: 1000 lines are lost\n" % where
    )
    assert result.returncode == 0


def test_a_service_that_comes_back_hears_how_many_lines_it_missed(tmp_path: Path) -> None:
    with fed([SPLOGGER, "-s", tmp_path / "log"]) as (child, writer):
        assert child.stderr is not None
        os.write(writer, b"lost\n" + b"l" * 2000 + b"\nlost\n")
        assert child.stderr.readline().endswith(b"lines are lost: file does not exist\n")
        # The next line may still be read together with those.
        with service(tmp_path / "log") as log:
            os.write(writer, b"warning: here\n")
            first = fields(log.recv(65536))
            said = re.fullmatch(rb"warning: (\d) lines were lost here", first[3])
            assert said is not None and first[0] == b"20"
            assert child.stderr.readline() == b"splogger: warning: %s lines were lost\n" % said[1]
            received_after = [log.recv(65536)]
            while not received_after[-1].endswith(b"warning: here"):
                received_after.append(log.recv(65536))
        os.close(writer)
        assert child.wait(TIMEOUT) == 0


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_service_that_is_restarted_misses_nothing(tmp_path: Path, kind: int) -> None:
    with fed([SPLOGGER, "-s", tmp_path / "log"]) as (child, writer):
        for text in (b"one", b"two", b"three"):
            with service(tmp_path / "log", kind) as log:
                os.write(writer, text + b"\n")
                if kind == socket.SOCK_STREAM:
                    connection, _ = log.accept()
                    with connection:
                        assert fields(connection.recv(65536))[3] == text + b"\0"
                else:
                    assert fields(log.recv(65536))[3] == text
            (tmp_path / "log").unlink()
        os.close(writer)
        assert child.wait(TIMEOUT) == 0
        assert child.stderr is not None and child.stderr.read() == b""


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_service_that_sleeps_holds_nobody_up_for_more_than_five_seconds(tmp_path: Path, kind: int) -> None:
    count = 3000
    with service(tmp_path / "log", kind) as log, fed([SPLOGGER, "-s", tmp_path / "log"]) as (child, writer):
        begin = time.monotonic()
        with open(writer, "wb", closefd=False) as pipe:
            for number in range(count):
                pipe.write(b"%07d %s\n" % (number, b"x" * 700))
        assert 4.5 < time.monotonic() - begin < 15
        assert child.stderr is not None
        assert child.stderr.readline().endswith(b"lines are lost: timed out\n")
        # Awake again: it finds what was sent before, and the next lines, the first of which says how many are lost.
        data = b""
        sources = [log]
        more = ended = 0
        report = re.compile(rb": \d+\.\d+ warning: (\d+) lines were lost here\0")
        while not data.endswith(b" end\0"):
            if not report.search(data):
                more += os.write(writer, b"more\n") // 5
            elif not ended:
                ended = os.write(writer, b"end\n") // 4
            for source in select.select(sources, [], [], TIMEOUT)[0]:
                if kind == socket.SOCK_STREAM and source is log:
                    sources.append(log.accept()[0])
                    continue
                part = source.recv(65536)
                data += part + (b"\0" if kind == socket.SOCK_DGRAM else b"")
                if not part:
                    sources.remove(source)
                    source.close()
        for source in sources[1:]:
            source.close()
        numbers = [int(each) for each in re.findall(rb": \d+\.\d+ (\d{7}) x{700}\0", data)]
        lost = [int(each) for each in report.findall(data)]
        assert numbers == sorted(set(numbers))
        assert len(numbers) + len(re.findall(rb" more\0", data)) + sum(lost) == count + more
        assert child.stderr.readline() == b"splogger: warning: %d lines were lost\n" % lost[0]
