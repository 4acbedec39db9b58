"""svstatus - what supervise writes of a service: supervise/status, as the original, and supervise/child, our own. Pure.

status   0-7 TAI seconds, 8-11 nanoseconds, both big-endian: when the service last started or ended
         12-15 its pid, little-endian, 0 if it is down
         16 1 if it is paused; 17 what is wanted: u, d, or NUL after `svc -o`
         daemontools-encore appends two bytes for itself, and 20 more for a log: ignored
child    one line, SCRIPT PID STARTED BOOT: the last process that was started, so that a supervise which
         comes after one that was killed knows it again
"""

from qmailpy.formats import tai64n

SIZE = 18  # bytes
CHILD_SIZE = 128  # bytes
UP, DOWN, ONCE = b"u", b"d", b"\0"


class Status:
    """when: nanoseconds since 1970; pid: 0 if down; paused; want: UP, DOWN, ONCE, or any byte of a foreign file."""

    __slots__ = ("paused", "pid", "want", "when")

    def __init__(self, when: int, pid: int, paused: bool, want: bytes) -> None:
        self.when = when
        self.pid = pid
        self.paused = paused
        self.want = want


def pack(status: Status) -> bytes:
    """The 18 bytes."""
    flags = bytes((status.pid != 0 and status.paused,)) + status.want
    return tai64n.pack(status.when) + status.pid.to_bytes(4, "little") + flags


def parse(text: bytes) -> Status | None:
    """What the first 18 bytes say; None if there are fewer."""
    if len(text) < SIZE:
        return None
    pid = int.from_bytes(text[12:16], "little")
    return Status(tai64n.unpack(text), pid, text[16] != 0, text[17:18])


def seconds(status: Status, now: int) -> int:
    """Since the last change; now in nanoseconds since 1970. A change that is still to come is now."""
    return max(0, now // tai64n.SECOND - status.when // tai64n.SECOND)


def describe(status: Status, now: int, normally_up: bool) -> bytes:
    """svstat's words; now in nanoseconds since 1970, normally_up if there is no file down."""
    words = b"up (pid %d) " % status.pid if status.pid else b"down "
    words += b"%d seconds" % seconds(status, now)
    extra: tuple[tuple[bool, bytes], ...]
    if status.pid:
        extra = (not normally_up, b"normally down"), (status.paused, b"paused"), (status.want == DOWN, b"want down")
    else:
        extra = (normally_up, b"normally up"), (status.want == UP, b"want up")
    return words + b"".join([b", " + text for holds, text in extra if holds])


class Child:
    """A process, known for certain: script: its file, such as b"run"; pid; started: in clock ticks since boot, field
    22 of proc(5)'s stat; boot: which boot, and which pid namespace."""

    __slots__ = ("boot", "pid", "script", "started")

    def __init__(self, script: bytes, pid: int, started: int, boot: bytes) -> None:
        self.script = script
        self.pid = pid
        self.started = started
        self.boot = boot


def pack_child(child: Child) -> bytes:
    """CHILD_SIZE bytes, blanks at the end of the line: written over the one before, for which a full disk has room."""
    words = b"%s %d %d %s" % (child.script, child.pid, child.started, child.boot)
    return words.ljust(CHILD_SIZE - 1) + b"\n"


def parse_child(text: bytes) -> Child | None:
    """None if text is no such line."""
    words = text.split()
    if len(words) != 4 or not text.endswith(b"\n"):
        return None
    script, pid, started, boot = words
    if not (pid.isdigit() and started.isdigit() and len(pid) < 11 and len(started) < 20):
        return None
    return Child(script, int(pid), int(started), boot)
