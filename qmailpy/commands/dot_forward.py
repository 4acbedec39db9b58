"""NAME
    dot-forward - follow a .forward file

SYNOPSIS
    dot-forward [-nN] FILE ...

DESCRIPTION
    dot-forward is for .qmail files. It forwards the message on descriptor 0 as FILE says, in the form of sendmail's
    .forward files. Where that is all a user wants, .qmail has these lines:

        |dot-forward .forward
        ./Maildir/

    FILE is the first of those named that exists and has something in it; without one, dot-forward does nothing, and
    the next lines of .qmail deliver.

    A line of FILE holds addresses as in the header of a message: with comments, Name <user@host>, and quotes around
    special characters, with commas or blanks between. Lines that begin with # mean nothing. An address without a
    host, or whose host has no dot, is completed, qmail-header(5). But these are no addresses:

    USER            also USER@HOST: the mailbox of the user himself. The next lines of .qmail deliver too. A backslash
                    in front makes no difference
    "|COMMAND"      a program: /bin/sh -c COMMAND is run, with UFLINE, RPLINE and DTLINE in front of the message
    /NAME           a file: refused, 111. It belongs into .qmail

    FILE is read to its end first, so that a line that is wrong, which is named, stops everything. Then programs run,
    one after the other. One that exits 64, 65, 70, 76, 77, 78, 100 or 112 ends dot-forward with 100, any other code
    but 0 with 111. At last the message goes to all addresses in one piece, with DTLINE in front.

OPTIONS
    -n    print on descriptor 2 what FILE says; nothing is run, and no message is read or sent
    -N    do it. This is the default

CONTROL FILES
    me               the name of this host
    defaulthost      completes an address without a host. Default: me
    defaultdomain    completes a host without a dot. Default: me
    plusdomain       takes the place of a plus sign at the end of a host. Default: me

ENVIRONMENT
    USER, HOST                who the user is
    NEWSENDER                 the envelope sender of what is forwarded
    DTLINE, RPLINE, UFLINE    the lines that are put in front
    QMAILQUEUE                the program to be run instead of qmail-queue
    QMAILHOME                 the home of the mail system; unset, /var/qmail

EXIT STATUS
    0      FILE wants the mailbox of the user, or there is no FILE with something in it
    99     FILE was followed, and the next lines of .qmail are to be skipped
    100    wrong usage, or a program or qmail-queue gives up for good
    111    a file could not be read, a line is wrong, or a program or qmail-queue failed for now

BUGS
    There is no :include: in FILE. If there is trouble behind the first program, all are run again at the next
    attempt.

SEE ALSO
    fastforward(1), preline(1), forward(1), dot-qmail(5), qmail-command(8), qmail-header(5), qmail-local(8)
"""

import errno
import os
from _collections_abc import Callable

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import aliases
from qmailpy.formats.aliases import ADDRESS, DIRECT, Entry, forwarding
from qmailpy.formats.forwardcdb import Wrong
from qmailpy.formats.options import OptionError, parse
from qmailpy.loops.feed import feed
from qmailpy.mta.forwarding import verdict
from qmailpy.stores.aliases import Unusable, complain, names
from qmailpy.stores.forwarding import Words, send_on
from qmailpy.stores.home import home
from qmailpy.unix import fds, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = b"dot-forward"
USAGE = b"dot-forward [ -nN ] file ..."

SHELL = b"/bin/sh"
SIZE = 1 << 30  # bytes of a file, at most
DONE = 99

SHOWN = {ADDRESS: b"forward %s\n", aliases.PROGRAM: b"pipe through %s\n"}
DIRECTLY = b"direct delivery\n"
SAID = Words(b"unable to run qmail-queue", refused=b"unable to forward message: ", queued=b"info: ")


class Ended(Exception):
    """args[0]: the exit code. Why has been said."""


def run(command: bytes, env: Env) -> None:
    """Run a program on the message. Raises Unusable, Ended."""

    def start(prepare: Callable[[], None]) -> int:
        def child() -> Exec:
            prepare()
            return Exec([SHELL, b"-c", command], env, who=PROGRAM)

        return chain.spawn(child, env, "dot-forward")

    lines = [env.get(name, b"") for name in (b"UFLINE", b"RPLINE", b"DTLINE")]
    code = verdict(feed(PROGRAM, start, b"".join(lines)))
    if code:
        raise Ended(code)
    try:
        os.lseek(0, 0, os.SEEK_SET)
    except OSError as e:
        raise Unusable(b"unable to rewind input", e)


def send(recipients: list[bytes], env: Env) -> None:
    """Queue the message. Raises Ended."""

    def spawn(child: Callable[[], object]) -> int:
        return chain.spawn(child, env, "dot-forward")  # type: ignore[arg-type]  # it returns what become made

    sender = env.get(b"NEWSENDER", b"")
    code = send_on(PROGRAM, sender, recipients, env, (spawn, Exec), SAID)
    if code:
        raise Ended(code)


def show(entries: "Iterator[Entry]") -> list[Entry]:
    """What -n says of them."""
    shown = []
    for kind, text in entries:
        if kind in SHOWN:
            strerr.say(SHOWN[kind] % text)
        shown.append((kind, text))
    return shown


def act_on(entries: list[Entry], env: Env) -> None:
    """Raises Unusable, Ended."""
    for kind, text in entries:
        if kind == aliases.PROGRAM:
            run(text, env)
    recipients = [text for kind, text in entries if kind == ADDRESS]
    if recipients:
        send(recipients, env)


def read(path: bytes) -> bytes | None:
    """The file; None if there is none. Raises Unusable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        if e.errno == errno.ENOENT:
            return None
        raise Unusable(b"unable to open " + path, e)
    try:
        return fds.read_all(fd, SIZE)
    except OSError as e:
        raise Unusable(b"unable to read " + path, e)
    finally:
        os.close(fd)


def follow(files: list[bytes], env: Env, act: bool) -> int:
    """The exit code. Raises Unusable, Wrong, Ended."""
    completion = names(home(env), {})
    for path in files:
        text = read(path)
        if text is None:
            continue
        found = forwarding(text, env.get(b"USER", b""), env.get(b"HOST", b""), completion)
        entries = list(found) if act else show(found)
        if act:
            act_on(entries, env)
        if any(kind == DIRECT for kind, _ in entries):
            break
        if entries:
            return DONE
        if not act:
            strerr.say(b"skipping empty file " + path + b"\n")
    if not act:
        strerr.say(DIRECTLY)
    return 0


def main(argv: list[bytes], env: Env) -> int:
    signals.ignore(signals.PIPE)
    try:
        options, files = parse(argv, b"nN")
    except OptionError as e:
        strerr.say(PROGRAM + b": " + e.args[0] + b"\n")
        return strerr.usage(PROGRAM, USAGE)
    act = not options or options[-1][0] == b"N"
    try:
        return follow(files, env, act)
    except Unusable as e:
        return strerr.fail(strerr.LATER, PROGRAM, e.complaint, error=e.error)
    except Wrong as e:
        return complain(PROGRAM, e)
    except Ended as e:
        return int(e.args[0])
