"""cdb - Bernstein's constant database (cr.yp.to/cdb/cdb.txt). Pure: makes the bytes of a file, and finds a record
through a function that reads a piece of one.

    2048 bytes   256 times: position of a hash table, number of its slots
    records      length of key, length of data, key, data; in the order given
    256 tables   slots: hash, position of a record; position 0 for a free slot

All numbers have 32 bits, little-endian. A key belongs to table hash % 256, and there to the first free slot from
hash / 256 % slots on, cyclically; a table has twice as many slots as entries. The file is byte for byte that of
the originals' cdb_make: entries of a table in the order of the records, and for a table without slots the
position that the file has reached, not 0.
"""

import errno
from struct import Struct
from struct import error as Unpackable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HASH_START = 5381
MASK = 0xFFFFFFFF
HEADER = 2048  # bytes
LIMIT = MASK  # bytes: positions have 32 bits

PAIR = Struct("<LL")
unpack_from = PAIR.unpack_from
HEADER_PAIRS = Struct("<512L")

BLOCK = 4096  # records joined at once while they wait for the header: fewer objects
FIRST_PROBE = 8  # slots read at once; as half of the slots are free, one read is nearly always enough
PROBE_LIMIT = 4096  # slots
USUAL_DATA = 240  # bytes of data read together with the key


class TooLarge(Exception):
    """The file would have more than 4 GiB, or one of its parts would."""


def hash32(key: bytes) -> int:
    """The hash of cdb: 32 bits."""
    h = HASH_START
    for byte in key:
        h = (h * 33 ^ byte) & MASK
    return h


def _hashes(keys: list[bytes]) -> "list[int]":
    """hash32 of many keys, about four times as fast: keys of equal length are hashed together, in 64-bit lanes
    of one big number, which hold the 38 bits of h * 33."""
    found = [0] * len(keys)
    by_length: dict[int, list[int]] = {}
    for index, key in enumerate(keys):
        by_length.setdefault(len(key), []).append(index)
    for length, indexes in by_length.items():
        joined = b"".join([keys[index] for index in indexes])
        size = 8 * len(indexes)
        one = int.from_bytes(b"\1\0\0\0\0\0\0\0" * len(indexes), "little")
        mask = one * MASK
        column = bytearray(size)
        lanes = one * HASH_START
        for at in range(length):
            column[::8] = joined[at::length]
            lanes = lanes * 33 & mask ^ int.from_bytes(column, "little")
        values = Struct(f"<{len(indexes)}Q").unpack(lanes.to_bytes(size, "little"))
        for index, value in zip(indexes, values, strict=True):
            found[index] = value
    return found


def _table(entries: list[int]) -> bytes:
    """One hash table; an entry is a slot's eight bytes as a number, hash + position * 2**32."""
    size = 2 * len(entries)
    slots = [0] * size
    for entry in entries:
        where = ((entry & MASK) >> 8) % size
        while slots[where]:
            where += 1
            if where == size:
                where = 0
        slots[where] = entry
    return Struct(f"<{size}Q").pack(*slots)


def make(records: "Iterable[tuple[bytes, bytes]]") -> "Iterator[bytes]":
    """The file that holds records, (key, data), as chunks in file order. Raises TooLarge before the first chunk.

    Nothing comes out before the last record is in, as the header depends on all of them. Until then it keeps the
    bytes of the records, and some 40 more for each.
    """
    position = HEADER
    blocks = []
    parts: list[bytes] = []
    keys: list[bytes] = []
    positions: list[int] = []
    tables: list[list[int]] = [[] for _ in range(256)]

    def settle() -> None:
        for at, h in zip(positions, _hashes(keys), strict=True):
            tables[h & 255].append(at << 32 | h)
        blocks.append(b"".join(parts))
        for pending in parts, keys, positions:
            pending.clear()

    pack = PAIR.pack
    for key, data in records:
        positions.append(position)
        keys.append(key)
        position += 8 + len(key) + len(data)
        if position > LIMIT:
            raise TooLarge
        parts += pack(len(key), len(data)), key, data
        if len(keys) == BLOCK:
            settle()
    settle()

    header: list[int] = []
    for entries in tables:
        header += position, 2 * len(entries)
        position += 16 * len(entries)
        if position > LIMIT:
            raise TooLarge
    yield HEADER_PAIRS.pack(*header)
    yield from blocks
    for entries in tables:
        yield _table(entries)


def find(read, key: bytes) -> bytes | None:  # type: ignore[no-untyped-def]
    """Data of the first record with that key, or None.

    read(position, length) returns length bytes of the file from position on, fewer only at its end. A file that
    points beyond its end raises OSError(EPROTO), as in the originals. Whatever the file says, no slot is read
    twice.
    """
    h = HASH_START  # hash32, _pair: one function, as each one more costs a process that was just forked some pages
    for byte in key:
        h = (h * 33 ^ byte) & MASK
    try:
        table, slots = unpack_from(read((h & 255) * 8, 8))
        if not slots:
            return None
        first = (h >> 8) % slots
        slot, end, probe = first, slots, FIRST_PROBE
        while True:
            count = min(probe, end - slot)
            piece = read(table + 8 * slot, 8 * count)
            for at in range(0, 8 * count, 8):
                found, position = unpack_from(piece, at)
                if not position:
                    return None
                if found != h:
                    continue
                start = 8 + len(key)
                record: bytes = read(position, start + USUAL_DATA)
                key_length, length = unpack_from(record)
                if key_length != len(key):
                    continue
                if len(record) < start:
                    raise _cut_short()
                if record[8:start] != key:
                    continue
                data: bytes = record[start : start + length] if length <= USUAL_DATA else read(position + start, length)
                if len(data) < length:
                    raise _cut_short()
                return data
            slot += count
            probe = min(2 * probe, PROBE_LIMIT)
            if slot >= end:
                if end == first or not first:
                    return None
                slot, end = 0, first
    except Unpackable:
        raise _cut_short() from None


def _pair(piece: bytes, at: int) -> tuple[int, int]:
    if len(piece) < at + 8:
        raise _cut_short()
    pair: tuple[int, int] = PAIR.unpack_from(piece, at)
    return pair


def _cut_short() -> OSError:
    return OSError(errno.EPROTO, "cdb is cut short")


def records(data: bytes) -> "Iterator[tuple[bytes, bytes]]":
    """Key and data of each record of a whole file, in their order. Raises OSError(EPROTO) as find does."""
    if len(data) < HEADER:
        raise _cut_short()
    end = min(HEADER_PAIRS.unpack_from(data)[::2])
    position = HEADER
    while position < end:
        key_length, length = _pair(data, position)
        middle = position + 8 + key_length
        position = middle + length
        if position > end or end > len(data):
            raise _cut_short()
        yield data[middle - key_length : middle], data[middle:position]
