"""syslog - one line of a log as a packet for the local log service, in three forms. Pure.

    bsd        what syslog(3) of the C library sends to /dev/log (RFC 3164)
    rfc5424    its successor, with the year, microseconds and UTC
    journal    systemd's own: fields, of which the text is one

A number holds both priority and facility.
"""

from _collections_abc import Sequence

# Priorities, the lower three bits, and facilities, above them: syslog.h.
ALERT, WARNING, INFO = 1, 4, 6
USER = 1 << 3
MAIL = 2 << 3
FACILITIES = 0x3F8  # the bits; syslog(3) takes numbers beyond for nothing said

LONGEST = 799  # bytes of a text, splogger of qmail

MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")

# What is not printable might mean something to a terminal, or to the service.
PRINTABLE = bytes(byte if 32 <= byte <= 126 else ord("?") for byte in range(256))
GRAPHIC = bytes(byte if 33 <= byte <= 126 else ord("?") for byte in range(256))  # RFC 5424 §6: PRINTUSASCII
NAME_SIZE, HOST_SIZE = 48, 255  # bytes, RFC 5424 §6

BEGINNINGS = ((b"warning:", WARNING), (b"alert:", ALERT))

Time = Sequence[int]  # year, month, day, hour, minute, second, maybe more: as of time.localtime


def facility(number: int) -> int:
    """The facility that syslog(3) uses for a number."""
    shifted = number << 3 & 0xFFFFFFFF
    return USER if shifted & ~FACILITIES else shifted


def printable(text: bytes) -> bytes:
    """text with a question mark for each byte that is not printable."""
    return text.translate(PRINTABLE)


def priority(text: bytes) -> int:
    """By its first word."""
    for beginning, number in BEGINNINGS:
        if text.startswith(beginning):
            return number
    return INFO


def bsd(number: int, local: Time, tag: bytes, text: bytes) -> bytes:
    """local: local time."""
    _, month, day, hour, minute, second = local[:6]
    when = b"%s %2d %02d:%02d:%02d" % (MONTHS[month - 1], day, hour, minute, second)
    return b"<%d>%s %s: %s" % (number, when, tag, text)


def _when(utc: Time, microseconds: int) -> bytes:
    """RFC 3339."""
    return b"%04d-%02d-%02dT%02d:%02d:%02d.%06dZ" % (*utc[:6], microseconds)


def rfc5424(number: int, utc: Time, microseconds: int, host: bytes, tag: bytes, text: bytes) -> bytes:
    """utc, microseconds: the time; host and tag may be empty or anything."""
    host = host.translate(GRAPHIC)[:HOST_SIZE] or b"-"
    tag = tag.translate(GRAPHIC)[:NAME_SIZE] or b"-"
    return b"<%d>1 %s %s %s - - - %s" % (number, _when(utc, microseconds), host, tag, text)


def journal(number: int, utc: Time, microseconds: int, tag: bytes, text: bytes) -> bytes:
    """utc, microseconds: the time; tag may be anything."""
    fields = (
        (b"MESSAGE", text),
        (b"PRIORITY", b"%d" % (number & 7)),
        (b"SYSLOG_FACILITY", b"%d" % (number >> 3)),
        (b"SYSLOG_IDENTIFIER", tag),
        (b"SYSLOG_TIMESTAMP", _when(utc, microseconds)),
    )
    return b"".join([_field(name, value) for name, value in fields])


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return b"%s\n%s%s\n" % (name, len(value).to_bytes(8, "little"), value)
    return b"%s=%s\n" % (name, value)
