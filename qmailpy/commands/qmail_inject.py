"""NAME
    qmail-inject - complete a message and queue it

SYNOPSIS
    qmail-inject [-aAhHnN] [-fsender] [RECIPIENT...]

DESCRIPTION
    qmail-inject reads a message from descriptor 0, completes its header, and gives it to qmail-queue(8), for the
    recipients among the arguments or in the header.

    It adds the fields Date, Message-ID and From if there are none, and `Cc: recipient list not shown: ;` if there is
    neither To nor Cc. If the message has a Resent- field, it is one that was resent: then these fields are added with
    Resent- before their names. Added fields come first. Bcc, Resent-Bcc, Return-Path and Content-Length are left out.

    In From, Sender, Reply-To, To and Cc, in the same with Resent- before them, and in Apparently-To, Errors-To and
    Return-Receipt-To each address becomes a whole one: joe gets the default host, joe@mail gets the default domain, and
    joe@mail+ the plus domain. Blanks between addresses become commas, comments move behind the address, and the field
    is folded anew. Other fields and the body stay as they are. A list of recipients that cannot be read to its end
    stays as it is, and what was read of it, from the right, is sent to; sender fields like that are an error.

    A header ends with an empty line; if a line comes first that cannot stand in a header, an empty one is put before
    it. A line that begins with From and a space, as mbox files have it, becomes MBOX-Line.

OPTIONS
    -a           send to the arguments only
    -A           send to the arguments, and only if there are none to the recipients in the header; the default
    -h           send to the recipients in the header only
    -H           send to both
    -f SENDER    the envelope sender; it is completed like an address in the header
    -n           print the message instead, with its envelope sender in Return-Path
    -N           queue it, the default

    The recipients in the header are those of To, Cc, Bcc and Apparently-To; if the message was resent, those of
    Resent-To, Resent-Cc and Resent-Bcc.

CONTROL FILES
    me               the name of this host, which the others default to
    defaulthost      of addresses without a host
    defaultdomain    of hosts without a dot
    plusdomain       of hosts that end in a plus sign
    idhost           of Message-ID; another one for each machine

ENVIRONMENT
    QMAILUSER            the user in From and in the envelope sender, or else
    MAILUSER             this, or else
    USER                 this, or else
    LOGNAME              this; without any, anonymous
    QMAILHOST            the host, or else
    MAILHOST             this; without any, the default host
    QMAILNAME            the full name in From, or else
    MAILNAME             this, or else
    NAME                 this; without any, From has the address alone
    QMAILSUSER           the user in the envelope sender, if that is another
    QMAILSHOST           its host, if that is another
    QMAILDEFAULTHOST     instead of control/defaulthost
    QMAILDEFAULTDOMAIN   instead of control/defaultdomain
    QMAILPLUSDOMAIN      instead of control/plusdomain
    QMAILIDHOST          instead of control/idhost
    QMAILMFTFILE         a file with addresses of mailing lists; a message to one of them gets a Mail-Followup-To with
                         everybody in To and Cc, unless it has one
    QMAILINJECT          letters, see below
    QMAILQUEUE           the program to be run instead of qmail-queue
    QMAILHOME            the home of the mail system; unset, /var/qmail

    A Return-Path in the message is the envelope sender, and beats these variables; -f beats both. The letters of
    QMAILINJECT are

    c    From has the full name as a comment, `joe@example.org (Joe)`
    s    take no notice of Return-Path
    f    take no notice of From
    i    take no notice of Message-ID
    r    one envelope sender per recipient: append -@[] to it, and qmail-send will put the recipient there
    m    one envelope sender per message: append time and process id to the user's name

EXIT STATUS
    0      the message is queued
    100    wrong usage, an address or a sender field cannot be read, or qmail-queue refuses the message for good
    111    the message could not be queued now

BUGS
    A message without any recipient is accepted, and goes nowhere.

SEE ALSO
    qmail-queue(8), sendmail(8), mailsubj(1), qreceipt(1), addresses(5), qmail-header(5), qmail-control(5)
"""

import os
import time
from _collections_abc import Callable, Iterator

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import options
from qmailpy.formats.addresses822 import Unparsable, one_line, quote
from qmailpy.formats.header import Splitter
from qmailpy.mta.completion import Completion
from qmailpy.mta.submission import Submission
from qmailpy.stores import programs
from qmailpy.stores.control import BLANKS, Control, Unreadable
from qmailpy.stores.injection import Injection, open_injection
from qmailpy.unix import fds, signals

PROGRAM = b"qmail-inject"
LETTERS = b"aAhHnNf:"

BLOCK = 65536  # bytes
LISTS_SIZE = 1 << 24  # bytes of QMAILMFTFILE, at most

# Why a message is not sent, besides what qmail-queue says
NO_HOME = b"internal bug"
NO_READ = b"read error"
NO_QUEUE = b"unable to run qmail-queue"
NO_WRITE = b"Zunable to write output: "
NO_LINE = b"unable to parse this line:\n"
NO_ADDRESS = b"unable to parse address: "


class InputError(Exception):
    """Descriptor 0 cannot be read."""


class Printer:
    """What -n has in place of an Injection."""

    __slots__ = ("_problem",)

    def __init__(self) -> None:
        self._problem = b""

    def write(self, data: bytes) -> None:
        if not self._problem:
            try:
                fds.write_all(1, data)
            except OSError as e:
                self._problem = NO_WRITE + strerr.reason(e)

    def fail(self) -> None:
        pass

    def close(self, sender: bytes, recipients: list[bytes]) -> bytes:
        return self._problem


def mailing_lists(env: Env) -> frozenset[bytes]:
    """The addresses in QMAILMFTFILE, in lower case. Raises OSError."""
    try:
        fd = os.open(env.get(b"QMAILMFTFILE", b""), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return frozenset()
    try:
        lines = [line.rstrip(BLANKS) for line in fds.read_all(fd, LISTS_SIZE).lower().split(b"\n")]
    finally:
        os.close(fd)
    return frozenset(line for line in lines if line and not line.startswith(b"#"))


def setting(control: Control, env: Env, name: bytes) -> bytes:
    """What the environment says, or the control file, or the name of this host. Raises Unreadable."""
    value = env.get(b"QMAIL" + name.upper())
    if value is None:
        value = control.line(name)
    if value is None:
        value = control.me()
    return name if value is None else one_line(value)


def begin(home: bytes, env: Env, lists: frozenset[bytes]) -> Submission:
    """Raises Unreadable, Unparsable."""
    control = Control(home)
    host, domain, plus, id_host = [
        setting(control, env, name) for name in (b"defaulthost", b"defaultdomain", b"plusdomain", b"idhost")
    ]
    return Submission(env, Completion(host, domain, plus), id_host, lists, int(time.time()), os.getpid())


def blocks() -> Iterator[bytes]:
    """The message, to its end. Raises InputError."""
    try:
        while block := os.read(0, BLOCK):
            yield block
    except OSError:
        raise InputError


def read_header(message: Iterator[bytes], submission: Submission) -> bytes:
    """Hand in the fields; returns what was read of the body, the empty line before it included. Raises InputError,
    Unparsable."""
    splitter = Splitter()
    for block in message:
        for field in splitter.feed(block):
            submission.field(field)
        if splitter.body is not None:
            return splitter.body
    for field in splitter.finish():
        submission.field(field)
    return splitter.body or b""


def copy_body(first: bytes, message: Iterator[bytes], target: Injection | Printer) -> None:
    """Also the newline that is missing at its end. Raises InputError."""
    target.write(first)
    last = first
    for block in message:
        target.write(block)
        last = block
    if last and not last.endswith(b"\n"):
        target.write(b"\n")


def send(submission: Submission, arguments_only: bool, print_only: bool, home: bytes, env: Env) -> int:
    """Read the message and queue or print it; returns the exit code. Raises InputError, Unparsable."""

    def spawn(child: Callable[[], object]) -> int:
        return chain.spawn(child, env, "qmail-inject")  # type: ignore[arg-type]  # it returns what become made

    message = blocks()
    body = read_header(message, submission)
    header = submission.finish()
    sender = submission.sender or b""
    fds.fill_standard()  # what the queue opens must not become 1 or 2
    target: Injection | Printer
    if print_only:
        target = Printer()
        target.write(b"Return-Path: <" + quote(sender) + b">\n")
    else:
        try:
            target = open_injection(home, env, spawn, Exec)
        except OSError:
            return strerr.fail(strerr.LATER, PROGRAM, NO_QUEUE)
    target.write(header)
    try:
        copy_body(body, message, target)
    except InputError:
        target.fail()
        target.close(b"", [])
        raise
    problem = target.close(sender, submission.recipients(arguments_only))
    if problem:
        return strerr.fail(strerr.NEVER if problem.startswith(b"D") else strerr.LATER, PROGRAM, problem[1:])
    return 0


def main(argv: list[bytes], env: Env) -> int:
    signals.ignore(signals.PIPE)
    try:
        lists = mailing_lists(env)
    except OSError:
        return strerr.fail(strerr.LATER, PROGRAM, NO_READ)
    try:
        home, env = programs.enter(env)
    except OSError:
        return strerr.fail(strerr.LATER, PROGRAM, NO_HOME)
    try:
        submission = begin(home, env, lists)
        found, words = options.parse(argv, LETTERS)
        strategy, print_only = b"A", False
        for letter, argument in found:
            if letter == b"f":
                submission.set_sender(argument)
            elif letter in b"nN":
                print_only = letter == b"n"
            else:
                strategy = letter
        if strategy == b"A":
            strategy = b"a" if words else b"h"
        if strategy != b"h":
            for word in words:
                try:
                    submission.add_recipient(word)
                except Unparsable:
                    return strerr.fail(strerr.NEVER, PROGRAM, NO_ADDRESS, word)
        return send(submission, strategy == b"a", print_only, home, env)
    except options.OptionError as e:
        strerr.say(PROGRAM + b": " + e.args[0] + b"\n")
        return strerr.NEVER
    except Unparsable as e:
        strerr.say(PROGRAM + b": fatal: " + NO_LINE + e.args[0])
        return strerr.NEVER
    except (Unreadable, InputError):
        return strerr.fail(strerr.LATER, PROGRAM, NO_READ)
