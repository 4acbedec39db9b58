"""What spawners say of deliveries; the tests of the commands have the originals beside them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.mta import deliveryreports


@pytest.mark.parametrize(
    ("status", "output", "report"),
    [
        (0, b"did 1+0+0\n", b"Kdid 1+0+0\n"),
        (0, b"", b"K"),
        (0, b"text\0more", b"Ktext"),
        (100 << 8, b"no\n", b"Dno\n"),
        (111 << 8, b"later\n", b"Zlater\n"),
        (71 << 8, b"later\n", b"Zlater\n"),
        (3 << 8, b"no\n", b"Dno\n"),
        (1 << 8, b"no module\n", b"Zno module\n"),
        (127 << 8, b"no libc\n", b"Zno libc\n"),
        (9, b"text", b"Zqmail-local crashed.\n"),
        (139, b"text", b"Zqmail-local crashed.\n"),
        (113 << 8, b"text", b"ZNot allowed to perform deliveries as root.\n"),
        (119 << 8, b"text", b"ZOut of memory in qmail-lspawn.\n"),
        (120 << 8, b"text", b"ZUnable to run qmail-local.\n"),
        (126 << 8, b"text", b"Ztext"),
        (0, b"x" * 3000, b"K" + b"x" * 3000),
        (0, b"x" * 3001, b"K" + b"x" * 2966 + b"\nError report too long, sorry.\n"),
    ],
)
def test_local(status: int, output: bytes, report: bytes) -> None:
    assert deliveryreports.local(status, output) == report


@pytest.mark.parametrize(
    ("status", "output", "report"),
    [
        (0, b"r\0Kaccepted\n\0", b"Kaccepted\n"),
        (0, b"hno\n\0Dgiving up\n\0", b"Dno\ngiving up\n"),
        (0, b"slater\n\0Kaccepted\n\0", b"Zlater\n"),
        (0, b"Zno host\n\0", b"Zno host\n"),
        (0, b"", b"Zqmail-remote produced no output.\n"),
        (0, b"r\0", b"D"),
        (0, b"r" * ((1 << 20) + 1), b"Z"),
        (111 << 8, b"x", b"ZUnable to run qmail-remote.\n"),
        (100 << 8, b"x", b"DUnable to run qmail-remote.\n"),
        (1 << 8, b"x", b"ZUnable to run qmail-remote.\n"),
        (127 << 8, b"x", b"ZUnable to run qmail-remote.\n"),
        (9, b"x", b"Zqmail-remote crashed.\n"),
    ],
)
def test_remote(status: int, output: bytes, report: bytes) -> None:
    assert deliveryreports.remote(status, output) == report


@given(status=st.integers(0, 65535), output=st.binary(max_size=40))
def test_any_report_has_a_letter_and_ends_before_a_nul(status: int, output: bytes) -> None:
    for make in (deliveryreports.local, deliveryreports.remote):
        report = make(status, output)
        assert report[:1] in (b"K", b"Z", b"D")
        assert b"\0" not in report


@given(status=st.integers(1, 65535), output=st.binary(max_size=40))
def test_only_success_is_success(status: int, output: bytes) -> None:
    assert deliveryreports.local(status, output)[:1] != b"K" or status == 128  # a core without a signal there is not
    assert deliveryreports.remote(status, output)[:1] != b"K" or status == 128
