"""maildirname - names of messages in a Maildir, as paths from the Maildir: new/UNIQUE, cur/UNIQUE:2,FLAGS. Pure."""

NEW = b"new/"
CUR = b"cur/"


def unique(path: bytes) -> bytes:
    """The part of a message's name that outlives its moves and flags: what UIDL shows (qmail-pop3d: up to the first
    colon). A CR or LF, which a file's name may hold and a line of a reply may not, shows as =0D or =0A."""
    name = path[len(NEW) :].partition(b":")[0]
    return name.replace(b"\r", b"=0D").replace(b"\n", b"=0A")


def seen(path: bytes) -> bytes | None:
    """Where a reader moves a message that it has shown; None for one that is in cur/ already."""
    return CUR + path[len(NEW) :] + b":2," if path.startswith(NEW) else None
