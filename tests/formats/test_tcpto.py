"""The table of hosts that did not answer: its records."""

from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import tcpto

IP = b"\xc0\0\2\7"
RECORD = IP + b"\3abc" + b"\x04\x03\x02\x01" + b"defg"


def test_a_record_has_address_count_and_time() -> None:
    table = bytes(32) + RECORD + bytes(16)
    entry = tcpto.entries(table)[2]
    assert (entry.position, entry.ip, entry.count, entry.when) == (32, IP, 3, 0x01020304)
    assert [entry.count for entry in tcpto.entries(table)] == [0, 0, 3, 0]


def test_the_first_record_of_an_address_is_found() -> None:
    table = bytes(8) + IP + bytes(4) + RECORD + IP + bytes(12)  # first where no address stands
    entry = tcpto.find(table, IP)
    assert entry is not None
    assert (entry.position, entry.count) == (16, 3)
    assert tcpto.find(table, b"\1\2\3\4") is None
    assert tcpto.find(bytes(1024) + RECORD, IP) is None
    assert tcpto.find(IP + b"\3", IP) is None


def test_a_changed_record_keeps_what_it_does_not_use() -> None:
    assert tcpto.changed(RECORD, 0, b"\1\2\3\4", 9, 0x105060708) == b"\1\2\3\4\x09abc\x08\x07\x06\x05defg"


@given(st.binary(max_size=1100), st.binary(min_size=4, max_size=4))
def test_any_file_is_a_table(table: bytes, ip: bytes) -> None:
    entries = tcpto.entries(table)
    assert len(entries) == min(len(table), 1024) // 16
    found = tcpto.find(table, ip)
    first = next((entry for entry in entries if entry.ip == ip), None)
    assert (found and found.position) == (first and first.position)
