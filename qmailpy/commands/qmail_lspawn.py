"""NAME
    qmail-lspawn - have messages delivered to local users

SYNOPSIS
    qmail-lspawn DEFAULTDELIVERY

DESCRIPTION
    qmail-lspawn reads requests for deliveries from descriptor 0 and reports on descriptor 1 how each has ended.
    qmail-start(8) starts it as root, for qmail-send(8):

        SLOTS                                    once, when it is ready
        SLOT S/N NUL SENDER NUL RECIPIENT NUL    deliver queue/mess/S/N
        SLOT K TEXT NUL                          it is done
        SLOT Z TEXT NUL                          try again later
        SLOT D TEXT NUL                          it has failed for good

    SLOT is a byte below SLOTS, of which each is in use for one delivery at a time. At the end of the requests
    qmail-lspawn waits for the deliveries that run, and exits.

    For a delivery it forks. The part of RECIPIENT before its last @ says whose mail it is: as users/cdb has it, which
    qmail-newu(8) makes; else as qmail-getpw(8) finds it. The child becomes that user, with that group and no other,
    and then qmail-local(8), which HOME/bin or else PATH has:

        qmail-local -- USER HOME LOCAL DASH EXT DOMAIN SENDER DEFAULTDELIVERY

    The message is its descriptor 0; what it writes on 1 and 2, up to 3000 bytes, is the text of the report, and its
    exit code the letter. A program that it leaves behind with 1 or 2 open keeps the slot.

    If qmail-local is this toolkit's, the child waits 10 seconds for another delivery with the same user and group, and
    makes up to 200 of them. Whose mail it is is looked up anew for each.

    Without root, qmail-lspawn delivers to its own user, and defers what belongs to others. Mail that is no account's
    is then delivered by the .qmail files of HOME/alias, if that directory is its user's and there is no account alias.

CONTROL FILES
    concurrencylocal    SLOTS, if it is more than 120. From 256 on all numbers of slots are of two bytes, the low one
                        first; the hello is one write

ENVIRONMENT
    QMAILHOME    the home of the mail system. Default: /var/qmail

EXIT STATUS
    0      no more requests
    100    there is no DEFAULTDELIVERY
    111    there is no queue, or a control file cannot be read

SECURITY
    Nobody's mail is delivered as root. A message must belong to the owner of queue/mess. Of a user's own, nothing is
    looked at before the child is that user, for good: no child ever delivers for two users. users/cdb is trusted, and
    HOME/bin.

    Accounts are looked up by children that are still root, one of which does nothing else; by another program in the
    place of HOME/bin/qmail-getpw as qmailp with the group nofiles.

BUGS
    A qmail-send without the big-concurrency patch does not understand two bytes: with one, keep concurrencylocal below
    256.

SEE ALSO
    qmail-start(8), qmail-send(8), qmail-rspawn(8), qmail-local(8), qmail-newu(8), qmail-getpw(8)
"""

import os
from _collections_abc import Callable

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats.spawning import Request
from qmailpy.loops import spawner, workers
from qmailpy.mta import deliveryreports
from qmailpy.stores import programs, spawning, users
from qmailpy.unix import fds, ids, nss

PROGRAM = b"qmail-lspawn"
USAGE = b"qmail-lspawn defaultdelivery"

CONCURRENCY = b"concurrencylocal"
LOCAL = b"qmail-local"
GETPW = b"qmail-getpw"
GETPW_USER, GETPW_GROUP = b"qmailp", b"nofiles"
ANSWER = 65536  # bytes that qmail-getpw may say

FOREIGN = b"Not allowed to deliver to uid %d: qmail-lspawn runs as uid %d.\n"


class Undeliverable(Exception):
    """code: what the child exits with."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Deliveries(spawner.Crew):
    """What is the same for all of them. folder: the home; default: DEFAULTDELIVERY.

    A child goes on with deliveries for the uid and gid that it has. It is not asked whose they are: that is known here
    from users/cdb, or from a child that does nothing else than to look for accounts. It may hang, or crash: then there
    is a new child for the delivery, as for the first one."""

    __slots__ = ("_accounts", "default", "env", "folder", "uid")

    def __init__(self, folder: bytes, env: Env, default: bytes) -> None:
        self.folder = folder
        self.env = env
        self.default = default
        self.uid = os.geteuid()
        self._accounts = workers.Oracle(self._begin_accounts)

    def fork(self, request: Request, message: int, output: int, sock: workers.Socket | None, text: bytes | None) -> int:
        seat = workers.Seat(sock)
        data = None if text is None else text.rsplit(b"\0", 2)[0]

        def child() -> int | Exec:
            return self.child(seat, request, data, message, output)

        if sock is None:
            return chain.spawn(child, self.env, "qmail-lspawn")

        def then(code: int) -> "Callable[[], int | Exec] | int":
            return self.another(seat, code)

        return chain.serve(child, then, self.env, "qmail-lspawn", sock.fileno())

    def kind(self, request: Request, text: bytes) -> object | None:
        """Uid and gid."""
        return self.deliverable(text)

    def known(self, request: Request) -> tuple[object, bytes] | None:
        local = request.recipient.rpartition(b"@")[0]
        if not local:
            return None
        try:
            data = users.assigned(local, self.folder)
        except (OSError, LookupError, MemoryError):
            return None
        data = self._accounts.ask(local) if data is None else data
        if data is None:
            return None
        found = self.deliverable(data)
        return None if found is None else (found, b"\0".join((data, request.sender, request.recipient)))

    def _begin_accounts(self, sock: workers.Socket) -> int:
        return chain.spawn(lambda: workers.answer(sock, self._look_up), self.env, "qmail-lspawn")

    def _look_up(self, local: bytes) -> bytes | None:
        """The six strings of an account; None if anything is not as usual."""
        if chain.command_of(programs.find(self.folder, GETPW), self.env) != "qmail-getpw":
            return None
        try:
            return self.account(local)
        except (users.Trouble, OSError, MemoryError):
            return None

    def deliverable(self, data: bytes) -> tuple[int, int] | None:
        """Uid and gid of six strings; None if no mail can be delivered for them."""
        try:
            user = users.User(data)
        except ValueError:
            return None
        return (user.uid, user.gid) if user.uid and self.uid in (0, user.uid) else None

    def child(self, seat: workers.Seat, request: Request, data: bytes | None, message: int, output: int) -> int | Exec:
        """The first delivery of a process. data: the six strings, if they are known."""
        try:
            spawner.attach(message, output)
            return self.deliver(seat, request.sender, request.recipient, data)
        except (Undeliverable, users.Trouble) as e:
            return e.code
        except OSError:
            return deliveryreports.SYSTEM
        except MemoryError:
            return deliveryreports.NO_MEMORY

    def another(self, seat: workers.Seat, code: int) -> "Callable[[], int | Exec] | int":
        """The next delivery of a process, after one that has ended with code; or its exit code."""
        found = seat.next(code)
        if isinstance(found, int):
            return found
        text, message, output = found
        data, sender, recipient = text.rsplit(b"\0", 2)

        def child() -> int | Exec:
            spawner.attach(message, output)
            user = users.User(data)
            if (os.geteuid(), os.getegid()) != (user.uid, user.gid):
                return deliveryreports.NOT_UNDERSTOOD
            local, _, domain = recipient.rpartition(b"@")
            return self.local(user, local, domain, sender)

        return child

    def deliver(self, seat: workers.Seat, sender: bytes, recipient: bytes, data: bytes | None) -> int | Exec:
        local, _, domain = recipient.rpartition(b"@")
        if not local:  # <>
            return 0
        try:
            os.chdir(self.folder)
        except OSError:
            return deliveryreports.NOT_UNDERSTOOD
        if data is None:
            data = self.find(local)
        try:
            user = users.User(data)
        except ValueError:
            return deliveryreports.NOT_UNDERSTOOD
        if user.uid == 0:
            return deliveryreports.ROOT
        if self.uid not in (0, user.uid):
            fds.write_all(1, FOREIGN % (user.uid, self.uid))
            return strerr.LATER
        seat.found(data)  # while no user can have a hand in it
        try:
            if self.uid == 0:
                _become(user.uid, user.gid)
        except Undeliverable:
            seat.last()
            raise
        return self.local(user, local, domain, sender)

    def local(self, user: users.User, local: bytes, domain: bytes, sender: bytes) -> Exec:
        argv = [b"bin/" + LOCAL, b"--", user.name, user.home, local, user.dash, user.ext, domain, sender, self.default]
        return Exec(argv, self.env, file=programs.find(self.folder, LOCAL), code=deliveryreports.NOT_RUN)

    def find(self, local: bytes) -> bytes:
        """The six strings for a local part. Raises Undeliverable, users.Trouble, ValueError."""
        try:
            found = users.assigned(local)
        except (OSError, LookupError):
            raise Undeliverable(deliveryreports.NO_CDB)
        if found is not None:
            return found
        program = programs.find(self.folder, GETPW)
        if chain.command_of(program, self.env) == "qmail-getpw":
            return self.account(local)
        return self.ask(program, local)

    def account(self, local: bytes) -> bytes:
        """The account of a local part; in a home of one user, what there is in the place of alias."""
        try:
            return users.account(local)
        except users.Trouble as e:
            own = users.own_alias(self.folder, local) if self.uid and e.code == users.NO_ALIAS else None
            if own is None:
                raise
            return own

    def ask(self, program: bytes, local: bytes) -> bytes:
        """The answer of an administrator's own qmail-getpw, or of the original."""
        reading, writing = os.pipe()
        pid = chain.spawn(lambda: self.getpw(program, local, writing), self.env, "qmail-lspawn")
        os.close(writing)
        answer = fds.read_all(reading, ANSWER)
        os.close(reading)
        status = os.waitpid(pid, 0)[1]
        if status & 127:
            raise Undeliverable(deliveryreports.SYSTEM)
        if status:
            raise Undeliverable(status >> 8)
        return answer.rpartition(b"\0")[0]

    def getpw(self, program: bytes, local: bytes, writing: int) -> int | Exec:
        try:
            if self.uid == 0:
                _become(ids.user(GETPW_USER), ids.group(GETPW_GROUP))
        except (LookupError, Undeliverable):
            return deliveryreports.NOT_UNDERSTOOD
        fds.move(writing, 1)
        return Exec([b"bin/" + GETPW, local], self.env, file=program, code=deliveryreports.NO_GETPW)


def _become(uid: int, gid: int) -> None:
    """Raises Undeliverable."""
    try:
        ids.drop(uid, gid)
    except OSError:
        raise Undeliverable(deliveryreports.NOT_UNDERSTOOD)


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) < 2:
        return strerr.usage(PROGRAM, USAGE)
    fds.fill_standard()
    try:
        place = spawning.Place(env, CONCURRENCY)
    except spawning.Failed as e:
        return strerr.fail(strerr.LATER, PROGRAM, e.text, error=e.error)
    deliveries = Deliveries(place.home, place.env, argv[1])
    nss.prepare()
    chain.preload([programs.find(place.home, LOCAL), programs.find(place.home, GETPW)], place.env)
    slots, wide = spawner.capacity(place.concurrency)
    keep = deliveryreports.LOCAL_LONGEST + 1
    spawner.Spawner(slots, wide, place.owner, deliveries, deliveryreports.local, keep).run()
    return 0
