"""completion - addresses that people write become whole ones: joe is joe@defaulthost, joe@mail is
joe@mail.defaultdomain, joe@mail+ is joe@mail.plusdomain; qmail-header(5). Pure."""

from qmailpy.formats.addresses822 import AT, ATOM, COLON, DOT, LITERAL, Tokens, parse


class Completion:
    """The three names, as reversed tokens."""

    __slots__ = ("_domain", "_host", "_plus")

    def __init__(self, host: bytes, domain: bytes, plus: bytes) -> None:
        """Raises Unparsable."""
        self._domain = parse(b"." + domain)[::-1]
        self._host = parse(b"@" + host)[::-1]
        self._plus = parse(b"." + plus)[::-1]

    def complete(self, address: Tokens) -> None:
        """Complete an address, a reversed list, in place. The empty one and those at @[] are left alone."""
        if address[:2] == [(LITERAL, b""), (AT, b"@")]:
            return
        _drop_route(address)
        for kind in (DOT, AT):
            if address and address[0][0] == kind:
                del address[0]
        if not address:
            return
        if not any(kind == AT for kind, _ in address):
            address[:0] = self._host
        kind, text = address[0]
        if kind == ATOM and text.endswith(b"+"):
            address[:1] = [*self._plus, (ATOM, text[:-1])]
        if _lacks_domain(address):
            address[:0] = self._domain


def _drop_route(address: Tokens) -> None:
    """@a,@b:user@host is user@host (RFC 1123 section 5.3.3)."""
    if address and address[-1][0] == AT:
        while address and address.pop()[0] != COLON:
            pass


def _lacks_domain(address: Tokens) -> bool:
    """Whether the host has no dot and is no literal."""
    for kind, _ in address:
        if kind == AT:
            return True
        if kind in (DOT, LITERAL):
            return False
    return True
