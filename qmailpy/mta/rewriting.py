"""rewriting - which channel a recipient takes and under which address: locals, percenthack, virtualdomains. Pure.

The rules are those of qmail-send(8), in this order:

    no @                   @ and envnoathost are added; the host is what follows the last @
    host in percenthack    box%host@listed becomes box@host, as often as it goes
    host in locals         local
    in virtualdomains      local, with the prefix and a - in front. The first key found of: the whole address, the host,
                           each end of the host that begins with a dot, the empty key. An empty prefix: remote
    else                   remote

Upper and lower case make no difference to any of these lists, and addresses keep theirs.
"""

LOCAL, REMOTE = 0, 1


def virtual(lines: list[bytes]) -> dict[bytes, bytes]:
    """Key and prefix of each line of virtualdomains; of two with the same key the last one. One without a colon is
    none."""
    found = {}
    for line in lines:
        key, colon, prefix = line.partition(b":")
        if colon:
            found[key.lower()] = prefix
    return found


def _keys(host: bytes) -> list[bytes]:
    """Under what a host may stand in virtualdomains, in lower case."""
    host = host.lower()
    keys = [host]
    at = host.find(b".", 1)
    while at >= 0:
        keys.append(host[at:])
        at = host.find(b".", at + 1)
    keys.append(b"")
    return keys


class Rewriting:
    """lists are lines of control files."""

    __slots__ = ("_locals", "_nowhere", "_percent", "_virtual")

    def __init__(
        self, locals_: list[bytes], percenthack: list[bytes], virtualdomains: list[bytes], envnoathost: bytes
    ) -> None:
        self._nowhere = b"@" + envnoathost
        self._percent = frozenset(host.lower() for host in percenthack)
        self.renew(locals_, virtualdomains)

    def renew(self, locals_: list[bytes], virtualdomains: list[bytes]) -> None:
        """What may change while qmail-send runs."""
        self._locals = frozenset(host.lower() for host in locals_)
        self._virtual = virtual(virtualdomains)

    def rewrite(self, recipient: bytes) -> tuple[int, bytes]:
        """Channel and address."""
        if b"@" not in recipient:
            recipient += self._nowhere
        if self._percent:
            recipient = self._hack(recipient)
        host = recipient.rpartition(b"@")[2]
        if host.lower() in self._locals:
            return LOCAL, recipient
        if self._virtual:
            prefix = self._virtual.get(recipient.lower())
            if prefix is None:
                prefix = self._prefix(host)
            if prefix:
                return LOCAL, b"%s-%s" % (prefix, recipient)
        return REMOTE, recipient

    def _hack(self, recipient: bytes) -> bytes:
        box, _, host = recipient.rpartition(b"@")
        while host.lower() in self._percent:
            rest, percent, host = box.rpartition(b"%")
            if not percent:
                break
            recipient = rest + b"@" + host
            box = rest
        return recipient

    def _prefix(self, host: bytes) -> bytes:
        for key in _keys(host):
            prefix = self._virtual.get(key)
            if prefix is not None:
                return prefix
        return b""

    def strip(self, address: bytes) -> bytes:
        """The address without the prefix of its host, as the sender knows it. That of a single virtual user stays."""
        _, at, host = address.rpartition(b"@")
        prefix = self._prefix(host) if at else b""
        return address[len(prefix) + 1 :] if prefix and address.startswith(prefix + b"-") else address
