"""fd3 - the packet on descriptor 3 of a checker: NAME\\0PASSWORD\\0STAMP\\0 (checkpassword interface). Pure.

Any string may be empty and hold any byte but NUL. The stamp is whatever else the password depends on, such as
the challenge of APOP; a checker that does not need it finds a packet complete at the second NUL.
"""

LIMIT = 512  # bytes; one more and the password is not acceptable

# Exit codes of a checker; 111 is a temporary problem.
REFUSED = 1
MISUSE = 2
WRONG = frozenset({REFUSED, 3, 12, 13, 15, 20, 21, 22, 23})  # all that mean wrong credentials, vchkpw's among them


class PacketError(Exception):
    """args[0]: int, the exit code with which a checker answers such a packet."""


def build(name: bytes, password: bytes | bytearray, stamp: bytes) -> bytearray:
    """The packet, for the caller to write and then wipe. Raises PacketError: too long, or a NUL in a string,
    behind which the rest of the string would be taken for the next one."""
    packet = bytearray(b"\0").join((name, password, stamp, b""))
    if len(packet) > LIMIT or packet.count(0) != 3:
        wipe(packet)
        raise PacketError(REFUSED)
    return packet


def parse(packet: bytearray) -> tuple[bytes, bytearray, bytes]:
    """(name, password, stamp); the password is a copy of its own, to be wiped. Raises PacketError.

    Too long is decided before malformed, as by the original, which stops reading at byte 513.
    """
    if len(packet) > LIMIT:
        raise PacketError(REFUSED)
    first = packet.find(0)
    second = packet.find(0, first + 1)
    if first < 0 or second < 0:
        raise PacketError(MISUSE)
    stamp = packet[second + 1 :].partition(b"\0")[0]
    return bytes(packet[:first]), packet[first + 1 : second], bytes(stamp)


def wipe(secret: bytearray) -> None:
    """Overwrite in place. Only a bytearray can be: copies in bytes or str stay until their memory is reused."""
    secret[:] = bytes(len(secret))
