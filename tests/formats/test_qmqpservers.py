"""The servers of qmail-qmqpc: addresses as the original reads them, and more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import qmqpservers


@pytest.mark.parametrize(
    ("line", "address"),
    [
        (b"192.0.2.1", (b"\xc0\0\2\1", 628)),
        (b"192.0.2.1:1628", (b"\xc0\0\2\1", 1628)),
        (b"192.0.2.1:", (b"\xc0\0\2\1", 628)),
        (b"192.0.2.1:0", (b"\xc0\0\2\1", 628)),
        (b"192.0.2.1:65536", (b"\xc0\0\2\1", 628)),
        (b"192.0.2.1:12x", (b"\xc0\0\2\1", 628)),
        (b"0192.256.002.1 the first", (b"\xc0\0\2\1", 628)),  # as ip_scan reads it
        (b"::1", (bytes(15) + b"\1", 628)),
        (b"[::1]", (bytes(15) + b"\1", 628)),
        (b"[::1]:1628", (bytes(15) + b"\1", 1628)),
        (b"192.0.2", None),
        (b"mail.example", None),
        (b"[mail]:1", None),
        (b"", None),
    ],
)
def test_a_server_is_an_address_and_perhaps_a_port(line: bytes, address: tuple[bytes, int] | None) -> None:
    assert qmqpservers.parse(line) == address


@given(st.binary(max_size=40))
def test_any_line_is_a_server_or_none(line: bytes) -> None:
    found = qmqpservers.parse(line)
    assert found is None or (len(found[0]) in (4, 16) and 0 < found[1] < 65536)
