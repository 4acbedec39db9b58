"""tcpto - the table of IPv4 hosts that did not answer in time, HOME/queue/lock/tcpto. Pure.

64 records of 16 bytes:

    0  to 3     the address
    4           how often it was too slow lately, 0 to 10; 0 is a record that is free
    8  to 11    when it was so last, in seconds since 1970, low byte first
    others      not used, and left as they are

A file that is shorter has fewer records, and what is behind the 64th is not looked at."""

RECORD = 16  # bytes
SIZE = 1024  # bytes

MOST = 10  # the count that stays


class Entry:
    """A record, and where in the file it is."""

    __slots__ = ("count", "ip", "position", "when")

    def __init__(self, position: int, record: bytes) -> None:
        self.position = position
        self.ip = record[:4]
        self.count = record[4]
        self.when = int.from_bytes(record[8:12], "little")


def entries(table: bytes) -> list[Entry]:
    """All records, free ones too."""
    whole = min(len(table), SIZE) // RECORD * RECORD
    return [Entry(at, table[at : at + RECORD]) for at in range(0, whole, RECORD)]


def find(table: bytes, ip: bytes) -> Entry | None:
    """The first record of an address, of 4 bytes; it may be free."""
    at = table.find(ip, 0, SIZE)
    while at % RECORD:  # not where an address stands; -1 too
        if at < 0:
            return None
        at = table.find(ip, at + 1, SIZE)
    return Entry(at, table[at : at + RECORD]) if at + RECORD <= len(table) else None


def changed(table: bytes, position: int, ip: bytes, count: int, when: int) -> bytes:
    """The record at a position with other contents."""
    record = table[position : position + RECORD]
    return ip + bytes((count,)) + record[5:8] + (when & 0xFFFFFFFF).to_bytes(4, "little") + record[12:]
