import errno
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import cdblib  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmailpy.formats import cdb
from tests.helpers import needs

Records = list[tuple[bytes, bytes]]
KEYS = st.one_of(st.binary(max_size=3), st.binary(max_size=300))
RECORDS = st.lists(
    st.tuples(KEYS, st.one_of(st.binary(max_size=20), st.binary(min_size=230, max_size=300))), max_size=60
)


def reader(file: bytes) -> Callable[[int, int], bytes]:
    return lambda position, length: file[position : position + length]


def made(records: Records) -> bytes:
    return b"".join(cdb.make(records))


def find(file: bytes, key: bytes) -> bytes | None:
    return cdb.find(reader(file), key)


@given(st.binary(max_size=100))
def test_the_hash_is_that_of_other_implementations(key: bytes) -> None:
    assert cdb.hash32(key) == cdblib.djb_hash(key)


@given(RECORDS, KEYS)
def test_the_first_record_of_a_key_is_found_and_no_other(records: Records, absent: bytes) -> None:
    file = made(records)
    first = dict(reversed(records))
    for key, data in first.items():
        assert find(file, key) == data
    if absent not in first:
        assert find(file, absent) is None


@given(RECORDS)
def test_another_reader_finds_all_records_in_their_order(records: Records) -> None:
    assert cdblib.Reader(made(records)).items() == records


@given(RECORDS)
def test_a_file_of_another_writer_is_read(records: Records) -> None:
    with tempfile.TemporaryFile() as f:
        with cdblib.Writer(f) as writer:
            for key, data in records:
                writer.put(key, data)
        f.seek(0)
        file = f.read()
    for key, data in dict(reversed(records)).items():
        assert find(file, key) == data


@settings(max_examples=20)
@given(RECORDS)
def test_tinycdb_reads_what_is_written_and_writes_what_is_read(records: Records) -> None:
    tinycdb = needs("cdb")
    text = b"".join([b"+%d,%d:%s->%s\n" % (len(key), len(data), key, data) for key, data in records]) + b"\n"
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "theirs")
        ours.write_bytes(made(records))
        assert subprocess.run([tinycdb, "-d", ours], capture_output=True, check=True).stdout == text
        subprocess.run([tinycdb, "-c", "-t", f"{folder}/tmp", theirs], input=text, check=True)
        for key, data in dict(reversed(records)).items():
            assert find(theirs.read_bytes(), key) == data


def test_the_empty_file_has_the_end_of_the_header_for_all_tables() -> None:
    assert made([]) == bytes([0, 8, 0, 0, 0, 0, 0, 0]) * 256


def test_nothing_comes_out_before_the_last_record_is_in() -> None:
    records = iter([(b"a", b""), (b"b", b"")])
    assert next(cdb.make(records))
    assert next(records, None) is None


class Huge(bytes):
    """Claims two gigabytes."""

    def __len__(self) -> int:
        return 1 << 31


def test_more_than_four_gigabytes_are_refused_before_the_first_chunk() -> None:
    with pytest.raises(cdb.TooLarge):
        next(cdb.make([(b"a", Huge()), (b"b", Huge())]))


def test_tables_beyond_four_gigabytes_are_refused_before_the_first_chunk() -> None:
    class Filling(bytes):
        def __len__(self) -> int:
            return cdb.LIMIT - cdb.HEADER - 9

    assert next(cdb.make([(b"", b"")]))
    with pytest.raises(cdb.TooLarge):
        next(cdb.make([(b"", Filling())]))


@given(st.data())
def test_a_damaged_file_gives_an_answer_or_a_protocol_error(data: st.DataObject) -> None:
    file = bytearray(made([(b"key", b"data"), (b"another", b"x" * 300), (b"", b"")]))
    for _ in range(data.draw(st.integers(0, 8))):
        at = data.draw(st.one_of(st.integers(0, 2047), st.integers(2048, len(file) - 1)))
        file[at] = data.draw(st.sampled_from([0, 1, 2, 8, 127, 255]))
    damaged = bytes(file[: data.draw(st.one_of(st.just(len(file)), st.integers(0, len(file))))])
    for key in b"key", b"another", b"", b"absent":
        try:
            find(damaged, key)
        except OSError as e:
            assert e.errno == errno.EPROTO


def test_a_file_cut_short_never_denies_a_record_that_it_had() -> None:
    file = made([(b"key", b"data"), (b"another", b"x" * 300)])
    for length in range(len(file)):
        for key, data in (b"key", b"data"), (b"another", b"x" * 300):
            try:
                assert find(file[:length], key) == data
            except OSError as e:
                assert e.errno == errno.EPROTO


def test_a_full_table_without_the_key_is_read_once_and_ends() -> None:
    key, slots = b"key", 1000
    taken = cdb.PAIR.pack(cdb.hash32(b"key"), 2048)  # the right hash, but the record of another key
    file = cdb.PAIR.pack(2048 + 11, slots) * 256 + cdb.PAIR.pack(3, 0) + b"yek" + taken * slots
    asked = 0

    def read(position: int, length: int) -> bytes:
        nonlocal asked
        if position >= 2048 + 11:
            asked += length
        return file[position : position + length]

    assert cdb.find(read, key) is None
    assert asked == 8 * slots


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=300)), max_size=20))
def test_all_records_come_in_their_order(pairs: list[tuple[bytes, bytes]]) -> None:
    assert list(cdb.records(made(pairs))) == pairs


@given(st.binary(max_size=3000))
def test_records_of_any_bytes_end(data: bytes) -> None:
    try:
        assert sum(8 + len(key) + len(value) for key, value in cdb.records(data)) <= len(data)
    except OSError as e:
        assert e.errno == errno.EPROTO


def test_records_of_a_file_cut_short_are_an_error() -> None:
    file = made([(b"key", b"data"), (b"another", b"x" * 300)])
    for length in range(2048 + 11 + 4 + 300):
        with pytest.raises(OSError):
            list(cdb.records(file[:length]))
