"""svstat: line for line what Debian's says, for services in every state; and labels and JSON."""

import datetime
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmailpy.commands import svstat
from qmailpy.formats import svstatus, tai64n
from qmailpy.formats.svstatus import DOWN, ONCE, UP, Child, Status
from qmailpy.stores.services import State
from tests.commands.supervised import STUBBORN, UNPRIVILEGED, MadeUp, Supervised, programs
from tests.helpers import BIN, environment, eventually, needs, run

SECOND = tai64n.SECOND
NOW = 1_795_000_000 * SECOND


def said(program: str | Path, *words: str | bytes | Path, cwd: Path | None = None) -> bytes:
    result = run([program, *words], cwd=cwd)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


def same(*words: str | bytes | Path, cwd: Path | None = None) -> str:
    """What both say, ours and Debian's. The clock may tick in between."""
    both = [b"", b""]

    def agree() -> bool:
        both[:] = [said(program, *words, cwd=cwd) for program in (BIN / "svstat", needs("svstat"))]
        return both[0] == both[1]

    assert eventually(agree, 3), both
    return both[0].decode("utf-8", "surrogateescape")


@pytest.fixture
def made_up(tmp_path: Path) -> Iterator[MadeUp]:
    with MadeUp(tmp_path / "x", packed(7)) as service:
        yield service


def packed(pid: int, paused: bool = False, want: bytes = UP, age: int = 100) -> bytes:
    """A status that is so many seconds old."""
    return svstatus.pack(Status(time.time_ns() - age * SECOND, pid, paused, want))


def test_svstat_without_arguments_says_nothing() -> None:
    assert same() == ""


def test_svstat_follows_a_service_through_its_states(tmp_path: Path) -> None:
    with Supervised(tmp_path / "x") as service:
        pid = service.status().pid
        assert re.fullmatch(rf"x: up \(pid {pid}\) \d+ seconds\n", same("x", cwd=tmp_path))
        service.send("p")
        assert service.becomes(", paused")
        assert same(service.folder).endswith(" seconds, paused\n")
        (service.folder / "down").touch()
        assert same(service.folder).endswith(" seconds, normally down, paused\n")
        service.send("d")
        assert service.becomes("down ")
        assert re.fullmatch(r"x/: down \d+ seconds\n", same("x/", cwd=tmp_path))
        (service.folder / "down").unlink()
        assert same(service.folder).endswith(" seconds, normally up\n")
        service.send("o")
        assert service.becomes("up ")
        assert same(service.folder).endswith(" seconds\n")
        service.kill()
        assert same("x", cwd=tmp_path) == "x: supervise not running\n"


def test_svstat_shows_what_is_wanted_of_a_service_that_does_not_obey(tmp_path: Path) -> None:
    with Supervised(tmp_path / "x", STUBBORN) as service:
        assert eventually((service.folder / "ready").exists)
        service.send("d")
        assert service.becomes("want down")
        assert same(service.folder).endswith(" seconds, want down\n")


@pytest.mark.parametrize(
    ("pid", "paused", "want", "age", "more", "words"),
    [
        (0, False, UP, 100, b"", "down N seconds, normally up, want up"),
        (0, False, DOWN, 100, b"", "down N seconds, normally up"),
        (0, True, ONCE, 100, b"", "down N seconds, normally up"),
        (7, False, ONCE, 100, b"", "up (pid 7) N seconds"),
        (7, False, b"?", 100, b"", "up (pid 7) N seconds"),
        (2**32 - 1, True, DOWN, 100, b"", "up (pid 4294967295) N seconds, paused, want down"),
        (7, False, UP, -100000, b"", "up (pid 7) 0 seconds"),  # in the time to come
        (7, False, UP, 100, b"\x03\0" + bytes(18), "up (pid 7) N seconds"),  # daemontools-encore's, with a log
    ],
)
def test_svstat_says_what_the_status_says(
    made_up: MadeUp, pid: int, paused: bool, want: bytes, age: int, more: bytes, words: str
) -> None:
    made_up.write(packed(pid, paused, want, age) + more)
    line = same("x", cwd=made_up.folder.parent)
    assert re.sub(r"\b1\d\d seconds", "N seconds", line) == f"x: {words}\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("rm supervise/status", "unable to open supervise/status: file does not exist"),
        ("rm supervise/status; ln -s status supervise/status", "unable to open supervise/status: symbolic link loop"),
        ("rm supervise/status; mkfifo supervise/status", "unable to read supervise/status: bad format"),
        (": >supervise/status", "unable to read supervise/status: bad format"),
        ("printf 12345678901234567 >supervise/status", "unable to read supervise/status: bad format"),
        ("rm supervise/ok; mkdir supervise/ok", "unable to open supervise/ok: is a directory"),
        ("rm supervise/ok; ln -s ok supervise/ok", "unable to open supervise/ok: symbolic link loop"),
        ("rm supervise/ok; mkfifo supervise/ok", "supervise not running"),
        ("rm supervise/ok", "unable to open supervise/ok: file does not exist"),
        ("rm -r supervise", "unable to open supervise/ok: file does not exist"),
        ("rm -r supervise; : >supervise", "unable to open supervise/ok: not a directory"),
        ("rm -r supervise; ln -s down down", "unable to stat down: symbolic link loop"),
    ],
)
def test_svstat_says_what_is_wrong_with_a_directory(made_up: MadeUp, change: str, words: str) -> None:
    assert run(["sh", "-ec", change], cwd=made_up.folder).returncode == 0
    assert same("x", cwd=made_up.folder.parent) == f"x: {words}\n"


def test_svstat_says_when_a_status_cannot_be_read(made_up: MadeUp) -> None:
    """Debian's then takes the status of the directory before, or a row of zeros."""
    (made_up.folder / "supervise" / "status").unlink()
    (made_up.folder / "supervise" / "status").mkdir()
    line = said(BIN / "svstat", "x", cwd=made_up.folder.parent)
    assert line == b"x: unable to read supervise/status: is a directory\n"


def test_svstat_takes_each_directory_from_where_it_started(made_up: MadeUp) -> None:
    parent = made_up.folder.parent
    (parent / "file").touch()
    (parent / "loop").symlink_to("loop")
    lines = same("x", b"missing\xff", "", "file", "loop", "x/..", "x/../x", "./x", "x", cwd=parent).splitlines()
    assert [line for line in lines if " seconds" not in line] == [
        "missing\udcff: unable to chdir: file does not exist",
        ": unable to chdir: file does not exist",
        "file: unable to chdir: not a directory",
        "loop: unable to chdir: symbolic link loop",
        "x/..: unable to open supervise/ok: file does not exist",
    ]
    assert [line.partition(":")[0] for line in lines if " seconds" in line] == ["x", "x/../x", "./x", "x"]


def test_svstat_says_more_than_a_buffer_holds(made_up: MadeUp) -> None:
    assert len(same(*["x"] * 500, *["y" * 200] * 20, cwd=made_up.folder.parent)) > 500 * 20


def test_svstat_t_begins_with_the_time_of_the_change(made_up: MadeUp) -> None:
    made_up.write(svstatus.pack(Status(NOW + 123_456_789, 7, False, UP)))
    lines = said(BIN / "svstat", "-t", "x", "missing", "x", cwd=made_up.folder.parent).splitlines()
    assert re.fullmatch(rb"@400000006afd86ca075bcd15 x: up \(pid 7\) \d+ seconds", lines[0])
    assert lines[1] == b"missing: unable to chdir: file does not exist"
    assert lines[2].startswith(tai64n.label(NOW + 123_456_789) + b" x: up ")


def test_svstat_t_can_be_read_by_tai64nlocal(made_up: MadeUp) -> None:
    made_up.write(svstatus.pack(Status(NOW + 123_456_789, 0, False, DOWN)))
    line = said(BIN / "svstat", "-t", "x", cwd=made_up.folder.parent)
    local = run([needs("tai64nlocal")], line, environment(TZ="UTC")).stdout
    assert re.fullmatch(rb"2026-11-18 \d\d:\d\d:\d\d\.123456789 x: down \d+ seconds, normally up\n", local)


def test_svstat_t_and_j_take_any_status(made_up: MadeUp) -> None:
    for text in (b"\xff" * 18, bytes(18)):
        made_up.write(text)
        label = b"@" + text[:12].hex().encode()
        assert said(BIN / "svstat", "-t", made_up.folder).startswith(label + b" ")
        assert as_json(made_up.folder)[0]["since"] is None


def as_json(*words: str | bytes | Path, cwd: Path | None = None) -> list[dict[str, object]]:
    found = json.loads(said(BIN / "svstat", "-j", *words, cwd=cwd).decode("ascii"))
    assert isinstance(found, list)
    return found


def test_svstat_j_of_nothing_is_an_empty_array() -> None:
    assert as_json() == []


def test_svstat_j_says_what_the_line_says_and_more(tmp_path: Path) -> None:
    with Supervised(tmp_path / "x") as service:
        before = service.status()
        assert said(BIN / "svstat", "-j", "x", "missing", cwd=tmp_path).count(b"\n") == 2
        up, missing = as_json("x", "missing", cwd=tmp_path)
        seconds = up.pop("seconds")
        assert isinstance(seconds, int) and 0 <= seconds < 20
        assert up == {
            "dir": "x",
            "up": True,
            "pid": before.pid,
            "since": datetime.datetime.fromtimestamp(before.when // SECOND, datetime.timezone.utc).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            ),
            "tai64n": tai64n.label(before.when).decode(),
            "paused": False,
            "want": "up",
            "normally": "up",
            "script": None,
        }
        assert missing == {"dir": "missing", "error": "unable to chdir: file does not exist"}
        service.send("d")
        assert service.becomes("down ")
        (down,) = as_json(service.folder)
        assert (down["up"], down["pid"], down["want"]) == (False, None, "down")


@pytest.mark.parametrize(
    ("status", "normally_up", "child", "facts"),
    [
        (Status(NOW, 7, True, ONCE), False, None, (True, 7, True, "once", "down", None)),
        (Status(NOW, 7, False, UP), True, b"finish", (True, 7, False, "up", "up", "finish")),
        (Status(NOW, 7, False, UP), True, b"\xff", (True, 7, False, "up", "up", "\udcff")),
        (Status(NOW, 0, True, b"?"), True, None, (False, None, False, None, "up", None)),
    ],
)
def test_the_facts_of_a_status(
    status: Status, normally_up: bool, child: bytes | None, facts: tuple[object, ...]
) -> None:
    found = svstat.facts(State(status, bytes(12), normally_up, child), NOW + 5 * SECOND)
    assert found["seconds"] == 5
    assert tuple(found[key] for key in ("up", "pid", "paused", "want", "normally", "script")) == facts


def test_svstat_j_names_the_script_of_the_process(made_up: MadeUp) -> None:
    made_up.write(packed(7), svstatus.pack_child(Child(b"finish", 7, 1, b"boot")))
    assert as_json(made_up.folder)[0]["script"] == "finish"
    made_up.write(packed(8))
    assert as_json(made_up.folder)[0]["script"] is None


@given(st.integers(-(2**63) * SECOND, 2**63 * SECOND))
def test_since_is_a_date_or_nothing(when: int) -> None:
    text = svstat.since(when)
    if text is None:
        assert not 0 <= when < 253_402_300_800 * SECOND
    else:
        assert datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() == when // SECOND


@settings(max_examples=10)
@given(st.binary(min_size=1, max_size=200).filter(lambda name: b"\0" not in name and not name.startswith(b"-")))
def test_svstat_j_is_json_for_any_name(name: bytes) -> None:
    (found,) = as_json(b"/missing/" + name)
    assert found["dir"] == "/missing/" + name.decode("utf-8", "surrogateescape")


def test_svstat_rejects_other_options() -> None:
    result = run([BIN / "svstat", "-z"])
    usage = b"svstat: illegal option -- z\nsvstat: usage: svstat [ -jt ] [ dir ... ]\n"
    assert (result.returncode, result.stdout, result.stderr) == (100, b"", usage)


def test_svstat_takes_a_name_with_a_hyphen_after_two(tmp_path: Path) -> None:
    with MadeUp(tmp_path / "-x", packed(7)):
        assert said(BIN / "svstat", "--", "-x", cwd=tmp_path).startswith(b"-x: up (pid 7) ")


def test_svstat_says_when_it_cannot_print() -> None:
    result = run(["sh", "-c", 'exec "$0" missing >/dev/full', BIN / "svstat"])
    assert (result.returncode, result.stderr) == (111, b"svstat: fatal: unable to write output: out of disk space\n")


def test_svstat_says_when_it_cannot_open_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir(mode=0o311)
    for program in programs("svstat").values():
        result = run([*UNPRIVILEGED, program, "/"], cwd=tmp_path / "x")
        expected = b"svstat: fatal: unable to open current directory: access denied\n"
        assert (result.returncode, result.stdout, result.stderr) == (111, b"", expected)


def test_svstat_ends_by_sigpipe_as_debians_does(tmp_path: Path) -> None:
    for program in (BIN / "svstat", needs("svstat")):
        reader, writer = os.pipe()
        os.close(reader)
        ended = subprocess.run([program, "missing"], stdout=writer, env=environment(), check=False)
        os.close(writer)
        assert ended.returncode == -13


def test_svstat_imports_json_only_for_j() -> None:
    script = "import sys; sys.path.append(sys.argv[1]); import qmailpy.commands.svstat; print(*sys.modules)"
    loaded = run([sys.executable, "-IS", "-c", script, BIN.parent]).stdout.split()
    assert b"time" in loaded and not {b"json", b"re", b"enum"} & set(loaded)
