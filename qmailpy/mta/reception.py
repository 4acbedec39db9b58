"""reception - whose mail is taken, and for whom: the checks of qmail-smtpd and qmail-qmtpd on an envelope. Pure.

Names in lists match without regard to case, as in the originals, whose constmap takes ASCII letters only for that.
"""

from _collections_abc import Callable, Iterable

# Refusals, at RCPT
BAD_SENDER = b"553 sorry, your envelope sender is in my badmailfrom list (#5.7.1)"
BAD_HELO = b"553 sorry, your HELO host name has been denied (#5.7.1)"
BAD_RECIPIENT = b"553 sorry, your envelope recipient is in my badrcptto list (#5.7.1)"
NO_GATEWAY = b"553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"

LONGEST_NAME = 255  # bytes, RFC 1035 section 2.3.4

List = frozenset[bytes]
More = Callable[[bytes], "bytes | None"]


def folded(lines: "Iterable[bytes] | None") -> "List | None":
    """The lines of a control file, for the questions below; None if there is no file."""
    return None if lines is None else frozenset([line.lower() for line in lines])


def suffixes(host: bytes) -> list[bytes]:
    """What a list may name host by: host itself, then what is left from each of its dots on. What is too long for a
    name is passed over: of 12 kB of dots there would be 75 MB."""
    host = host.lower()
    found = [host] if host else []
    at = host.find(b".", max(1, len(host) - LONGEST_NAME))
    while at >= 0:
        found.append(host[at:])
        at = host.find(b".", at + 1)
    return found


def allowed(address: bytes, rcpthosts: "List | None", more: "More | None" = None) -> bool:
    """Whether mail for address is taken: its host, or a .suffix of it, stands in rcpthosts or has a record in
    morercpthosts.cdb. more is that file's look-up, and raises what it raises.

    Without rcpthosts every address is, and always one without `@`: that is up to us (rcpthosts() of qmail).
    """
    if rcpthosts is None or b"@" not in address:
        return True
    names = suffixes(address.rpartition(b"@")[2])
    return not rcpthosts.isdisjoint(names) or (more is not None and any(more(name) is not None for name in names))


def listed(address: bytes, bad: "List | None") -> bool:
    """Whether address, or @host for all of its host, stands in a list such as badmailfrom."""
    if not bad:
        return False
    address = address.lower()
    _, at, host = address.rpartition(b"@")
    return address in bad or (at == b"@" and at + host in bad)


class Reception:
    """The checks of one connection, from the control files that there are."""

    __slots__ = ("_bad_helo", "_bad_recipients", "_bad_senders", "_more", "_rcpthosts")

    def __init__(
        self,
        rcpthosts: "List | None" = None,
        more: "More | None" = None,
        bad_senders: "List | None" = None,
        bad_recipients: "List | None" = None,
        bad_helo: "List | None" = None,
    ) -> None:
        self._rcpthosts = rcpthosts
        self._more = more
        self._bad_senders = bad_senders
        self._bad_recipients = bad_recipients
        self._bad_helo = bad_helo

    def refusal(self, helo: bytes | None, sender: bytes, recipient: bytes, relay: bool) -> bytes:
        """Why mail from sender is not taken for recipient, a whole reply; b"" if it is. relay: RELAYCLIENT is set.

        badmailfrom comes first, as in the original; a client that may relay is not asked for a good name.
        """
        if listed(sender, self._bad_senders):
            return BAD_SENDER
        if helo and not relay and self._bad_helo and not self._bad_helo.isdisjoint(suffixes(helo)):
            return BAD_HELO
        if listed(recipient, self._bad_recipients):
            return BAD_RECIPIENT
        return b"" if relay or allowed(recipient, self._rcpthosts, self._more) else NO_GATEWAY
