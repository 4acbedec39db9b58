"""interfaces - the addresses of this machine, asked of the kernel: rtnetlink(7), both families in one question."""

import _socket
import sys

ROUTE = 0  # NETLINK_ROUTE
ERROR, DONE = 2, 3  # kinds of messages
NEW_ADDRESS, GET_ADDRESS = 20, 22
REQUEST_DUMP = 0x301  # NLM_F_REQUEST, NLM_F_DUMP

HEADER, ADDRESS_HEADER = 16, 8  # bytes
ADDRESS, LOCAL = 1, 2  # IFA_: where they differ, at the end of a tunnel, LOCAL is ours

LARGEST = 1 << 16  # bytes that come at once


def addresses() -> frozenset[bytes]:
    """All of them, 4 or 16 bytes each, also those of interfaces that are down. Raises OSError."""
    found: set[bytes] = set()
    sock = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, ROUTE)
    try:
        request = _numbers(2, GET_ADDRESS, REQUEST_DUMP) + bytes(8 + ADDRESS_HEADER)
        sock.send(_numbers(4, 4 + len(request)) + request)
        while not _read(sock.recv(LARGEST), found):
            pass
    finally:
        sock.close()
    return frozenset(found)


def _numbers(size: int, *numbers: int) -> bytes:
    return b"".join([number.to_bytes(size, sys.byteorder) for number in numbers])


def _number(message: bytes, at: int, size: int) -> int:
    return int.from_bytes(message[at : at + size], sys.byteorder)


def _read(messages: bytes, found: set[bytes]) -> bool:
    """Take the addresses out of some messages; True if no more follow. Raises OSError."""
    at = 0
    while at + HEADER <= len(messages):
        length, kind = _number(messages, at, 4), _number(messages, at + 4, 2)
        if kind == ERROR:
            raise OSError(-int.from_bytes(messages[at + HEADER : at + HEADER + 4], sys.byteorder, signed=True), "")
        if kind == DONE or length < HEADER:
            return True
        if kind == NEW_ADDRESS:
            found.add(_own(messages[at + HEADER + ADDRESS_HEADER : at + length]))
        at += (length + 3) & ~3
    return not messages


def _own(attributes: bytes) -> bytes:
    values = {}
    at = 0
    while (length := _number(attributes, at, 2)) >= 4:
        values[_number(attributes, at + 2, 2)] = attributes[at + 4 : at + length]
        at += (length + 3) & ~3
    return values.get(LOCAL) or values.get(ADDRESS, b"")
