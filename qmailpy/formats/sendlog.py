"""sendlog - the lines of qmail-send's log, as qmailanalog and its like read them. Pure.

No line holds a time: whoever writes the log adds that. In what comes from outside a newline is shown as a slash, and
all that is not a letter, a digit or a sign as an underscore, spaces and percent signs too.
"""

_SAFE = bytes(
    ord("/") if byte == 10 else ord("_") if byte < 33 or byte > 126 or byte == ord("%") else byte for byte in range(256)
)

TO = (b"to local ", b"to remote ")

SUCCESS, DEFERRAL, FAILURE = b"success", b"deferral", b"failure"

EXITING = b"status: exiting\n"


def safe(text: bytes) -> bytes:
    """text as a log may show it."""
    return text.translate(_SAFE)


def new(number: int) -> bytes:
    """A message is being preprocessed."""
    return b"new msg %d\n" % number


def info(number: int, size: int, sender: bytes, pid: int, uid: int) -> bytes:
    """What is known of it: the size of mess, and who has queued it."""
    return b"info msg %d: bytes %d from <%s> qp %d uid %d\n" % (number, size, safe(sender), pid, uid)


def start(serial: int, number: int, channel: int, recipient: bytes) -> bytes:
    """A delivery begins; channel: 0 is local, 1 remote."""
    return b"starting delivery %d: msg %d %s%s\n" % (serial, number, TO[channel], safe(recipient))


def result(serial: int, kind: bytes, text: bytes) -> bytes:
    """How it went."""
    return b"delivery %d: %s: %s\n" % (serial, kind, safe(text))


def mangled(serial: int) -> bytes:
    """It has been reported with none of the three letters."""
    return b"delivery %d: report mangled, will defer\n" % serial


def status(local: tuple[int, int], remote: tuple[int, int], exiting: bool) -> bytes:
    """How many deliveries there are, of how many at most."""
    return b"status: local %d/%d remote %d/%d%s\n" % (*local, *remote, b" exitasap" if exiting else b"")


def bounce(number: int, pid: int) -> bytes:
    """The bounce of a message is queued, by process pid."""
    return b"bounce msg %d qp %d\n" % (number, pid)


def discarded(kind: bytes, number: int) -> bytes:
    """Nobody is told of failures; kind: `triple`, or `double` where the postmaster wants none of these."""
    return b"%s bounce: discarding bounce/%d\n" % (kind, number)


def end(number: int) -> bytes:
    """All is done for a message."""
    return b"end msg %d\n" % number


def ordered(word: bytes, number: int, channel: int, recipient: bytes) -> bytes:
    """A recipient is finished without a delivery, as the postmaster has ordered: word is `bounce` or `delete`."""
    return b"order: %s msg %d %s%s\n" % (word, number, TO[channel], safe(recipient))


def warning(text: bytes) -> bytes:
    """Something has failed that will be tried again, or is not needed."""
    return b"warning: %s\n" % text


def alert(text: bytes) -> bytes:
    """Somebody has to do something."""
    return b"alert: %s\n" % text
