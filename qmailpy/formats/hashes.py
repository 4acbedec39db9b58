"""hashes - what a stored password hash tells of itself, whichever library can check it. Pure."""

SHORTEST = 13  # crypt(5), the traditional method


def method(stored: bytes) -> bytes:
    """How stored was made: `$6$` of `$6$salt$...`, `{SSHA}` of `{ssha}...`; nothing for the traditional method."""
    if stored.startswith(b"$"):
        return stored[: stored.find(b"$", 1) + 1]
    if stored.startswith(b"{"):
        return stored[: stored.find(b"}") + 1].upper()
    return b""


def locked(stored: bytes) -> bool:
    """Whether no password opens this: an empty one, a word such as `x` or `*LK*`, anything behind `!` or `*`."""
    return stored.startswith((b"!", b"*")) or (len(stored) < SHORTEST and not method(stored))


def typical(stored: list[bytes]) -> bytes:
    """The first of those hashes that were made by the most common method; b"" if there is none that is not locked.

    Checking a password against it takes as long as a login usually does, so unknown names can be given that time.
    """
    by_method: dict[bytes, list[bytes]] = {}
    for one in stored:
        if not locked(one):
            by_method.setdefault(method(one), []).append(one)
    return max(by_method.values(), key=len)[0] if by_method else b""
