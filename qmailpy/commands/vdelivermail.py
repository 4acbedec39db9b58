"""NAME
    vdelivermail - deliver a message to a user of a virtual domain

SYNOPSIS
    vdelivermail '' ACTION

DESCRIPTION
    vdelivermail is the line of the .qmail-default of a virtual domain, as vadddomain(8) writes it:

        | VHOME/bin/vdelivermail '' ACTION

    qmail-local(8) runs it for each message to a user of the domain who has no .qmail file in the domain's folder: such
    a file is an alias, and comes first. The user is EXT, the domain HOST, both in any case, and HOST may be an alias of
    the domain. The message is on descriptor 0; if that is no file, it is copied into one, and if nothing comes, the
    filter in front has died, and the message is tried again later. The first argument is ignored.

    The user's account is looked for in the domain's vpasswd.cdb: that of EXT, or else of EXT up to a hyphen, the
    longest that there is. What follows the hyphen is an extension.

    An account's folder may have .qmail files: .qmail-EXTENSION, or .qmail-...-default in its place, as qmail-local
    looks for them; or .qmail. The lines of the first one that there is are followed, with that folder as the working
    directory, and the Maildir gets nothing unless a line says so. A file that has nothing but blank lines is none; one
    of comments throws the mail away.

    Without such a file the message goes to Maildir in the account's folder. Both are made if they are missing.

    #TEXT         nothing
    ./DIR/        put the message into the Maildir DIR; also /DIR/
    |COMMAND      run COMMAND with /bin/sh -c; it finds the message on descriptor 0
    &ADDRESS      forward the message; also ADDRESS alone
    ./FILE        trouble: there are no mbox files

    A command's exit code is treated as qmail-local does, and no shell is started where qmail-local starts none. The
    message is forwarded once to all addresses, after everything else, with the envelope sender that it has and a field
    Delivered-To in front.

ACTIONS
    What becomes of mail for a user who has no account:

    bounce-no-mailbox    it is returned, with the text of .no-user.msg
    delete               it is thrown away
    /DIR                 the .qmail file of DIR is followed; if there is none, it goes to DIR/Maildir
    ADDRESS, &ADDRESS    it is forwarded
    |PROGRAM             it is given to PROGRAM

QUOTAS
    What the account's Maildir may hold is its quota, in bytes and messages, Return-Path and Delivered-To included; what
    another Maildir may, is the first line of the file maildirsize in it, if there is one. Folders of the Maildir count,
    .Trash and messages that are marked as deleted do not. Of deliveries at once as many are taken as there is room for.

    A message that there is no room for is returned, with the text of .over-quota.msg; but before that all is counted
    anew, unless nothing has changed since the last time. If 90 percent of the quota are used, .quotawarn.msg is
    delivered too, at most once a day.

    .no-user.msg, .over-quota.msg and .quotawarn.msg are in the domain's folder, or in VHOME/domains. Without
    .quotawarn.msg there are no warnings.

ENVIRONMENT
    EXT, HOST          the user and the domain
    DTLINE             the line Delivered-To that the message would get; a message that has been there is looping
    RPLINE             the line Return-Path, put in front of the message
    SENDER             the envelope sender; unset, what RPLINE has
    DELIVER_TO_STDOUT  if it is set, what would go into a Maildir is written on descriptor 1
    QMAILQUEUE         the program to be run instead of qmail-queue
    QMAILHOME          the home of the mail system; unset, /var/qmail
    VPOPMAILHOME       VHOME; unset, the home of the account vpopmail, or else QMAILHOME

EXIT STATUS
    0      done
    99     done, and qmail-local is to follow no other line
    100    never: the message is returned
    111    later

SECURITY
    Root delivers as the domain's owner. The names and lines of virtual users are no part of a command but for their own
    .qmail files: whoever may write these runs commands as the domain's owner.

BUGS
    A message that is tried again is delivered anew by the lines in front of the one that failed. There are no quotas of
    domains. C programs that deliver to the same Maildir do not wait for each other, nor for this one.

SEE ALSO
    qmail-local(8), vadddomain(8), vadduser(8), valias(8), vsetuserquota(8), vchkrcpt(8), vchkpw(8)
"""

import errno
import os
import time

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import maildirsize, qmaildefault, qmailfile, vpasswd, vpopfields, vpopmail
from qmailpy.mta import dotqmail
from qmailpy.stores import delivery
from qmailpy.stores import maildirsize as counting
from qmailpy.stores.vpopmail import accounts, addressees, mailboxes
from qmailpy.unix import fds, ids, signals

PROGRAM = b"vdelivermail"

SHELL = b"/bin/sh"
WARN_PERCENT = 90  # of the quota

NO_USER = b".no-user.msg"
OVER_QUOTA = b".over-quota.msg"
QUOTA_WARNING = b".quotawarn.msg"

SYNTAX = b"vdelivermail: invalid syntax in .qmail-default file"
NO_EXT = b"vdelivermail: no EXT environment varilable"
NO_HOST = b"vdelivermail: no HOST environment varilable"
BAD_USER = b"invalid username"
BAD_DOMAIN = b"invalid domain name"
NO_DOMAIN = b"vdelivermail: no such domain: %s"
LOOPING = b"mail is looping"
LOCKED = b"vdelivermail: account is locked email bounced %s"
NO_MAILBOX = b"Sorry, no mailbox here by that name. (#5.1.1)"
FULL = b"user is over quota"
INSTEAD = b"user does not exist, but will deliver to %s"
NO_MBOX = b"can't handle mbox delivery for %s"
NO_FOLDER = b"Auto creation of maildir failed. (#5.9.8)"
NOT_FORWARDED = b"system error calling qmail-inject"
SYSTEM = b"system error"
NO_MEMORY = b"system error: out of memory"


class Ended(Exception):
    """The delivery ends here: text, if there is some, is said; code is the exit code."""

    def __init__(self, code: int, text: bytes = b"") -> None:
        super().__init__(code)
        self.code = code
        self.text = text


def show(text: bytes) -> None:
    """Say it on descriptor 1, whether anybody reads it or not."""
    try:
        fds.write_all(1, text if text.endswith(b"\n") else text + b"\n")
    except OSError:
        pass


def trouble(what: bytes, error: OSError) -> Ended:
    """To be tried again; the reason goes into the log."""
    strerr.fail(strerr.LATER, PROGRAM, b"unable to ", what, error=error)
    return Ended(strerr.LATER, SYSTEM)


class Recipient:
    """Whom the message is for: user, in lower case; host, as it was given; domain; and address, user@domain with the
    real name of the domain."""

    __slots__ = ("address", "domain", "user")

    def __init__(self, env: Env) -> None:
        user, host = env.get(b"EXT"), env.get(b"HOST")
        if user is None or host is None:
            raise Ended(strerr.NEVER, NO_EXT if user is None else NO_HOST)
        self.user = user.lower()
        if not addressees.is_name(self.user):
            raise Ended(strerr.NEVER, BAD_USER)
        if host.lower().translate(None, vpopmail.DOMAIN_CHARACTERS):
            raise Ended(strerr.NEVER, BAD_DOMAIN)
        try:
            domain = addressees.domain_of(env, host)
        except OSError as e:
            raise trouble(b"find the domain", e)
        if domain is None:
            raise Ended(strerr.LATER, NO_DOMAIN % host)
        self.domain = domain
        self.address = self.user + b"@" + domain.name


class Delivery:
    """What happens to the message. account: whose quota counts, if it is an account's; address: where it is delivered
    to."""

    __slots__ = ("_account", "_address", "_addresses", "_env", "_message", "_recipient")

    def __init__(self, recipient: Recipient, message: delivery.Message, env: Env) -> None:
        self._recipient = recipient
        self._message = message
        self._env = env
        self._account: vpasswd.Account | None = None
        self._address = recipient.address
        self._addresses: list[bytes] = []

    def deliver(self, action: bytes) -> int:
        """To the account, or as ACTION says. Returns the exit code."""
        self._refuse_loop(self._recipient.address)
        try:
            account, ext = addressees.account_of(self._recipient.domain, self._recipient.user)
        except OSError as e:
            raise trouble(b"look for the account", e)
        code = self._otherwise(action) if account is None else self._to_account(account, ext)
        if self._addresses:
            self._forward()
        return code

    # Whose it is

    def _to_account(self, account: vpasswd.Account, ext: bytes) -> int:
        if account.gid & vpasswd.BOUNCE_MAIL:
            raise Ended(strerr.NEVER, LOCKED % self._recipient.address)
        try:
            account = self._account = mailboxes.settle(self._recipient.domain, account)
        except (OSError, vpopmail.Invalid):
            raise Ended(strerr.LATER, NO_FOLDER)
        self._address = account.name + b"@" + self._recipient.domain.name
        try:
            os.chdir(account.dir)
        except FileNotFoundError:
            self._make_maildir(account)
        except OSError as e:
            raise trouble(b"go to " + account.dir, e)
        text = self._own_lines(ext)
        if text:
            return self._follow(text)
        self._put(account.dir + accounts.MAILDIR + b"/")
        return 0

    def _own_lines(self, ext: bytes) -> bytes:
        """The .qmail file of the working directory; b"" if there is none, or if it says nothing."""
        names = [name for name, _ in qmailfile.candidates(b"-", ext)] if ext else []
        for name in (*names, qmailfile.PREFIX):
            try:
                text = addressees.read(name)
            except OSError as e:
                raise trouble(b"read " + name, e)
            if text is not None:
                return text if any(line.strip(b" \t\0") for line in text.split(b"\n")) else b""
        return b""

    def _make_maildir(self, account: vpasswd.Account) -> None:
        """Its folder and Maildir, as far as they are missing."""
        try:
            mailboxes.make(self._recipient.domain, account)
            os.chdir(account.dir)
        except OSError as e:
            strerr.warn(PROGRAM, b"unable to make ", account.dir, error=e)
            raise Ended(strerr.LATER, NO_FOLDER)

    def _otherwise(self, action: bytes) -> int:
        kind = qmaildefault.kind(action)
        if kind == qmaildefault.BOUNCED:
            raise Ended(strerr.NEVER, self._text(NO_USER) or NO_MAILBOX)
        if kind == qmaildefault.FOLDER and action.startswith(b"/"):
            return self._to_folder(action if action.endswith(b"/") else action + b"/")
        if kind == qmaildefault.FOLDER:
            self._into(action)
        elif kind == qmaildefault.RUN:
            return self._run(action)
        elif kind == qmaildefault.FORWARDED:
            self._add(qmaildefault.address(action))
        elif kind != qmaildefault.DELETED:
            raise Ended(strerr.LATER, SYNTAX)
        return 0

    def _to_folder(self, folder: bytes) -> int:
        show(INSTEAD % folder)
        path = folder.rstrip(b"/")
        try:
            os.chdir(folder)
            account = accounts.get(self._recipient.domain, os.path.basename(path))
        except OSError as e:
            raise trouble(b"go to " + folder, e)
        if account is not None and account.dir == path:
            self._account = account
        text = self._own_lines(b"")
        if text:
            return self._follow(text)
        self._put(path + accounts.MAILDIR + b"/")
        return 0

    def _text(self, name: bytes) -> bytes | None:
        return addressees.text(self._env, self._recipient.domain, name)

    # What is done

    def _follow(self, text: bytes) -> int:
        for kind, line in qmailfile.instructions(text):
            word = qmailfile.up_to_nul(line)
            if kind == qmailfile.FORWARD:
                self._add(word)
            elif kind == qmailfile.PROGRAM:
                if self._run(word) == dotqmail.STOP:
                    return dotqmail.STOP
            elif kind in (qmailfile.MAILDIR, qmailfile.MBOX):
                self._into(word)
        return 0

    def _add(self, address: bytes) -> None:
        self._refuse_loop(address)
        self._addresses.append(address)

    def _refuse_loop(self, address: bytes) -> None:
        line = vpopfields.delivered_to(address)
        try:
            looping = self._message.header_has(line, any_case=True)
        except delivery.Undelivered as e:
            raise trouble(b"read message", e.error)
        if looping or self._env.get(b"DTLINE", b"").lower() == line.lower():
            raise Ended(strerr.NEVER, LOOPING)

    def _into(self, path: bytes) -> None:
        """As a line says."""
        if not path.endswith(b"/"):
            raise Ended(strerr.LATER, NO_MBOX % path)
        self._put(path)

    def _put(self, path: bytes) -> None:
        """Into a Maildir."""
        account = self._account
        own = account if account is not None and is_maildir_of(account, path) else None
        quota = None if own is None else maildirsize.quota(own.quota)
        head = self._env.get(b"RPLINE", b"") + vpopfields.delivered_to(self._address)
        if b"DELIVER_TO_STDOUT" in self._env:
            self._copy(head)
            return
        counter = counting.Counter(quota)
        try:
            try:
                self._put_counted(path, head, counter)
            except (OSError, delivery.Undelivered) as e:
                reason = e.error if isinstance(e, delivery.Undelivered) else e
                if own is None or reason.errno != errno.ENOENT:
                    raise
                self._make_maildir(own)
                self._put_counted(path, head, counter)
        except counting.Over:
            show(self._text(OVER_QUOTA) or FULL)
            self._warn(path)
            raise Ended(strerr.NEVER)
        except delivery.Undelivered as e:
            raise trouble(b"deliver to " + path, e.error)
        except OSError as e:
            raise trouble(b"deliver to " + path, e)
        if counter.percent() >= WARN_PERCENT:
            self._warn(path)

    def _put_counted(self, path: bytes, head: bytes, counter: counting.Counter) -> None:
        """Raises Over, OSError, Undelivered."""
        if not counter.has_room(path, len(head) + self._message.size()):
            raise counting.Over
        delivery.to_maildir(path, head, self._message, counter)

    def _copy(self, head: bytes) -> None:
        try:
            fds.write_all(1, head)
            for block in self._message.blocks():
                fds.write_all(1, block)
        except delivery.Undelivered as e:
            raise trouble(b"read message", e.error)
        except OSError as e:
            raise trouble(b"write message", e)

    def _warn(self, path: bytes) -> None:
        """Deliver the warning, if there is one and it is due. The message itself does not depend on it."""
        text = self._text(QUOTA_WARNING)
        if text is None:
            return
        now = int(time.time())
        head = vpopfields.delivered_to(self._address) + vpopfields.date(now)
        unlimited = counting.Counter(maildirsize.Quota())
        try:
            if counting.begin_warning(path, now):
                delivery.to_maildir(path, head, delivery.Text(text), unlimited)
        except delivery.Undelivered as e:
            strerr.warn(PROGRAM, b"unable to deliver the warning to ", path, error=e.error)
        except OSError as e:
            strerr.warn(PROGRAM, b"unable to deliver the warning to ", path, error=e)

    def _run(self, line: bytes) -> int:
        """The exit code of a program, if it lets us go on."""
        command = line.lstrip(b" |")
        env = {**self._env, b"SHELL": SHELL}
        words = qmailfile.plain_words(command)
        if not words or not chain.command_of(words[0], env):
            words = []
        try:
            self._message.rewind()
            pid = chain.spawn(lambda: become(words, command, env), env, "vdelivermail")
        except delivery.Undelivered as e:
            raise trouble(b"rewind message", e.error)
        except OSError as e:
            raise trouble(b"fork", e)
        status = os.waitpid(pid, 0)[1]
        code = -1 if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        if code not in (0, dotqmail.STOP):
            raise Ended(strerr.NEVER if code in dotqmail.HARD else strerr.LATER)
        return code

    def _forward(self) -> None:
        """To all addresses at once. With more than one, the field Delivered-To is the same for all."""
        from qmailpy.stores import forwarding  # heavy, and most mail goes into a Maildir

        dtline = vpopfields.onward(self._env.get(b"DTLINE"), self._addresses[0])
        env = {**self._env, b"DTLINE": dtline}
        sender = self._env.get(b"SENDER")
        if sender is None:
            sender = vpopfields.sender(self._env.get(b"RPLINE", b""))

        def spawn(child) -> int:  # type: ignore[no-untyped-def]
            return chain.spawn(child, env, "vdelivermail")

        try:
            blocks = self._message.blocks()
            _, problem = forwarding.forward(blocks, sender, self._addresses, env, (spawn, Exec))
        except forwarding.NotBegun as e:
            raise trouble(b"fork", e)
        except delivery.Undelivered as e:
            raise trouble(b"read message", e.error)
        if problem:
            code = strerr.NEVER if problem.startswith(b"D") else strerr.LATER
            strerr.fail(code, PROGRAM, b"unable to forward message: ", problem[1:])
            raise Ended(code, NOT_FORWARDED)


def is_maildir_of(account: vpasswd.Account, path: bytes) -> bool:
    """Whether path, from the account's folder, is that of its Maildir."""
    return os.path.normpath(os.path.join(account.dir, path)) == os.path.normpath(account.dir + accounts.MAILDIR)


def become(words: list[bytes], command: bytes, env: Env) -> Exec:
    """In a process of its own: the program of a line, as qmail-local starts it."""
    signals.default(signals.PIPE)
    if words:
        return Exec(words, {**env, b"PWD": os.getcwdb()}, who=PROGRAM)
    return Exec([SHELL, b"-c", command], env, who=PROGRAM)


def make_seekable() -> None:
    """Have a file on descriptor 0, as a program in front of us may be a filter. Raises OSError: EIO if that has died
    before it said anything, as each message has a field at least."""
    try:
        os.lseek(0, 0, os.SEEK_CUR)
        return
    except OSError as e:
        if e.errno != errno.ESPIPE:
            raise
    fd = os.open(b"/tmp", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        while block := os.read(0, delivery.BLOCK):
            fds.write_all(fd, block)
        if not os.fstat(fd).st_size:
            raise OSError(errno.EIO, "")
    except BaseException:
        os.close(fd)
        raise
    fds.move(fd, 0)


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o077)
    signals.ignore(signals.PIPE)
    try:
        if len(argv) != qmaildefault.WORDS:
            raise Ended(strerr.LATER, SYNTAX)
        recipient = Recipient(env)
        try:
            make_seekable()
            if os.geteuid() == 0:
                ids.drop(recipient.domain.uid, recipient.domain.gid)
        except OSError as e:
            raise trouble(b"prepare the delivery", e)
        return Delivery(recipient, delivery.Message(), env).deliver(argv[2])
    except Ended as e:
        if e.text:
            show(e.text)
        return e.code
    except MemoryError:
        show(NO_MEMORY)
        return strerr.LATER
