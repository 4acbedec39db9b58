"""The notation of `cat -v`."""

import subprocess

from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats.visible import visible
from tests.helpers import needs


def test_every_byte_looks_as_cat_v_shows_it() -> None:
    everything = b"".join(bytes((byte, 97, byte)) for byte in range(256))
    shown = subprocess.run([needs("cat"), "-v"], input=everything, capture_output=True, check=True).stdout
    assert visible(everything) == shown


@given(first=st.binary(), second=st.binary())
def test_what_comes_out_is_plain_and_needs_no_memory(first: bytes, second: bytes) -> None:
    shown = visible(first + second)
    assert shown == visible(first) + visible(second)
    assert all(byte in b"\t\n" or 32 <= byte < 127 for byte in shown)
    assert visible(shown) == shown
