"""forwarding - the message on descriptor 0 goes on to other addresses, with a line Delivered-To in front (qmail-local,
forward, condredirect, fastforward, dot-forward)."""

import os

from qmailpy import strerr
from qmailpy.stores.home import home
from qmailpy.stores.injection import open_injection
from qmailpy.unix import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Env = dict[bytes, bytes]
    Ways = tuple[Callable[[Callable[[], object]], int], Callable[[list[bytes], Env], object]]

BLOCK = 65536  # bytes that are read at once


class NotBegun(OSError):
    """There is no pipe or process for the queue."""


def forward(
    blocks: "Iterator[bytes]", sender: bytes, recipients: "Iterable[bytes]", env: "Env", ways: "Ways"
) -> tuple[int, bytes]:
    """Queue DTLINE of env, if that is set, and blocks. Returns the pid of who did, and b"" or why it is not queued, in
    the words of report. ways: spawn and become of open_injection.

    Raises NotBegun; and what blocks raises, when nothing is queued."""
    first = next(blocks, b"")  # before anything is opened: descriptor 0 may be closed
    fds.fill_standard()  # what the queue opens must not become 1 or 2
    try:
        injection = open_injection(home(env), env, *ways)
    except OSError as e:
        raise NotBegun(e.errno, "")
    injection.write(env.get(b"DTLINE", b""))
    injection.write(first)
    try:
        for block in blocks:
            injection.write(block)
    except BaseException:
        injection.fail()
        injection.close(sender, ())
        raise
    problem = injection.close(sender, recipients)
    return injection.qp, problem


def _input() -> "Iterator[bytes]":
    """What comes on descriptor 0, from where it is. Raises OSError."""
    while block := os.read(0, BLOCK):
        yield block


class Words:
    """What a program says in its own words: if there is no process for the queue; before why a message is not queued,
    and before the number of one that is."""

    __slots__ = ("no_process", "queued", "refused")

    def __init__(self, no_process: bytes = b"unable to fork", refused: bytes = b"", queued: bytes = b"") -> None:
        self.no_process = no_process
        self.refused = refused
        self.queued = queued


def send_on(
    who: bytes,
    sender: bytes,
    recipients: "Iterable[bytes]",
    env: "Env",
    ways: "Ways",
    words: Words = Words(),  # noqa: B008  it never changes
) -> int:
    """Queue what comes on descriptor 0, from where it is, and say so, or why not. Returns the exit code."""
    try:
        qp, problem = forward(_input(), sender, recipients, env, ways)
    except NotBegun as e:
        return strerr.fail(strerr.LATER, who, words.no_process, error=e)
    except OSError as e:
        return strerr.fail(strerr.LATER, who, b"unable to read message", error=e)
    if problem:
        code = strerr.NEVER if problem.startswith(b"D") else strerr.LATER
        return strerr.fail(code, who, words.refused, problem[1:])
    strerr.say(b"%s: %sqp %d\n" % (who, words.queued, qp))
    return 0


def send_as(who: bytes, env: "Env", variable: bytes, recipients: "Iterable[bytes]", ways: "Ways") -> int:
    """send_on for a program of .qmail lines: from the sender that a variable names."""
    for name in (variable, b"DTLINE"):
        if name not in env:
            return strerr.fail(strerr.NEVER, who, name, b" not set")
    return send_on(who, env[variable], recipients, env, ways)
