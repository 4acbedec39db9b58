"""utmp: who is logged in where, by a file as it is on two kinds of machines."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats.utmp import terminals


def record(kind: int, line: bytes, user: bytes, size: int = 384) -> bytes:
    return pack("=h2xi32s4s32s", kind, 1, line, b"id", user).ljust(size, b"\0")


@pytest.mark.parametrize(("machine", "size"), [("x86_64", 384), ("aarch64", 400)])
def test_the_terminals_of_a_user_are_found(machine: str, size: int) -> None:
    records = [
        record(7, b"pts/1", b"joe", size),
        record(7, b"pts/2", b"mary", size),
        record(8, b"pts/3", b"joe", size),
        record(7, b"x" * 32, b"joe", size),
        record(7, b"pts/4", b"joe2", size),
    ]
    assert list(terminals(b"".join(records), b"joe", machine)) == [b"pts/1", b"x" * 32]


def test_a_name_may_fill_its_place() -> None:
    file = record(7, b"tty1", b"j" * 32)
    assert list(terminals(file, b"j" * 32, "x86_64")) == [b"tty1"]
    assert list(terminals(file, b"j" * 31, "x86_64")) == []


@given(file=st.binary(max_size=1000), user=st.binary())
def test_any_file_is_read(file: bytes, user: bytes) -> None:
    for machine in ("x86_64", "aarch64"):
        assert all(len(line) <= 32 for line in terminals(file, user, machine))
