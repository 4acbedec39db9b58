"""control: values as the originals read them; absent and unreadable are two things."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.stores.control import Control, Unreadable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "control").mkdir()
    return tmp_path / "control"


@pytest.fixture
def control(folder: Path) -> Control:
    return Control(os.fsencode(folder.parent))


@pytest.mark.parametrize(
    ("text", "line", "lines", "number"),
    [
        (b"", b"", [], None),
        (b"\n", b"", [], None),
        (b"a.example", b"a.example", [b"a.example"], None),
        (b"a.example \t\nb\n", b"a.example", [b"a.example", b"b"], None),
        (b" a\n", b" a", [b" a"], None),
        (b"#a\n\n \nb#c\n", b"#a", [b"b#c"], None),
        (b"a\r\n", b"a\r", [b"a\r"], None),
        (b"1200 seconds\n", b"1200 seconds", [b"1200 seconds"], 1200),
        (b"0\n", b"0", [b"0"], 0),
        (b" 5\n", b" 5", [b" 5"], None),
        (b"-5\n", b"-5", [b"-5"], None),
        (b"\n7\n", b"", [b"7"], None),
    ],
)
def test_values(
    folder: Path, control: Control, text: bytes, line: bytes, lines: list[bytes], number: int | None
) -> None:
    (folder / "x").write_bytes(text)
    assert (control.line(b"x"), control.lines(b"x"), control.number(b"x")) == (line, lines, number)
    assert control.text(b"x") == text


def test_a_file_that_is_absent_has_no_value(control: Control) -> None:
    assert (control.line(b"x"), control.lines(b"x"), control.number(b"x"), control.me()) == (None, None, None, None)


def test_the_name_of_the_host_is_in_me(folder: Path, control: Control) -> None:
    (folder / "me").write_text("host.example\n")
    assert control.me() == b"host.example"


def test_a_file_is_read_anew_each_time(folder: Path, control: Control) -> None:
    for text in (b"one", b"two"):
        (folder / "x").write_bytes(text)
        assert control.line(b"x") == text


def test_a_file_that_cannot_be_read_is_trouble(folder: Path, control: Control) -> None:
    (folder / "x").mkdir()
    (folder / "y").symlink_to("y")
    for name, code in ((b"x", errno.EISDIR), (b"y", errno.ELOOP)):
        for read in (control.line, control.lines, control.number):
            with pytest.raises(Unreadable) as raised:
                read(name)
            assert (raised.value.name, raised.value.errno) == (name, code)


def test_a_fifo_does_not_hold_up_its_reader(folder: Path, control: Control) -> None:
    os.mkfifo(folder / "x")
    assert control.line(b"x") == b""


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.binary())
def test_any_bytes_have_values(folder: Path, control: Control, text: bytes) -> None:
    (folder / "x").write_bytes(text)
    line, lines = control.line(b"x"), control.lines(b"x")
    assert line is not None and lines is not None
    assert b"\n" not in line and text.startswith(line)
    assert all(each and not each.startswith(b"#") and each in text for each in lines)
    number = control.number(b"x")
    assert number is None or line[:1].isdigit()
