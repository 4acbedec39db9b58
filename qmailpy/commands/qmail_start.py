"""NAME
    qmail-start - turn on mail delivery

SYNOPSIS
    qmail-start [DEFAULTDELIVERY [LOGGER...]]

DESCRIPTION
    qmail-start starts the four programs that deliver what is in the queue, connected by pipes, and becomes the first:

        qmail-send      decides what is delivered when
        qmail-lspawn    delivers to local users
        qmail-rspawn    delivers to remote hosts
        qmail-clean     removes messages

    They are found along PATH. DEFAULTDELIVERY is what is done with the mail of users without a .qmail file, as a file
    of that text would say it:

        qmail-start ./Maildir/ splogger qmail

    Unset, it is ./Mailbox. The program LOGGER, with its arguments, gets the log of qmail-send on its descriptor 0;
    without one, that goes to descriptor 1. There is no other way to end all of them than to send SIGTERM to qmail-send.

    Root starts them so: qmail-lspawn as root; the others as the owners of what is theirs in the queue, that is qmailq
    for qmail-clean, which mess belongs to, qmails for qmail-send, which info belongs to, and qmailr for qmail-rspawn,
    which lock/tcpto belongs to; all with the group of the queue, qmail; and LOGGER as qmaill with the group nofiles.
    If the home belongs to somebody else than root, all run as that user, qmail-lspawn too. Whoever is not root starts
    all as himself.

ENVIRONMENT
    PATH         where the programs are
    QMAILHOME    the home of the mail system. Default: /var/qmail

DESCRIPTORS
    qmail-send has these:

        0        the log, to write
        1, 2     qmail-lspawn: requests, reports
        3, 4     qmail-rspawn: requests, reports
        5, 6     qmail-clean: requests, answers

    The other three have requests as 0 and reports as 1. Their descriptor 2 is the log, where they say why they do not
    start.

EXIT STATUS
    That of qmail-send.

    111    the system failed, a program is not there, or the queue has no owners for it; descriptor 2 says which

SECURITY
    No program but qmail-lspawn runs as root. qmail-lspawn does what qmail-send asks for, but nothing as root.

BUGS
    ps may show qmail-start for all four, as they are in one toolkit; they differ in user and open files.

SEE ALSO
    qmail-send(8), qmail-lspawn(8), qmail-rspawn(8), qmail-clean(8), splogger(8), multilog(8)
"""

import errno
import os
from _collections_abc import Callable

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.stores import programs
from qmailpy.stores.home import home
from qmailpy.unix import fds, ids

PROGRAM = b"qmail-start"

DEFAULT = b"./Mailbox"
SEND, LSPAWN, RSPAWN, CLEAN = b"qmail-send", b"qmail-lspawn", b"qmail-rspawn", b"qmail-clean"

LOG_USER, LOG_GROUP = b"qmaill", b"nofiles"

LAST = 6  # descriptors up to here mean something to qmail-send

Copies = tuple[tuple[int, int], ...]


class Failed(Exception):
    """text: what to say; error: why."""

    def __init__(self, text: bytes, error: OSError | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.error = error


class Owners:
    """As whom the programs run."""

    __slots__ = ("clean", "group", "log", "remote", "send")

    def __init__(self, home: bytes, logs: bool) -> None:
        """For root, and a home of root's. logs: there is a logger. Raises Failed."""
        queue = home + b"/queue"
        self.group = _owner(queue)[1]
        self.clean, self.send, self.remote = (_not_root(queue + name) for name in (b"/mess", b"/info", b"/lock/tcpto"))
        self.log = _account() if logs else (0, 0)


def _owner(path: bytes) -> tuple[int, int]:
    """uid and gid. Raises Failed."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError as e:
        raise Failed(b"unable to find the owner of " + path, e)
    return status.st_uid, status.st_gid


def _not_root(path: bytes) -> int:
    uid, _ = _owner(path)
    if uid == 0:
        raise Failed(path + b" belongs to root, as whom only qmail-lspawn is run: see qmail-make-queue")
    return uid


def _account() -> tuple[int, int]:
    """uid and gid for the logger. Raises Failed."""
    for find, name in ((ids.user, LOG_USER), (ids.group, LOG_GROUP)):
        try:
            find(name)
        except LookupError:
            raise Failed(b"unable to find %s in the system's accounts" % name)
    return ids.user(LOG_USER), ids.group(LOG_GROUP)


def _reserve() -> None:
    """Have something on each descriptor that will mean something: pipes then get other numbers."""
    while True:
        fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        if fd > LAST:
            os.close(fd)
            return


class Starter:
    """owners is None where nobody changes. Every method raises Failed."""

    __slots__ = ("env", "owners")

    def __init__(self, folder: bytes, env: Env, logs: bool) -> None:
        self.env = env
        self.owners = None
        if os.geteuid():
            return
        uid, gid = _owner(folder)
        try:
            if uid:
                ids.drop(uid, gid)
                return
            self.owners = Owners(folder, logs)
            ids.set_gid(self.owners.group)
        except OSError as e:
            raise Failed(b"unable to set uid or gid", e)

    def find(self, *names: bytes) -> None:
        """Look for the programs, before there is a process."""
        for name in names:
            if not chain.can_run(name, self.env):
                raise Failed(b"unable to run " + name, FileNotFoundError(errno.ENOENT, ""))

    def pipe(self) -> tuple[int, int]:
        try:
            return os.pipe()
        except OSError as e:
            raise Failed(b"unable to create pipe", e)

    def become_logger(self) -> None:
        if self.owners is not None:
            ids.drop(*self.owners.log)

    def become_lspawn(self) -> None:
        """Stay root."""

    def become_rspawn(self) -> None:
        """With whatever other groups its user is in."""
        if self.owners is not None:
            import pwd

            try:
                os.initgroups(pwd.getpwuid(self.owners.remote).pw_name, self.owners.group)
            except LookupError:  # it has no name
                ids.set_gid(self.owners.group)
            ids.set_uid(self.owners.remote)

    def become_clean(self) -> None:
        if self.owners is not None:
            ids.set_uid(self.owners.clean)

    def become_send(self) -> None:
        if self.owners is not None:
            ids.set_uid(self.owners.send)

    def start(self, argv: list[bytes], become: Callable[[], None], copies: Copies) -> None:
        """Run argv, as become makes it, with copies: (descriptor, number that it gets), in this order."""

        def child() -> int | Exec:
            try:
                become()
                for fd, number in copies:
                    fds.copy(fd, number)
            except OSError as e:
                return strerr.fail(strerr.LATER, PROGRAM, b"unable to start ", argv[0], error=e)
            os.closerange(3, LAST + 1)
            return Exec(argv, self.env, who=PROGRAM)

        try:
            chain.spawn(child, self.env, "qmail-start")
        except OSError as e:
            raise Failed(b"unable to fork", e)

    def run(self, delivery: bytes, logger: list[bytes]) -> Exec:
        """Start all, and become qmail-send."""
        self.find(SEND, LSPAWN, RSPAWN, CLEAN)
        _reserve()
        log = 1
        if logger:
            lines, log = self.pipe()
            self.start(logger, self.become_logger, ((lines, 0),))
            os.close(lines)
        ours: list[int] = []
        for argv, become in (
            ([LSPAWN, delivery], self.become_lspawn),
            ([RSPAWN], self.become_rspawn),
            ([CLEAN], self.become_clean),
        ):
            (requests, asking), (hearing, reports) = self.pipe(), self.pipe()
            self.start(argv, become, ((log, 2), (requests, 0), (reports, 1)))
            os.close(requests)
            os.close(reports)
            ours += asking, hearing
        try:
            self.become_send()
            for number, fd in enumerate((log, *ours)):
                fds.copy(fd, number)
        except OSError as e:
            raise Failed(b"unable to start qmail-send", e)
        return Exec([SEND], self.env, who=PROGRAM)


def main(argv: list[bytes], env: Env) -> int | Exec:
    try:
        folder, env = programs.enter(env)
        os.chdir(b"/")
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to switch to ", home(env), error=e)
    os.umask(0o077)
    logger = argv[2:]
    try:
        return Starter(folder, env, bool(logger)).run(argv[1] if len(argv) > 1 else DEFAULT, logger)
    except Failed as e:
        return strerr.fail(strerr.LATER, PROGRAM, e.text, error=e.error)
