"""vpopfields - the fields that vpopmail puts in front of messages, and what it reads of those that qmail-local has
made. Pure."""

from qmailpy.formats import mbox

DELIVERED_TO = b"Delivered-To: "
DATE = b"date: "


def date(seconds: int) -> bytes:
    """The field Date: `Date: Mon, 05 Nov 2001 09:03:07 +0000`."""
    weekday, month, day, clock, year = mbox.ctime(seconds).split()
    return b"Date: %s, %s %s %s %s +0000\n" % (weekday, day, month, year, clock)


def has_date(text: bytes) -> bool:
    """Whether the header of a message has a field Date."""
    header = text.partition(b"\n\n")[0] if not text.startswith(b"\n") else b""
    return any(line[: len(DATE)].lower() == DATE for line in header.split(b"\n"))


def delivered_to(address: bytes) -> bytes:
    """The field that tells where a message has been."""
    return DELIVERED_TO + address + b"\n"


def onward(dtline: bytes | None, address: bytes) -> bytes:
    """That field for a message which is forwarded to address: what qmail-local has found, without the domain and the
    hyphen that stand in front of it for a virtual domain; else the address itself."""
    found = (dtline or b"").removesuffix(b"\n")
    if not found.startswith(DELIVERED_TO) or found == DELIVERED_TO:
        return delivered_to(address)
    name, _, domain = found.removeprefix(DELIVERED_TO).rpartition(b"@")
    prefix = domain + b"-"
    if name[: len(prefix)].lower() == prefix.lower():
        name = name[len(prefix) :]
    return delivered_to(name + b"@" + domain)


def sender(rpline: bytes) -> bytes:
    """The address of a line Return-Path, as it stands there."""
    return rpline.partition(b"<")[2].rpartition(b">")[0]
