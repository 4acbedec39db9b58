"""NAME
    qmail-local - deliver a message to a local user, or forward it

SYNOPSIS
    qmail-local [-nN] [--] USER HOMEDIR LOCAL DASH EXT DOMAIN SENDER ALIASEMPTY

DESCRIPTION
    qmail-local delivers the message on descriptor 0, which must be a file that can be read again, as the user says in
    a .qmail file. qmail-lspawn(8) starts it, as that user, for each recipient. The message is for LOCAL@DOMAIN and from
    SENDER; HOMEDIR, which begins with a slash, becomes the working directory.

    The file is the first of these that exists as a regular file:

        .qmail DASH EXT
        .qmail DASH EXT up to a hyphen, the last one first, and `default`
        .qmail DASH `default`

    without the spaces, and with EXT without capitals and with a colon for each dot. So for DASH - and EXT a-b these are
    .qmail-a-b, .qmail-a-default and .qmail-default. If there is none the user has no such mailbox, unless DASH is
    empty. Then, and if the file is empty, its text is ALIASEMPTY.

    A message that has a field `Delivered-To: LOCAL@DOMAIN` in its header, exactly so, is looping and is refused.
    Nothing is delivered, but later, if HOMEDIR or the file can be written by everybody, or if HOMEDIR has the sticky
    bit: that is how a user says that he is changing something.

INSTRUCTIONS
    The lines of the file are followed in order; blanks at their ends do not count. The first one must not be empty.

    #TEXT         nothing
    ./DIR/        put the message into the Maildir DIR, as a file of its own; also /DIR/
    ./FILE        append the message to FILE in mbox format; also /FILE
    |COMMAND      run COMMAND with /bin/sh -c; it finds the message on descriptor 0
    &ADDRESS      forward the message; also ADDRESS alone, if it begins with none of these signs
    +list         from here on only forward; other words behind + say nothing

    If the file has its owner's x bit set, all of it is like that behind +list: another instruction is trouble for now.

    The message is forwarded once to all addresses, after everything else, with a line Delivered-To in front. An
    address is taken as it is. The envelope sender stays, but if there is a file .qmail DASH EXT-owner it is
    LOCAL-owner@DOMAIN; and if there is .qmail DASH EXT-owner-default too, LOCAL-owner-@DOMAIN-@[], from which
    qmail-send(8) makes a sender for each recipient. A bounce stays a bounce.

    A command ends with one of these codes:

    0                                    go on
    99                                   go on behind the last line: do nothing but forward what is above
    100, 64, 65, 70, 76, 77, 78, 112     end with 100: the message is refused
    others                               end with 111: it will be tried again, with all that has been done before

    No shell is started for a command of this toolkit, found along PATH, with words that mean nothing else to a shell,
    or stand in single quotes: it runs in a process that is there already.

    What a command writes on descriptors 1 and 2 becomes part of the report, for the log or for the sender.

    A Maildir gets a file new/TIME.PID.HOST, which is written in tmp first. From the second file of a process on, PID is
    PID_2, PID_3 and so on. An mbox file is locked with flock(2), and lines of the message that begin with `From `, or
    with that behind some >, get one > more. In both, Return-Path and Delivered-To are put in front. When qmail-local
    says that the message is delivered, no crash of the machine can lose it any more.

    On descriptor 1 qmail-local tells how many files, addresses and commands there were, and the number of the message
    that was forwarded: did 1+2+0 qp 4711.

OPTIONS
    -n    do nothing, but show on descriptor 1 what would be done
    -N    do it; the last of the two counts

ENVIRONMENT
    QMAILQUEUE    the program to be run instead of qmail-queue
    QMAILHOME     the home of the mail system; unset, /var/qmail

    A command finds these set:

    USER, HOME, LOCAL, HOST, EXT, SENDER    USER, HOMEDIR, LOCAL, DOMAIN, EXT and SENDER
    RECIPIENT                               LOCAL@DOMAIN
    DEFAULT                                 what of EXT `default` stands for in the file's name; else not set
    EXT2, EXT3, EXT4                        EXT behind its first, second and third hyphen
    HOST2, HOST3, HOST4                     DOMAIN before its last dot, the one before, and so on
    NEWSENDER                               the sender of what is forwarded
    DTLINE, RPLINE, UFLINE                  the lines Delivered-To, Return-Path and From, each with its newline

EXIT STATUS
    0      done
    100    never: the message is refused; or wrong usage
    111    later

SECURITY
    qmail-local does what the user could do himself, with a message from a stranger. What the message, and addresses,
    may hold is for the user's commands to mind: none of it is ever part of a command's text.

BUGS
    A message that is tried again is delivered anew by the lines in front of the one that failed.

SEE ALSO
    qmail-lspawn(8), qmail-queue(8), forward(1), condredirect(1), bouncesaying(1), except(1), preline(1), maildirmake(1)
"""

import errno
import os
import sys
import time
from _collections_abc import Callable

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import options, qmailfile, report
from qmailpy.mta import dotqmail
from qmailpy.stores import delivery, forwarding
from qmailpy.unix import fds, signals

PROGRAM = b"qmail-local"
USAGE = b"qmail-local [ -nN ] user homedir local dash ext domain sender aliasempty"

WORDS = 8
SHELL = b"/bin/sh"

# Of a mode, stat(2).
WRITABLE = 0o002  # by everybody
STICKY = 0o1000
EXECUTABLE = 0o100
FORMAT = 0o170000
REGULAR = 0o100000

HOME_WRITABLE = b"Uh-oh: home directory is writable. (#4.7.0)"
HOME_STICKY = b"Home directory is sticky: user is editing his .qmail file. (#4.2.1)"
LOOPING = b"This message is looping: it already has my Delivered-To line. (#5.4.6)"
NO_MAILBOX = b"Sorry, no mailbox here by that name. (#5.1.1)"
FILE_WRITABLE = b"Uh-oh: .qmail file is writable. (#4.7.0)"
FIRST_BLANK = b"Uh-oh: first line of .qmail file is blank. (#4.2.1)"
NO_FILE = b"Uh-oh: .qmail has file delivery but has x bit set. (#4.7.0)"
NO_PROGRAM = b"Uh-oh: .qmail has prog delivery but has x bit set. (#4.7.0)"
NO_MEMORY = b"Out of memory. (#4.3.0)"
CRASHED = b"Aack, child crashed. (#4.3.0)"
HOME_STICKY_SHOWN = b"Warning: home directory is sticky."

READ_FOR_MAILDIR = b"Unable to read message. (#4.3.0)"

# What went wrong with a file or the message.
STEPS = {
    delivery.REWIND: b"Unable to rewind message. (#4.3.0)",
    delivery.LOCK: b"File has been locked for 30 seconds straight. (#4.3.0)",
    delivery.FOLDER: b"Unable to chdir to maildir. (#4.2.1)",
    delivery.TIMEOUT: b"Timeout on maildir delivery. (#4.3.0)",
    delivery.OTHER: b"Temporary error on maildir delivery. (#4.3.0)",
}


class Ended(Exception):
    """The delivery ends here: text, if there is some, is said; code is the exit code."""

    def __init__(self, code: int, text: bytes = b"") -> None:
        super().__init__(code)
        self.code = code
        self.text = text


def unable(what: bytes, error: OSError, code: bytes = b"4.3.0") -> Ended:
    """`Unable to WHAT: REASON. (#CODE)`"""
    return Ended(strerr.LATER, b"Unable to %s: %s. (#%s)" % (what, strerr.reason(error), code))


def show(text: bytes) -> None:
    """Write on descriptor 1, whether anybody reads it or not."""
    try:
        fds.write_all(1, text)
    except OSError:
        pass


def check_home(home: bytes, act: bool) -> None:
    """Go there."""
    try:
        os.chdir(home)
    except OSError as e:
        raise unable(b"switch to " + home, e)
    try:
        mode = os.stat(b".").st_mode
    except OSError as e:
        raise unable(b"stat home directory", e)
    if mode & WRITABLE:
        raise Ended(strerr.LATER, HOME_WRITABLE)
    if mode & STICKY:
        if act:
            raise Ended(strerr.LATER, HOME_STICKY)
        strerr.say(HOME_STICKY_SHOWN + b"\n")


class Found:
    """A .qmail file, or none: text, forward_only, and DEFAULT where that is to be set."""

    __slots__ = ("default", "forward_only", "text")

    def __init__(self, text: bytes = b"", forward_only: bool = False, default: bytes | None = None) -> None:
        self.text = text
        self.forward_only = forward_only
        self.default = default


def find(dash: bytes, ext: bytes) -> Found:
    for name, default in qmailfile.candidates(dash, ext):
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as e:
            if strerr.error_temp(e) or e.errno in (errno.EPERM, errno.EACCES):
                raise unable(b"open " + name, e)
            continue
        try:
            mode = os.fstat(fd).st_mode
            if mode & FORMAT == REGULAR:
                if mode & WRITABLE:
                    raise Ended(strerr.LATER, FILE_WRITABLE)
                return Found(_read(fd), bool(mode & EXECUTABLE), default)
        finally:
            os.close(fd)
    if dash:
        raise Ended(strerr.NEVER, NO_MAILBOX)
    return Found()


def _read(fd: int) -> bytes:
    try:
        return fds.read_all(fd, sys.maxsize)
    except OSError:
        raise Ended(strerr.LATER, NO_MEMORY)


def there_is(name: bytes) -> bool:
    try:
        os.stat(name)
    except OSError as e:
        if strerr.error_temp(e):
            raise unable(b"open " + name, e)
        return False
    return True


def new_sender(dash: bytes, ext: bytes, local: bytes, host: bytes, sender: bytes) -> bytes:
    if sender in dotqmail.NOT_REPLACED:
        return sender
    name = qmailfile.PREFIX + dash + qmailfile.safe_extension(ext)
    owner = there_is(name + dotqmail.OWNER)
    return dotqmail.new_sender(local, host, sender, owner, owner and there_is(name + dotqmail.OWNER_DEFAULT))


class Delivery:
    """What happens to the message. more: DEFAULT and NEWSENDER, for programs."""

    __slots__ = ("_act", "_arrival", "_counts", "_given", "_message", "_more", "_recipients")

    def __init__(self, arrival: dotqmail.Arrival, message: delivery.Message, more: Env, env: Env, act: bool) -> None:
        self._arrival = arrival
        self._message = message
        self._more = more
        self._given = env
        self._act = act
        self._recipients: list[bytes] = []
        self._counts = {qmailfile.MBOX: 0, qmailfile.FORWARD: 0, qmailfile.PROGRAM: 0}

    def _env(self) -> Env:
        """Of programs. Made when there is one: most messages go into a Maildir, and need none of it."""
        return {**self._given, **self._arrival.environment(), **self._more}

    def follow(self, text: bytes, forward_only: bool) -> None:
        """All instructions, in order."""
        for kind, line in qmailfile.instructions(text):
            if kind == qmailfile.BLANK:
                raise Ended(strerr.LATER, FIRST_BLANK)
            if kind == qmailfile.FORWARD_ONLY:
                forward_only = True
                continue
            self._counts[qmailfile.MBOX if kind == qmailfile.MAILDIR else kind] += 1
            if forward_only and kind != qmailfile.FORWARD:
                raise Ended(strerr.LATER, NO_PROGRAM if kind == qmailfile.PROGRAM else NO_FILE)
            if not self._act:
                show(b"%s %s\n" % (kind.encode(), line))
            elif kind == qmailfile.FORWARD:
                self._recipients.append(line)
            elif kind != qmailfile.PROGRAM:
                self._put(kind, qmailfile.up_to_nul(line))
            elif self._run(qmailfile.up_to_nul(line)) == dotqmail.STOP:
                break
        number = self._forward() if self._recipients else 0
        show(b"did %d+%d+%d\n" % tuple(self._counts.values()) + (b"qp %d\n" % number if number else b""))

    def _put(self, kind: str, path: bytes) -> None:
        """Into a file or a Maildir."""
        head = self._arrival.return_path() + self._arrival.delivered_to()
        try:
            if kind == qmailfile.MAILDIR:
                delivery.to_maildir(path, head, self._message)
            else:
                delivery.to_mbox(path, self._arrival.from_line() + head, self._message)
        except delivery.Undelivered as e:
            if e.step == delivery.READ and kind == qmailfile.MAILDIR:
                raise Ended(strerr.LATER, READ_FOR_MAILDIR)
            raise explained(e, path)

    def _run(self, command: bytes) -> int:
        """The exit code, if it lets us go on."""
        rewind(self._message)
        env = self._env()
        words = qmailfile.plain_words(command)
        if not words or not chain.load(words[0], env):
            words = []
        try:
            pid = chain.spawn(lambda: become(words, command, env), env, "qmail-local")
        except OSError as e:
            raise unable(b"fork", e)
        status = os.waitpid(pid, 0)[1]
        if os.WIFSIGNALED(status):
            raise Ended(strerr.LATER, CRASHED)
        code = os.WEXITSTATUS(status)
        if code not in (0, dotqmail.STOP):
            raise Ended(strerr.NEVER if code in dotqmail.HARD else strerr.LATER)
        return code

    def _forward(self) -> int:
        """Queue the message; returns the qp."""
        env = self._env()

        def spawn(child: Callable[[], object]) -> int:
            return chain.spawn(child, env, "qmail-local")  # type: ignore[arg-type]  # it returns what Exec made

        blocks = self._message.blocks()
        try:
            qp, problem = forwarding.forward(blocks, env[b"NEWSENDER"], self._recipients, env, (spawn, Exec))
        except forwarding.NotBegun as e:
            raise unable(b"fork", e)
        except delivery.Undelivered as e:
            if e.step == delivery.REWIND:
                raise explained(e)
            problem = report.text(report.READ_ERROR)
        if problem:
            code = strerr.NEVER if problem.startswith(b"D") else strerr.LATER
            raise Ended(code, b"Unable to forward message: %s." % problem[1:])
        return qp


def explained(problem: delivery.Undelivered, path: bytes = b"") -> Ended:
    if problem.step in STEPS:
        return Ended(strerr.LATER, STEPS[problem.step])
    if problem.step == delivery.OPEN:
        return unable(b"open " + path, problem.error, b"4.2.1")
    return unable(b"read message" if problem.step == delivery.READ else b"write " + path, problem.error)


def rewind(message: delivery.Message) -> None:
    try:
        message.rewind()
    except delivery.Undelivered as e:
        raise explained(e)


def become(words: list[bytes], command: bytes, env: Env) -> int | Exec:
    """In a process of its own: the program of a line. A plain command of this toolkit, of which words are there, needs
    no shell, which would start Python anew, and so it runs warm; it finds what a shell leaves, PWD included."""
    signals.default(signals.PIPE)
    if words:
        return Exec(words, {**env, b"PWD": os.getcwdb()}, who=PROGRAM)
    try:
        os.stat(SHELL)
    except OSError as e:
        strerr.say(unable(b"run " + SHELL, e).text + b"\n")
        return strerr.LATER
    return Exec([SHELL, b"-c", command], env, who=PROGRAM)


def deliver(words: list[bytes], env: Env, act: bool) -> None:
    user, homedir, local, dash, ext, host, sender, otherwise = words
    check_home(homedir, act)
    arrival = dotqmail.Arrival(user, homedir, local, ext, host, sender, int(time.time()))
    message = delivery.Message()
    try:
        if act and message.header_has(arrival.delivered_to()):
            raise Ended(strerr.NEVER, LOOPING)
    except delivery.Undelivered as e:
        raise explained(e)
    found = find(dash, ext)
    more = {b"NEWSENDER": new_sender(dash, ext, local, host, sender)}
    if found.default is not None:
        more[b"DEFAULT"] = found.default
    forward_only = found.forward_only and found.text != b""
    Delivery(arrival, message, more, env, act).follow(found.text or otherwise, forward_only)


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o077)
    signals.ignore(signals.PIPE)
    try:
        letters, words = options.parse(argv, b"nN")
    except options.OptionError as e:
        strerr.say(PROGRAM + b": " + e.args[0] + b"\n")
        return strerr.usage(PROGRAM, USAGE)
    if len(words) != WORDS or not words[1].startswith(b"/"):
        return strerr.usage(PROGRAM, USAGE)
    try:
        deliver(words, env, act=letters[-1:] != [(b"n", b"")])
    except Ended as e:
        if e.text:
            strerr.say(e.text + b"\n")
        return e.code
    except MemoryError:
        strerr.say(NO_MEMORY + b"\n")
        return strerr.LATER
    return 0
