"""NAME
    fastforward - forward mail according to an aliases database

SYNOPSIS
    fastforward [-nNpPdD] DATABASE

DESCRIPTION
    fastforward is for .qmail files. It looks for the recipient of the message on descriptor 0 in DATABASE, a cdb that
    newaliases(1) or setforward(1) has made, runs the programs that are found there, and forwards the message to the
    addresses. The usual place for it is alias/.qmail-default in the home of the mail system, which gets the mail for
    all local addresses that are nobody's:

        | fastforward -d /etc/aliases.cdb

    Three targets are looked for, user@host, @host and user@, in lower case; the first that is there counts.

    An address among its instructions that is a target itself, as a whole, is replaced by the instructions for that;
    unless that one has an owner: then it is forwarded to. No address and no list is used twice for a message. An
    owner of the recipient, such as owner-list for list, becomes the envelope sender of what is forwarded; an empty
    sender and #@[] stay. Otherwise the sender is what it was.

    Programs run at once, one after the other, with /bin/sh's -c, as sh found along PATH; those of setforward's ! get
    UFLINE, RPLINE and DTLINE in front of the message, by preline(1). A program that exits 64, 65, 70, 76, 77, 78, 100
    or 112 ends it with 100, any other but 0, also 99, with 111. When all have run, the message goes to all addresses
    in one piece, with DTLINE in front.

    To see what becomes of mail for postmaster, without sending any:

        env DEFAULT=postmaster HOST=x.y fastforward -nd /etc/aliases.cdb

OPTIONS
    -d    the recipient is DEFAULT@HOST, or EXT@HOST where DEFAULT is not set
    -D    it is RECIPIENT. This is the default
    -p    pass through: a recipient that is not found is left to the next line of the .qmail file, exit code 0; after
          one that is found, the next lines are skipped, exit code 99
    -P    a recipient that is not found bounces. This is the default
    -n    print on descriptor 2 what would be done; nothing is run, and no message is read or sent
    -N    do it. This is the default

ENVIRONMENT
    RECIPIENT, DEFAULT, EXT, HOST    the recipient, see -d
    SENDER                           the envelope sender of the message, and of what is forwarded
    DTLINE                           is put in front of what is forwarded
    PATH                             where sh and preline are looked for
    QMAILQUEUE                       the program to be run instead of qmail-queue
    QMAILHOME                        the home of the mail system; unset, /var/qmail

EXIT STATUS
    0      the message was forwarded; with -p, the recipient was not found
    99     with -p, the message was forwarded
    100    wrong usage, a recipient that is not found, a program or qmail-queue that gives up for good
    111    a file could not be read, or a program or qmail-queue failed for now

SECURITY
    Who may write to a list that the database names decides to whom its mail goes, and can name other lists: any
    regular file that everybody may read is opened. A list runs no programs.

BUGS
    If there is trouble behind the first program, all are run again at the next attempt.

SEE ALSO
    newaliases(1), newinclude(1), setforward(1), printforward(1), preline(1), dot-qmail(5), qmail-command(8),
    qmail-local(8)
"""

import errno
import os
from _collections_abc import Callable

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats.options import OptionError, parse
from qmailpy.mta.forwarding import Forwarding, verdict
from qmailpy.stores import cdb
from qmailpy.stores.aliases import Unusable, read_list
from qmailpy.stores.forwarding import send_on
from qmailpy.unix import signals

PROGRAM = b"fastforward"
USAGE = b"fastforward [ -nNpP ] data.cdb"

NO_SENDER = b"original envelope sender"  # where SENDER is not set, as with -n by hand
UNKNOWN = b"Sorry, no mailbox here by that name. (#5.1.1)\n"
PASSED = 99

_SAFE = bytes(byte if 32 <= byte < 128 else ord("_") for byte in range(256))


class Ended(Exception):
    """args[0]: the exit code. A program has said why."""


def recipient_of(env: Env, default: bool) -> bytes:
    """Raises KeyError: args[0] is what has to be set."""
    if not default:
        if b"RECIPIENT" not in env:
            raise KeyError(b"$RECIPIENT")
        return env[b"RECIPIENT"]
    box = env.get(b"DEFAULT", env.get(b"EXT"))
    if box is None:
        raise KeyError(b"$DEFAULT or $EXT")
    if b"HOST" not in env:
        raise KeyError(b"$HOST")
    return box + b"@" + env[b"HOST"]


def run(command: bytes, env: Env) -> None:
    """Run |program or !program on the message. Raises Unusable, Ended."""

    def child() -> Exec:
        signals.default(signals.PIPE)
        words = [b"sh", b"-c", command[1:]]
        return Exec([b"preline", *words] if command.startswith(b"!") else words, env, who=PROGRAM, shown=command)

    try:
        pid = chain.spawn(child, env, "fastforward")
    except OSError as e:
        raise Unusable(b"unable to fork", e)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        raise Unusable(b"child crashed in " + command)
    code = verdict(os.WEXITSTATUS(status))
    if code:
        raise Ended(code)
    try:
        os.lseek(0, 0, os.SEEK_SET)
    except OSError as e:
        raise Unusable(b"unable to rewind input", e)


def show(lines: list[bytes]) -> None:
    """What -n says."""
    strerr.say(b"".join([line.translate(_SAFE) + b"\n" for line in lines]))


def send(plan: Forwarding, env: Env) -> int:
    """Queue the message; returns the exit code."""

    def spawn(child: Callable[[], object]) -> int:
        return chain.spawn(child, env, "fastforward")  # type: ignore[arg-type]  # it returns what become made

    return send_on(PROGRAM, plan.sender, plan.forwards, env, (spawn, Exec))


def deliver(path: bytes, recipient: bytes, env: Env, act: bool) -> tuple[bool, int]:
    """Whether the recipient was found, and the exit code. Raises Unusable, Ended."""

    def on_program(command: bytes) -> None:
        if act:
            run(command, env)
        else:
            show([b"run " + command])

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            plan = Forwarding(env.get(b"SENDER", NO_SENDER), cdb.getter(fd), read_list, on_program)
            found = plan.deliver(recipient)
        finally:
            os.close(fd)
    except OSError as e:
        spoilt = e.errno == errno.EPROTO  # which the original has another word for
        raise Unusable(b"unable to read " + path, OSError(errno.EIO, "") if spoilt else e)
    if act and plan.forwards:
        return found, send(plan, env)
    if not act and found:
        forwards = [b"to <%s>" % address for address in plan.forwards]
        show([b"from <%s>" % plan.sender, *forwards] if forwards else [b"no forwarding"])
    return found, 0


def main(argv: list[bytes], env: Env) -> int:
    signals.ignore(signals.PIPE)
    act, passes, default = True, False, False
    try:
        options, words = parse(argv, b"nNpPdD")
    except OptionError as e:
        strerr.say(PROGRAM + b": " + e.args[0] + b"\n")
        return strerr.usage(PROGRAM, USAGE)
    for letter, _ in options:
        if letter in b"nN":
            act = letter == b"N"
        elif letter in b"pP":
            passes = letter == b"p"
        else:
            default = letter == b"d"
    if not words:
        return strerr.usage(PROGRAM, USAGE)
    try:
        recipient = recipient_of(env, default)
        found, code = deliver(words[0], recipient, env, act)
    except KeyError as e:
        return strerr.fail(strerr.NEVER, PROGRAM, e.args[0], b" must be set")
    except Unusable as e:
        return strerr.fail(strerr.LATER, PROGRAM, e.complaint, error=e.error)
    except Ended as e:
        return int(e.args[0])
    if code or passes:
        return code or (PASSED if found else 0)
    if not found:
        strerr.say(UNKNOWN)
        return strerr.NEVER
    return 0
