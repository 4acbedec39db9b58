"""qmqpservers - the lines of control/qmqpservers: where qmail-qmqpc finds its servers. Pure."""

from qmailpy.formats import dns, numbers
from qmailpy.formats.addresses import parse_ipv6

PORT = 628


def parse(text: bytes) -> tuple[bytes, int] | None:
    """(address, port) of a line: 192.0.2.1, 192.0.2.1:1628, 2001:db8::1 or [2001:db8::1]:1628. None
    for what is no address. IPv4 is read as by ip_scan of the original: octets modulo 256, anything may follow."""
    ip, length = dns.scan4(text)
    if ip:
        return ip, _port(text[length:])
    rest = b""
    if text.startswith(b"["):
        text, _, rest = text[1:].partition(b"]")
    packed = parse_ipv6(text)
    return None if packed is None else (packed, _port(rest))


def _port(text: bytes) -> int:
    """The port in `:1628`; the usual one if anything else stands there."""
    port, length = numbers.scan(text[1:])
    return port if text[:1] == b":" and length == len(text) - 1 and 0 < port < 65536 else PORT
