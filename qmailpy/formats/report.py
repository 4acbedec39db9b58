"""report - qmail-queue's exit codes, and what each is called (qmail_close of the originals). Pure.

A text begins with a letter: D permanent, Z temporary; the empty text is success. This is the only place that
translates these codes."""

QUEUED = 0
ADDRESS_TOO_LONG = 11
REJECTED = 31
NO_MEMORY = 51
TIMEOUT = 52
WRITE_ERROR = 53
READ_ERROR = 54
NO_CONFIGURATION = 55
NO_NETWORK = 56
NO_HOME = 61
NO_QUEUE = 62
NO_PID = 63
NO_MESS = 64
NO_INTD = 65
NO_TODO = 66
DEFERRED = 71
CONNECT_TIMEOUT = 72
CONNECT_REJECTED = 73
NO_COMMUNICATION = 74
BUG = 81
OWN_TEXT = 82  # notqmail: the text stands on descriptor 6
OWN_TEXT_PATCH = 88  # the same of the custom error patch
BAD_ENVELOPE = 91
ADDRESS_TOO_LONG_ONCE = 115  # of old replacements of qmail-queue
NOT_RUN = 120

_FILES = b"Zqq trouble creating files in queue (#4.3.0)"
_BUG = b"Zqq internal bug (#4.3.0)"
_TOO_LONG = b"Denvelope address too long for qq (#5.1.3)"

EXITS = {
    QUEUED: b"",
    ADDRESS_TOO_LONG: _TOO_LONG,
    ADDRESS_TOO_LONG_ONCE: _TOO_LONG,
    REJECTED: b"Dmail server permanently rejected message (#5.3.0)",
    NO_MEMORY: b"Zqq out of memory (#4.3.0)",
    TIMEOUT: b"Zqq timeout (#4.3.0)",
    WRITE_ERROR: b"Zqq write error or disk full (#4.3.0)",
    READ_ERROR: b"Zqq read error (#4.3.0)",
    NO_CONFIGURATION: b"Zqq unable to read configuration (#4.3.0)",
    NO_NETWORK: b"Zqq trouble making network connection (#4.3.0)",
    NO_HOME: b"Zqq trouble in home directory (#4.3.0)",
    NO_QUEUE: _FILES,
    NO_PID: _FILES,
    NO_MESS: _FILES,
    NO_INTD: _FILES,
    NO_TODO: _FILES,
    DEFERRED: b"Zmail server temporarily rejected message (#4.3.0)",
    CONNECT_TIMEOUT: b"Zconnection to mail server timed out (#4.4.1)",
    CONNECT_REJECTED: b"Zconnection to mail server rejected (#4.4.1)",
    NO_COMMUNICATION: b"Zcommunication with mail server failed (#4.4.2)",
    BUG: _BUG,
    BAD_ENVELOPE: _BUG,
    NOT_RUN: b"Zunable to exec qq (#4.3.0)",
}

PERMANENT = range(11, 41)
OTHER_PERMANENT = b"Dqq permanent problem (#5.3.0)"
OTHER_TEMPORARY = b"Zqq temporary problem (#4.3.0)"

CRASHED = b"Zqq crashed (#4.3.0)"  # killed by a signal
NOT_WAITED = b"Zqq waitpid surprise (#4.3.0)"

OWN_SIZE = 255  # bytes of descriptor 6 that are read
_LINE = bytes(byte if byte > 31 and byte != 127 else ord(" ") for byte in range(256))


def _own(said: bytes) -> bytes:
    """What a program said on descriptor 6, as one line: it goes into replies and logs. b"" if it is no such text."""
    line = said[:OWN_SIZE].partition(b"\0")[0].rstrip().translate(_LINE)
    return line if len(line) > 2 and line[:1] in (b"D", b"Z") else b""


def text(code: int, said: bytes = b"") -> bytes:
    """What an exit code means; said is what the program wrote on descriptor 6, if that was open."""
    if code in (OWN_TEXT, OWN_TEXT_PATCH) and _own(said):
        return _own(said)
    return EXITS.get(code, OTHER_PERMANENT if code in PERMANENT else OTHER_TEMPORARY)


def status_text(status: int, said: bytes = b"") -> bytes:
    """The same for a status of waitpid(2)."""
    return CRASHED if status & 127 else text(status >> 8 & 255, said)
