"""TAI64N: the originals' example, both ways, and order."""

from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import tai64n

TIMES = st.integers(min_value=0, max_value=(1 << 62) * tai64n.SECOND)


def test_the_example_of_the_tai_page() -> None:
    assert tai64n.label(0) == b"@400000000000000a00000000"
    assert tai64n.label(1_795_400_000_123_456_789) == b"@400000006b03a14a075bcd15"
    assert tai64n.pack(-10 * tai64n.SECOND) == (1 << 62).to_bytes(8, "big") + bytes(4)


@given(TIMES)
def test_what_is_packed_is_unpacked(ns: int) -> None:
    assert tai64n.unpack(tai64n.pack(ns)) == ns
    assert tai64n.label(ns) == b"@" + tai64n.pack(ns).hex().encode()
    assert len(tai64n.label(ns)) == tai64n.LABEL_SIZE


@given(TIMES, TIMES)
def test_labels_sort_by_time(one: int, other: int) -> None:
    assert (one < other) == (tai64n.label(one) < tai64n.label(other))


@given(st.binary(min_size=12, max_size=40))
def test_any_bytes_are_a_time(packed: bytes) -> None:
    tai64n.unpack(packed)
