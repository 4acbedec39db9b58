"""NAME
    qmail-authd - check passwords for programs that may not read them

SYNOPSIS
    qmail-authd [-T] [-s SOCKET] [-u USERS] [-g GROUP] [-c LIMIT] [-t TIMEOUT] [-a FAILURES] [-n FAILURES]
        [-f SECONDS] [-w ADDRESSES] CHECKER [ARG...]

DESCRIPTION
    qmail-authd answers questions of checkpassword-authd(8) on a local socket: is this the password of that account?
    For each it runs CHECKER, a program with the checkpassword interface, and all that comes back is yes, with the
    account's name; no; or later. So a server like qmail-smtpd needs no right to read passwords:

        qmail-authd checkpassword

    as root, and as qmaild

        qmail-smtpd mail.example checkpassword-authd true

    CHECKER is run with the arguments ARG, and then a program of qmail-authd's own that reports the variable USER as
    CHECKER has set it. If CHECKER does not set it, the name is the one that was asked about. TCPREMOTEIP is what the
    caller has, USER is removed, all else in the environment is qmail-authd's. Descriptors 0 and 1 are /dev/null.

    If CHECKER ends with 1, or with 3, 12, 13, 15, 20, 21, 22 or 23, as vchkpw does, the answer is no. Any other end
    but a right password makes it later: also 2, which means that CHECKER was called wrongly; and 0 if nobody has read
    descriptor 3, as with `qmail-authd setuidgid nobody`, where CHECKER was forgotten.

    Failures are counted, over all callers together. Attempts at an account, or from an address, that fail too often
    are let through one at a time and with pauses between them; see THROTTLING.

    On SIGTERM qmail-authd takes no more questions, gives what runs five seconds, and ends.

OPTIONS
    -s SOCKET      the socket; default: run/qmail-authd in QMAILHOME. The folder is made if it is missing, and
                   must not be writable for others than its owner
    -u USERS       who may ask, besides root and qmail-authd's own user: names or numbers, with commas between them;
                   default: qmaild, where that account exists
    -g GROUP       instead of -u: the members of this group may ask
    -c LIMIT       run CHECKER at most LIMIT times at a time, default 20; further questions wait. A quarter of them,
                   rounded down, is for known pairs only
    -t TIMEOUT     kill CHECKER, and what it has started, after TIMEOUT seconds, default 30; the answer is later
    -a FAILURES    how many failures an address has free, default 10; 0: do not count by address
    -n FAILURES    how many failures an account has free, default 10; 0: do not count by account
    -f SECONDS     a failure weighs half after SECONDS, default 600
    -w ADDRESSES   addresses, with commas between them, behind which many people are, such as that of a webmail
                   server: neither they nor pairs with them are counted, only accounts are
    -T             run CHECKER with `true` behind it, and take the name that was asked about. For a CHECKER that
                   looks at the word, as vchkpw does, or that closes descriptor 4

    -r reports USER on descriptor 4. It is what CHECKER runs, and of no use otherwise.

THROTTLING
    An address, for IPv6 the 64 bits of its network, and an account have ten failures free, and so many attempts at a
    time. Then attempts are made one by one. After each failure there is a pause of one second, two, four and so on;
    for an address up to 600 seconds, for an account up to 8. As failures lose half their weight in ten
    minutes, an address that goes on and on gets about one attempt a minute, and an account, whatever the number of
    addresses, one in 8 seconds.

    A question that comes in a pause is held until the pause is over, and for ten seconds at most. If that is not
    enough, the answer is later, at once and without a run of CHECKER. At most 200 questions are held of one address.
    In the pauses of an account 10 are held from addresses without failures of their own, one of each, and 10 more from
    all others; the former are tried first.

    A known pair, of an account and an address that has given its right password in the last 30 days, is exempt:
    failures of other addresses, and of the address with other accounts, do not count for it. Its own do, for itself
    alone: five are free, then pauses go up to 8 seconds. So nobody can lock an account for its owner from
    elsewhere. An owner at a new address shares the pauses of his account with those who guess at it: he is tried before
    all who have failed within the last ten minutes, but who has always more addresses that have not, about one for each
    8 seconds, can keep him waiting. So can those who guess if he mistypes himself.

    Right passwords take nothing off the counts of addresses and accounts. Names count without regard to case.
    Questions that are not tried are not counted, and neither is an answer of later.

    There are at most 10000 records of addresses, accounts and pairs each; what weighs least is forgotten first. Of
    known pairs there are 10000, and 100 of one account: first forgotten is the one of that account that was right
    longest ago, or else one of the account that was. A restart forgets all.

LOG
    On descriptor 2, a line for each question that was not answered with yes:

        qmail-authd: refused ADDRESS ACCOUNT
        qmail-authd: later ADDRESS ACCOUNT: REASON

    ADDRESS is the client's, or `uid:` and the caller's number if there is none. REASON is throttled, held for too
    long, timed out, exit CODE, killed by signal NUMBER, does not read descriptor 3, and the like. In both words all
    but printing ASCII is shown as ?, and what is longer than 100 bytes is cut. CHECKER's own complaints go to
    descriptor 2 too.

ENVIRONMENT
    QMAILHOME      default: /var/qmail
    TCPREMOTEIP    of CHECKER: the client's address, unset if the caller has none
    QMAILPY_COLD   if set and not empty, programs of this toolkit are executed like anybody's

EXIT STATUS
    0      ended by SIGTERM
    100    wrong usage; CHECKER is `true`, which lets everybody in
    111    unable to start; temporary failure means that another qmail-authd has the socket

SECURITY
    The kernel says who the caller is. Callers are believed in what they say of the client's address: who may ask
    may ask about anything, and call himself any address.

    Passwords are overwritten in memory as soon as they are in the pipe for CHECKER, and no process of a check has
    more than its own. The log has the names of failed logins: somebody may have typed a password there. Let only
    root read it.

    What reports is a process of the account's, if CHECKER changes its uid. Where CHECKER is not of this toolkit,
    that is a shell, and the account's owner may, by tracing it, have it report another name; not that a password is
    right. With -T there is no such process to report a name.

BUGS
    A CHECKER that leaves its session is not killed after TIMEOUT, only the answer is given.

    A member of more than 256 groups is not recognized by -g.

SEE ALSO
    checkpassword-authd(8), checkpassword(8), checkpassword-flatfile(8), qmail-smtpd(8), multilog(8)
"""

import os

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import authd, fd3, options
from qmailpy.loops import questions
from qmailpy.mta import throttle
from qmailpy.stores.home import home
from qmailpy.unix import fds, ids, local

PROGRAM = b"qmail-authd"
USAGE = (
    b"qmail-authd [ -T ] [ -s socket ] [ -u users ] [ -g group ] [ -c limit ] [ -t timeout ] [ -a failures ] "
    b"[ -n failures ] [ -f seconds ] [ -w addresses ] checker [ arg ... ]"
)
LETTERS = b"Trs:u:g:c:t:a:n:f:w:"

SOCKET = b"/run/qmail-authd"
QMAILD = b"qmaild"
STRANGERS = 100  # whose uids are remembered, for one line each

REPORT = questions.REPORT
MARK = b"="  # before USER: a checker may end with 0 and have run nothing
OWN_REPORTER = [PROGRAM, b"-r"]
SHELL_REPORTER = [b"/bin/sh", b"-c", b'printf "=%s" "$USER" >&4 || exit 111']
DECIDE_ONLY = [b"true"]

FIELD_LIMIT = 100  # bytes of a field in a log line
LOGGABLE = bytes(ch if 33 <= ch <= 126 else ord("?") for ch in range(256))

# Options with a number: letter -> (setting, smallest)
NUMBERS = {
    b"c": ("limit", 1),
    b"t": ("timeout_s", 1),
    b"a": ("free_address", 0),
    b"n": ("free_account", 0),
    b"f": ("half_life_s", 1),
}
LARGEST = 1_000_000


class Misuse(Exception):
    """The command line is wrong."""


class Fatal(Exception):
    """qmail-authd cannot start. args[0]: what it says, without the reason."""

    def __init__(self, text: bytes, error: OSError | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.error = error


class Settings:
    """What the command line says."""

    def __init__(self, env: Env) -> None:
        self.socket = home(env) + SOCKET
        self.limit = 20
        self.timeout_s = 30
        self.free_address = self.free_account = 10
        self.half_life_s = 600
        self.decide_only = self.report = False
        self.trusted: tuple[bytes, ...] = ()
        self.group: int | None = None
        self.users: list[int] | None = None

    def read(self, letters: list[tuple[bytes, bytes]]) -> None:
        """Raises Misuse, and Fatal for an unknown user or group."""
        for letter, word in letters:
            if letter in NUMBERS:
                name, smallest = NUMBERS[letter]
                if not word.isdigit() or not smallest <= int(word[:12]) <= LARGEST:
                    raise Misuse
                setattr(self, name, int(word))
            elif letter == b"s":
                self.socket = word
            elif letter == b"u":
                self.users = [_id(ids.user, user, b"user") for user in word.split(b",")]
            elif letter == b"g":
                self.group = _id(ids.group, word, b"group")
            elif letter == b"w":
                self.trusted = tuple(word.split(b","))
            elif letter == b"T":
                self.decide_only = True
            else:  # -r
                self.report = True
        if self.users is not None and self.group is not None:
            raise Misuse


def _id(find, word: bytes, kind: bytes) -> int:  # type: ignore[no-untyped-def]
    try:
        number: int = find(word)
    except LookupError:
        raise Fatal(b"unknown " + kind + b" " + word)
    return number


class Callers:
    """Who may ask."""

    def __init__(self, settings: Settings) -> None:
        self._group = settings.group
        self._users = {0, os.geteuid(), *(settings.users or ())}
        if settings.users is None and settings.group is None:
            try:
                self._users.add(ids.user(QMAILD))
            except LookupError:
                pass
        self._strangers: set[int] = set()

    def rights(self) -> tuple[int, int, int]:
        """Mode, owner and group of the socket, -1 for what stays, so that the kernel keeps away whom it can."""
        others = self._users - {0, os.geteuid()}
        if self._group is not None:
            return 0o660, -1, self._group
        if len(others) == 1 and os.geteuid() == 0:
            return 0o600, others.pop(), -1
        return 0o666 if others else 0o600, -1, -1

    def allowed(self, fd: int, uid: int, gid: int) -> bool:
        if uid in self._users or (self._group is not None and self._group in (gid, *local.peer_groups(fd))):
            return True
        if uid not in self._strangers and len(self._strangers) < STRANGERS:
            self._strangers.add(uid)
            strerr.warn(PROGRAM, b"uid %d may not ask" % uid)
        return False


class Check:
    """The process that looks at one password: what it becomes, and what its end means."""

    def __init__(self, checker: list[bytes], decide_only: bool, env: Env) -> None:
        self._env = {name: value for name, value in env.items() if name not in (b"USER", b"TCPREMOTEIP")}
        self._reports = not decide_only
        self.argv = checker + (DECIDE_ONLY if decide_only else _reporter(checker[0], env))

    def become(self, address: bytes) -> Exec:
        env = {**self._env, b"TCPREMOTEIP": address} if address else self._env
        return Exec(self.argv, env, who=PROGRAM)

    def judge(self, status: int, report: bytes) -> tuple[bytes, bytes]:
        """(YES, user), (NO, b"") or (LATER, why) by a wait status and what has come on descriptor 4."""
        if os.WIFSIGNALED(status):
            return authd.LATER, b"killed by signal %d" % os.WTERMSIG(status)
        code = os.WEXITSTATUS(status)
        if code in fd3.WRONG:
            return authd.NO, b""
        if code:
            return authd.LATER, b"exit %d" % code
        if not self._reports:
            return authd.YES, b""
        if not report.startswith(MARK) or len(report) > authd.PACKET or b"\0" in report:
            return authd.LATER, b"exit 0 without a report"
        return authd.YES, report[len(MARK) :]


def _reporter(checker: bytes, env: Env) -> list[bytes]:
    """Our own runs warm behind a checker of ours; behind others' a shell starts faster."""
    own = chain.command_of(checker, env) and chain.command_of(PROGRAM, env)
    return OWN_REPORTER if own == PROGRAM.decode() else SHELL_REPORTER


def report(env: Env) -> int:
    """What CHECKER becomes: say who it has become."""
    try:
        os.write(REPORT, MARK + env.get(b"USER", b""))
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to report", error=e)
    return 0


def _loggable(field: bytes) -> bytes:
    """A field that cannot forge or break a line."""
    text = field[:FIELD_LIMIT].translate(LOGGABLE)
    return text + b"..." if len(field) > FIELD_LIMIT else text or b"-"


def told(letter: bytes, address: bytes, account: bytes, why: bytes) -> None:
    word = b"refused" if letter == authd.NO else b"later"
    reason = b": " + why if why else b""
    strerr.say(b"%s: %s %s %s%s\n" % (PROGRAM, word, _loggable(address), _loggable(account), reason))


def listen(settings: Settings, callers: Callers) -> local.Listening:
    """Raises Fatal."""
    folder = os.path.dirname(settings.socket) or b"."
    try:
        os.mkdir(folder, 0o755)
        os.chmod(folder, 0o755)  # whatever the umask: those who may ask have to find the socket
    except OSError:  # it is there, or listening will tell
        pass
    try:
        return local.Listening(settings.socket, *callers.rights())
    except OSError as e:
        raise Fatal(b"unable to %s %s" % (e.filename, settings.socket), e)


def serve(settings: Settings, checker: list[bytes], env: Env) -> int:
    fds.fill_standard()
    callers = Callers(settings)
    listening = listen(settings, callers)
    for fd in (0, 1):
        null = os.open(b"/dev/null", os.O_RDWR | os.O_CLOEXEC)
        fds.move(null, fd)
    check = Check(checker, settings.decide_only, env)
    chain.preload(check.argv, env)
    limits = throttle.Throttle(settings.free_address, settings.free_account, settings.half_life_s, settings.trusted)
    questions.Service(
        listening,
        limits,  # type: ignore[arg-type]
        settings.limit,
        settings.timeout_s,
        allowed=callers.allowed,
        spawn=lambda child: chain.spawn(child, env, "qmail-authd"),  # type: ignore[arg-type]
        become=check.become,
        judge=check.judge,
        told=told,
    ).run()
    return 0


def main(argv: list[bytes], env: Env) -> int:
    settings = Settings(env)
    try:
        letters, words = options.parse(argv, LETTERS)
        settings.read(letters)
        if settings.report:
            return report(env)
        if not words:
            raise Misuse
        if os.path.basename(words[0]) == b"true":
            return strerr.fail(strerr.NEVER, PROGRAM, words[0], b" cannot be the checker: it lets everybody in")
        return serve(settings, words, env)
    except options.OptionError as e:
        strerr.say(PROGRAM + b": " + e.args[0] + b"\n")
        return strerr.usage(PROGRAM, USAGE)
    except Misuse:
        return strerr.usage(PROGRAM, USAGE)
    except Fatal as e:
        return strerr.fail(strerr.LATER, PROGRAM, e.text, error=e.error)
