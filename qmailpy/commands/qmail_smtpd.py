"""NAME
    qmail-smtpd - receive mail by SMTP

SYNOPSIS
    qmail-smtpd
    qmail-smtpd CHECKER [ARG...]
    qmail-smtpd HOST CHECKER [ARG...]

DESCRIPTION
    qmail-smtpd speaks SMTP with a client on descriptors 0 and 1, and hands each message over to qmail-queue(8).

        tcpserver -x tcp.smtp.cdb -u 604 -g 601 0 smtp qmail-smtpd

    It takes mail for the hosts in control/rcpthosts, or for any host if RELAYCLIENT is set, by a rule of
    tcprules(1) or since the client has logged in. Bare line feeds in a message end the session with a
    temporary error, as they always did.

    After EHLO it offers PIPELINING, 8BITMIME, SMTPUTF8, ENHANCEDSTATUSCODES, SIZE and perhaps STARTTLS and AUTH.

TLS
    qmail-smtpd offers STARTTLS if the server that has started it can do TLS for it: SSLCTLFD, SSLREADFD and SSLWRITEFD
    say so, the interface of UCSPI-TLS. After it everything that the client has said before is forgotten, a login too,
    and what it has sent ahead of TLS is thrown away, as it may have been anybody's. The limits of a session go on
    counting.

    The connection is taken as encrypted from its beginning if PROTO begins with SSL, or SSL or SSL_PROTOCOL is set and
    neither empty nor 0; but not if SSLCTLFD is there, unless what SSLREADFD and SSLWRITEFD name is closed: so ucspi-ssl
    starts a program on TLS.

    The Received line of what comes encrypted says ESMTPS, and how, if SSL_PROTOCOL and SSL_CIPHER do:

        with ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384 encrypted)

AUTH
    CHECKER is a program with the checkpassword interface, and ARG the program that it is to become, true:

        qmail-smtpd checkpassword true
        qmail-smtpd mail.example checkpassword-authd true

    If the first word is a program on PATH, or the path of one, it is CHECKER, else it is HOST, which stands in the
    challenge of CRAM-MD5, where else the name in control/me stands. CHECKER gets on descriptor 3

        name NUL password NUL NUL
        name NUL digest NUL challenge NUL

    the second with CRAM-MD5, and the null device on descriptors 0 and 1. If it exits 0, the client is logged in:
    RELAYCLIENT is empty, TCPREMOTEINFO and SMTP_AUTH_USER are its name, for qmail-queue too, and the Received line
    says ESMTPA. 1 is a wrong password (and 3, 12, 13, 15, 20 to 23, as of vchkpw); anything else, or no end within two
    minutes, is temporary trouble.

    AUTH is not offered, and one line on descriptor 2 says why, if CHECKER cannot be run or no ARG stands behind
    it: `qmail-smtpd HOST true` would let everybody in. A CHECKER that exits 0 without reading descriptor 3 is none:
    nobody is let in by it.

    AUTH is offered only if the connection is encrypted or from this host, unless ALLOW_INSECURE_AUTH is set.

    After a wrong password the client waits for AUTHDELAY seconds, and after three failures the session ends. Each
    failure is one line on descriptor 2,

        qmail-smtpd: 192.0.2.7 auth failed: user max mechanism PLAIN

    in which other characters of the name than printable ASCII are shown as \\x20, and of a long name 64 bytes. A
    filter of fail2ban for such lines is in doc/fail2ban.

RECIPIENT CHECKS
    If control/rcptcheck or RCPTCHECK names a program, it is asked about each recipient that would be taken from a
    client that may not relay. Words behind its name are arguments for it; behind them it gets two more, the sender
    and the recipient, which are also in SENDER and RECIPIENT. Either may begin with a hyphen, the sender may be
    empty, and both may hold any byte. HELO is what the client calls itself. Descriptor 0 is the null device.

    exit 0        the recipient is taken
    exit 100      it is refused with 550
    others        try again later, 451; so it is, too, if the program cannot be run, is killed, or does not end within
                  60 seconds, when it is killed with all that it has started

    Nobody is taken without a check because control/rcptcheck has no word in its first line: that is a file that cannot
    be read, 421. An empty RCPTCHECK is no check.

    The first line that the program writes on descriptor 1, if it exits 100 or 111, becomes the text of the reply, at
    most 200 bytes of it, in which other bytes than printable ASCII are question marks. Nobody reads on behind 64 kB.

CONTROL FILES
    me               the name of this host
    smtpgreeting     the greeting. Default: me
    localiphost      the name that stands for an IP address of this host, as in max@[192.0.2.1] or
                     max@[IPv6:2001:db8::1]. Default: me
    rcpthosts        hosts that mail is taken for, one in a line: a name, or .suffix for all names that end so. If
                     there is no such file, mail is taken for any host
    morercpthosts.cdb
                     more of them, made by qmail-newmrh(8). Only looked at if there is an rcpthosts
    badmailfrom      senders whose mail is refused: user@host or @host
    badrcptto        recipients that are refused: user@host or @host
    badhelo          names in HELO and EHLO that are refused: name or .suffix. Clients that may relay are not asked
    databytes        the largest message, in bytes. Default: 0, any size
    timeoutsmtpd     seconds that the client may be silent for. Default: 1200
    rcptcheck        see RECIPIENT CHECKS
    maxrcpt          recipients of one message. Default: 0, any number
    brtlimit         recipients that may be refused in one session, before it ends. Default: 0, any number

ENVIRONMENT
    TCPREMOTEIP, TCPREMOTEHOST, TCPREMOTEINFO, TCPLOCALHOST, TCPLOCALIP
                     the connection, for the Received line: tcp-environ(5)
    RELAYCLIENT      if it is set, mail is taken for any host, and this is put behind each recipient
    DATABYTES, RCPTCHECK, MAXRCPT, BRTLIMIT
                     in place of control/databytes and so on
    MAXERRORS        replies beginning with 4 or 5 in one session, before it ends. Default: any number
    MAXUNKNOWN       unknown commands in one session, before it ends. Default: any number
    GREETDELAY       seconds before the greeting. Default: none
    DROP_PRE_GREET   if it is set and neither empty nor 0, a client that sends anything before the greeting is refused
    SMTPAUTH         cram: only CRAM-MD5, which needs a CHECKER that has passwords in clear; +cram: CRAM-MD5 besides
                     PLAIN and LOGIN; - or 0: no AUTH. ! in front: no mail without AUTH. Default: PLAIN and LOGIN
    ALLOW_INSECURE_AUTH
                     if it is set and neither empty nor 0, AUTH is offered without encryption; so it is if FORCETLS is 0
    UCSPITLS         -: STARTTLS is not offered. !: no mail and no AUTH without TLS, not from this host either. All
                     else, or unset: STARTTLS is offered if that is possible
    FORCE_TLS        if it is set and neither empty nor 0, the same as UCSPITLS=!
    DISABLETLS, DENY_TLS
                     if one is set and neither empty nor 0, STARTTLS is not offered
    SSLCTLFD, SSLREADFD, SSLWRITEFD
                     numbers of descriptors, see TLS. No other program gets these or those
    PROTO, SSL, SSL_PROTOCOL, SSL_CIPHER
                     see TLS
    AUTHDELAY        seconds that a client waits for after a wrong password. Default: 5
    QMAILQUEUE       the program to run in place of qmail-queue
    QMAILHOME        the home of the mail system. Default: /var/qmail
    PATH             where CHECKER and the recipient check are looked for

EXIT STATUS
    0    the client has said QUIT
    1    all other ends

SECURITY
    Without rcpthosts anybody can send mail to anybody through this host.

    The private key is in another process, with all of TLS. What a client's certificate says is for programs to look at,
    in SSL_CLIENT_S_DN and the like; nobody may relay for it.

    Passwords are overwritten as soon as CHECKER has them. CHECKER and the recipient check have neither the connection
    nor the message.

    A message ends with CR LF, a dot and CR LF, and with nothing like it: nobody can smuggle a second message in. A
    message with a lone dot beside a bare CR, and an address with a bare CR, are refused, as other hosts might take
    them for an end. A client that ends its commands in CR LF and has sent a message is held to that: a later command
    that ends in LF ends the session.

BUGS
    A host name in place of HOST that is also a program on PATH is taken for CHECKER.

    While a client has to wait, one that leaves without a reset is only seen when the wait is over.

SEE ALSO
    qmail-queue(8), qmail-newmrh(8), tcpserver(1), tcprules(1), checkpassword(8), checkpassword-authd(8),
    qmail-qmtpd(8), qmail-showctl(8)
"""

import _socket
import errno
import os
import select
import time

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import addresses, fd3, received, smtpaddress, ucspitls
from qmailpy.formats.numbers import scan
from qmailpy.loops import starttls
from qmailpy.mta import encryption, reception
from qmailpy.protocols import sasl, smtp_server
from qmailpy.protocols.smtp_server import Rules, Session
from qmailpy.stores import cdb, control, injection, programs, queue
from qmailpy.stores.home import home
from qmailpy.unix import fds, signals, timed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmailpy.unix.stage import Stage

PROGRAM = b"qmail-smtpd"

TIMEOUT = 1200  # seconds per read and per write, qmail-smtpd(8)
COMMANDS = 4096  # bytes read at once while commands come
BLOCK = 65536  # bytes of a message read at once
LOGIN_S = 120  # that a checker may take
CHECK_S = 60  # seconds that a recipient check may take
DELAY_S = 5  # after a wrong password
MAX_LOGINS = 3  # that fail
LONGEST_TEXT = 200  # bytes of a recipient check's reply
LONGEST_NAME = 64  # bytes of a user's name in the log

# Replies in place of a greeting
NO_CONTROLS = b"421 unable to read controls (#4.3.0)\r\n"
NO_MEMORY = b"421 out of memory (#4.3.0)\r\n"
EARLY = b"554 SMTP protocol violation\r\n"

# Replies to RCPT, besides those of mta.reception; %s is the check's own text or the default
NO_CONTROLS_NOW = b"421 unable to read controls (#4.3.0)"
NO_MAILBOX = b"550 %s", b"sorry, no mailbox here by that name (#5.1.1)"
UNVERIFIED = b"451 %s", b"unable to verify recipient (#4.3.0)"

PLAIN = (b"LOGIN", b"PLAIN")
MECHANISMS = {b"cram": (sasl.CRAM_MD5,), b"+cram": (*PLAIN, sasl.CRAM_MD5), b"-": (), b"0": ()}

NO_STARTTLS = (b"DISABLETLS", b"DENY_TLS")  # of other versions: no STARTTLS if one is set

# Whether a socket may have an address that is not this host's
NONLOCAL_4 = "/proc/sys/net/ipv4/ip_nonlocal_bind"
NONLOCAL_6 = "/proc/sys/net/ipv6/ip_nonlocal_bind"
LOOPBACK_6 = bytes(15) + b"\1"

PRINTABLE = bytes(range(33, 127))


def prepare() -> None:
    """What each process would do first, once for all that are forked."""
    queue.prepare()


def rehearse(stage: "Stage", word: bytes, env: Env) -> None:
    """A client who thinks better of it. The server does not wait for him, nor let go of what its environment names."""
    quick = {name: value for name, value in ucspitls.without(env).items() if name != b"GREETDELAY"}
    stage.play(b"EHLO rehearsal\r\nMAIL FROM:<>\r\nRSET\r\nQUIT\r\n", lambda: main([word], quick))


def serves_again(argv: list[bytes]) -> bool:
    """See chain.serves_again. Where passwords pass, each connection has a process of its own."""
    return len(argv) == 1


class Client(timed.Peer):
    """The client; what holds its commands can be overwritten."""

    __slots__ = ("_buffer", "_gone")

    def __init__(self) -> None:
        super().__init__(TIMEOUT)
        self._buffer = bytearray(COMMANDS)
        self._gone = select.poll()
        self._gone.register(0, 0)  # POLLHUP and POLLERR: who has only ended his own side still listens

    def feed(self, session: Session) -> bool:
        """Give the session what has come. False at the end of the input. Raises OSError."""
        if session.in_message:
            block = self.read(BLOCK)
            if block:
                session.feed(block)
            return bool(block)
        if not self._readable.poll(self.timeout_ms):
            raise TimeoutError
        size = os.readv(self.fd_in, [self._buffer])
        if size:
            session.feed(memoryview(self._buffer)[:size])
            self._buffer[:size] = bytes(size)
        return size > 0

    def silent(self, seconds: int) -> bool:
        """Wait; False as soon as the client sends something or leaves."""
        return not self._readable.poll(min(seconds, timed.LONGEST_S) * 1000)

    def stays(self, seconds: float) -> bool:
        """Wait; False as soon as the client leaves."""
        return not self._gone.poll(min(seconds, timed.LONGEST_S) * 1000)


def shown(text: bytes) -> bytes:
    """text in one word of a log line."""
    return b"".join(
        bytes((byte,)) if byte in PRINTABLE and byte != ord("\\") else b"\\x%02x" % byte for byte in text[:LONGEST_NAME]
    )


def is_mine(ip: bytes) -> bool:
    """Whether an address belongs to this host: then, and only then, a socket can have it, but for groups; and where the
    system lets a socket have any, nobody can tell, and only that of the loopback is."""
    ip = addresses.unmap(ip)
    family, multicast, nonlocal_bind = (
        (_socket.AF_INET, 0xE0 <= ip[0] <= 0xEF, NONLOCAL_4)
        if len(ip) == 4
        else (_socket.AF_INET6, ip[0] == 0xFF, NONLOCAL_6)
    )
    if multicast:
        return False
    if is_on(nonlocal_bind):
        return ip[0] == 127 if len(ip) == 4 else ip == LOOPBACK_6
    place = addresses.format_ip(ip).decode(), 9
    try:
        tried = _socket.socket(family, _socket.SOCK_DGRAM)
    except OSError:
        return False
    try:
        tried.bind((place[0], 0))
        tried.connect(place)  # sends nothing; fails for a broadcast address
    except OSError:
        return False
    finally:
        tried.close()
    return True


def is_on(setting: str) -> bool:
    """Whether a setting of the kernel is 1. One that is not there is not."""
    try:
        fd = os.open(setting, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return encryption.is_set(os.read(fd, 16).strip())
        finally:
            os.close(fd)
    except OSError:
        return False


# AUTH


def in_clear_allowed(env: Env) -> bool:
    return encryption.in_clear_allowed(env) or env.get(b"FORCETLS") == b"0"


def runs(word: bytes, env: Env) -> bool:
    """Whether execvp would find a program for word."""
    folders = [b""] if b"/" in word else env.get(b"PATH", chain.DEFAULT_PATH).split(b":")
    paths = [os.path.join(folder, word) for folder in folders]
    return any(os.path.isfile(path) and os.access(path, os.X_OK, effective_ids=True) for path in paths)


def checker_of(words: list[bytes], env: Env) -> tuple[bytes, list[bytes], bytes]:
    """(host, checker with its arguments, why there is none) for the words of the command line."""
    host = b""
    if words and not runs(words[0], env):
        host, *words = words
    if not words:
        return host, [], b"there is no checker" + (b" behind the host name " + shown(host) if host else b"")
    if not runs(words[0], env):
        return host, [], b"unable to find " + shown(words[0])
    if len(words) < 2 or os.path.basename(words[0]) == b"true":
        return host, [], b"%s cannot be the checker: give HOST CHECKER true, or CHECKER true" % shown(words[0])
    return host, words, b""


# Children


def apart(writing: int | None = None) -> None:
    """In a child: a session of its own, nothing of the client on 0 and 1, and SIGPIPE as programs expect it."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    fds.copy(null, 0)
    fds.copy(null if writing is None else writing, 1)
    os.close(null)
    signals.default(signals.PIPE)


def end(pid: int) -> None:
    """Kill a child with all that is in its session. Raises OSError."""
    try:
        os.killpg(pid, signals.KILL)
    except ProcessLookupError:  # it has no session yet
        os.kill(pid, signals.KILL)
    os.waitpid(pid, 0)


def outcome(pid: int, limit_s: int, reading: int = -1) -> tuple[int | None, bytes]:
    """(wait status, what it wrote on the pipe reading) of a child; None if it had to be killed. Raises OSError."""
    said = b""
    try:
        watch = os.pidfd_open(pid)
    except OSError:  # no descriptor is left
        end(pid)
        raise
    poller = select.poll()
    poller.register(watch, select.POLLIN)
    if reading >= 0:
        poller.register(reading, select.POLLIN)
    until = time.monotonic() + limit_s
    try:
        while True:
            left = max(0.0, until - time.monotonic())
            ready = [fd for fd, _ in poller.poll(left * 1000)]
            if reading in ready and left:
                part = os.read(reading, BLOCK)
                said += part
                if not part or len(said) >= BLOCK:
                    poller.unregister(reading)
            elif watch in ready:  # a grandchild may hold the pipe: nobody waits for that
                return os.waitpid(pid, 0)[1], said
            elif not left or not ready:
                end(pid)
                return None, said
    finally:
        os.close(watch)


class Server:
    """One connection: the session, and what it needs from outside."""

    __slots__ = ("_auth", "_before", "_check", "_client", "_env", "_folder", "_known", "_mail", "_message", "_offer",
                 "_reception", "session")  # fmt: skip

    def __init__(self, client: Client, words: list[bytes], env: Env) -> None:
        """Raises OSError: a control file."""
        self._client = client
        self._folder, entered = programs.enter(env)
        files = control.Control(self._folder)
        self._before = ucspitls.without(entered)
        self._env = dict(self._before)  # changed by a login
        self._mail: injection.Injection | None = None
        self._known = queue.Known()
        self._message: smtp_server.Message | None = None
        me = files.me()
        greeting = files.line(b"smtpgreeting")
        if greeting is None:
            greeting = me
        if greeting is None:
            raise control.Unreadable(b"me", FileNotFoundError(2, ""))
        rules = Rules(greeting)
        self._limits(rules, files)
        self._addresses(rules, files, me)
        self._offer = self._encryption(rules, entered)
        self._auth = self._authentication(rules, words, me or b"")
        self._reception = self._lists(files)
        self._check = self._recipient_check(files)
        self.session = Session(rules)

    def _limits(self, rules: Rules, files: control.Control) -> None:
        def number(name: bytes, file: bool = True) -> int:
            value = self._env.get(name.upper())
            if value is not None:
                return scan(value)[0]
            return (files.number(name) or 0) if file else 0

        timeout = files.number(b"timeoutsmtpd")
        self._client.timeout_ms = 1000 * min(max(1, TIMEOUT if timeout is None else timeout), timed.LONGEST_S)
        rules.databytes = number(b"databytes")
        rules.max_recipients = number(b"maxrcpt")
        rules.max_invalid = number(b"brtlimit")
        rules.max_errors = number(b"maxerrors", file=False)
        rules.max_unknown = number(b"maxunknown", file=False)
        rules.max_logins = MAX_LOGINS

    def _addresses(self, rules: Rules, files: control.Control, me: bytes | None) -> None:
        host = files.line(b"localiphost")
        name = me if host is None else host
        here = self._env.get(b"TCPLOCALIP", b"")
        local = addresses.parse_ipv4(here) or addresses.parse_ipv6(here)
        rules.localize = lambda address: smtpaddress.localized(address, name, lambda ip: ip == local or is_mine(ip))

    def _encryption(self, rules: Rules, env: Env) -> starttls.Offer | None:
        """Whether TLS is there, is to be offered, or has to be."""
        rules.encrypted = encryption.is_encrypted(env)
        required = encryption.is_set(env.get(b"FORCE_TLS")) and not rules.encrypted
        rules.tls_required = required or encryption.is_required(env)
        offer = starttls.offered(PROGRAM, env)
        if offer is None:
            return None
        if not encryption.is_offered(env) or any(encryption.is_set(env.get(name)) for name in NO_STARTTLS):
            offer.decline()
            return None
        rules.starttls = True
        return offer

    def _authentication(self, rules: Rules, words: list[bytes], me: bytes) -> list[bytes]:
        """The checker, and what the session has to know of AUTH."""
        rules.knows_auth = bool(words)
        wish = self._env.get(b"SMTPAUTH", b"")
        rules.auth_required = wish.startswith(b"!")
        mechanisms = MECHANISMS.get(wish.removeprefix(b"!"), PLAIN)
        if not mechanisms or not words:
            return []
        host, checker, problem = checker_of(words, self._env)
        if problem:
            strerr.warn(PROGRAM, b"AUTH is not offered: ", problem)
            return []
        rules.mechanisms = mechanisms
        rules.withheld = rules.tls_required or not (rules.encrypted or in_clear_allowed(self._env))
        rules.stamp = b"<%d.%d@%s>" % (os.getpid(), time.time(), host or me)
        return checker

    def _recipient_check(self, files: control.Control) -> list[bytes]:
        check = self._env.get(b"RCPTCHECK")
        if check is not None:
            return check.split()
        line = files.line(b"rcptcheck")
        words = [] if line is None else line.split()
        if line is not None and not words:  # who has made the file wants a check
            raise control.Unreadable(b"rcptcheck", OSError(errno.EINVAL, ""))
        return words

    def _lists(self, files: control.Control) -> reception.Reception:
        hosts = reception.folded(files.lines(b"rcpthosts"))
        return reception.Reception(
            hosts,
            None if hosts is None else self._more(),
            reception.folded(files.lines(b"badmailfrom")),
            reception.folded(files.lines(b"badrcptto")),
            reception.folded(files.lines(b"badhelo")),
        )

    def _more(self) -> reception.More | None:
        """What morercpthosts.cdb says about a key. It stays open."""
        try:
            fd = os.open(b"control/morercpthosts.cdb", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise control.Unreadable(b"morercpthosts.cdb", e)
        found: reception.More = cdb.getter(fd)
        return found

    def greets(self) -> bool:
        """Wait before the greeting, if that is wished. False if the client has left or spoken too early."""
        seconds = scan(self._env.get(b"GREETDELAY", b""))[0]
        if not seconds:
            return True
        if not encryption.is_set(self._env.get(b"DROP_PRE_GREET")):
            return self._client.stays(seconds)
        if self._client.silent(seconds):
            return True
        if fds.unread(0):
            self._log(b"sent something before the greeting")
            self._client.write(EARLY)
            self._client.drain()
        return False

    def serve(self) -> int:
        """The exit code. Raises OSError when the client is gone."""
        session = self.session
        try:
            while True:
                event = session.step()
                if event is not None:
                    self._act(event)
                    continue
                self._flush()
                if session.exit_code is not None:
                    return self._end(session.exit_code)
                try:
                    if not self._client.feed(session):
                        return 1
                except TimeoutError:
                    session.end(smtp_server.TIMEOUT)
        finally:
            self._drop()
            if self._offer is not None:
                self._offer.decline()

    def _flush(self) -> None:
        if self.session.output:
            self._client.write(self.session.output)
            self.session.output.clear()

    def _end(self, code: int) -> int:
        if code:
            last = b", after " + self.session.last if self.session.last else b""
            self._log(b"ended: " + self.session.last_reply + last)
        self._client.drain()
        return code

    def _log(self, text: bytes) -> None:
        ip = shown(self._env.get(b"TCPREMOTEIP", b"unknown"))
        strerr.say(b"%s: %s %s\n" % (PROGRAM, ip, text))

    def _act(self, event: smtp_server.Event) -> None:
        if isinstance(event, bytes):
            if self._mail is not None:
                self._mail.write(event)
        elif isinstance(event, smtp_server.Recipient):
            self._recipient(event.address)
        elif isinstance(event, smtp_server.Message):
            self._open(event)
        elif isinstance(event, smtp_server.End):
            self._close(event)
        elif isinstance(event, smtp_server.Secure):
            self._secure()
        else:
            self._login(event)

    # STARTTLS

    def _secure(self) -> None:
        """Raises OSError if the connection is lost."""
        offer, session = self._offer, self.session
        assert offer is not None
        if not offer.holds():
            session.unable_to_secure()
            return
        self._offer = None
        session.ready()
        self._client.drain()
        self._flush()
        self._env = encryption.described(self._before, offer.start())
        self._client.renew()
        session.secured()

    # Recipients

    def _recipient(self, address: bytes) -> None:
        session = self.session
        suffix = self._env.get(b"RELAYCLIENT")
        relay = suffix is not None
        try:
            refusal = self._reception.refusal(session.helo, session.sender, address, relay)
        except OSError as e:
            strerr.warn(PROGRAM, b"unable to read control/morercpthosts.cdb", error=e)
            session.end(NO_CONTROLS_NOW)
            return
        if not refusal and self._check and not relay:
            refusal = self._ask(session.sender, address)
        if refusal:
            session.refuse(refusal)
        else:
            session.accept(address + (suffix or b""))

    def _ask(self, sender: bytes, recipient: bytes) -> bytes:
        """What the recipient check has against recipient: a reply, or b""."""
        env = {**self._env, b"SENDER": sender, b"RECIPIENT": recipient, b"HELO": self.session.helo or b""}
        step = Exec([*self._check, sender, recipient], env, who=PROGRAM, complaint=b"warning: unable to run")

        def child() -> Exec:
            apart(writing)
            return step

        reading = writing = -1
        try:
            reading, writing = os.pipe()
            pid = self._spawn(child)
            os.close(writing)
            writing = -1
            status, said = outcome(pid, CHECK_S, reading)
        except OSError as e:
            strerr.warn(PROGRAM, b"unable to check recipients", error=e)
            return UNVERIFIED[0] % UNVERIFIED[1]
        finally:
            for fd in (reading, writing):
                if fd >= 0:
                    os.close(fd)
        if status == 0:
            return b""
        code = -1 if status is None or os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        form, text = NO_MAILBOX if code == strerr.NEVER else UNVERIFIED
        if code in (strerr.NEVER, strerr.LATER):
            line = said.partition(b"\n")[0].rstrip()[:LONGEST_TEXT]
            text = bytes(byte if 32 <= byte <= 126 else ord("?") for byte in line) or text
        return form % text

    def _spawn(self, child) -> int:  # type: ignore[no-untyped-def]
        return chain.spawn(child, self._env, PROGRAM.decode())

    # Messages

    def _open(self, message: smtp_server.Message) -> None:
        env = self._env
        if message.auth is not None and b"RELAYCLIENT" in env and b"TCPREMOTEINFO" not in env:
            env = {**env, b"TCPREMOTEINFO": message.auth if message.auth != b"<>" else b"unknown"}
        try:
            self._mail = injection.open_injection(self._folder, env, self._spawn, Exec, self._known)
        except OSError as e:
            strerr.warn(PROGRAM, b"unable to start qmail-queue", error=e)
            self.session.unable()
            return
        self._message = message
        host = env.get(b"TCPREMOTEHOST", b"unknown")
        helo = self.session.helo
        if helo is not None and helo.lower() == host.lower():
            helo = None
        line = received.network_line(
            received.encrypted(message.protocol, *self._tls()),
            host,
            helo,
            env.get(b"TCPREMOTEINFO"),
            env.get(b"TCPREMOTEIP", b"unknown"),
            env.get(b"TCPLOCALHOST", env.get(b"TCPLOCALIP", b"unknown")),
            int(time.time()),
        )
        self._mail.write(line)
        self.session.begin()

    def _tls(self) -> tuple[bytes, bytes]:
        """Version and cipher, as far as they are known."""
        env = self._env if self.session.encrypted else {}
        return env.get(b"SSL_PROTOCOL", b""), env.get(b"SSL_CIPHER", b"")

    def _close(self, end: smtp_server.End) -> None:
        mail, message = self._mail, self._message
        assert mail is not None
        assert message is not None
        if end.failure:
            self._log(b"not queued: " + end.failure)
            mail.fail()
        why = mail.close(message.sender, message.recipients)
        self._mail = None
        self.session.finish(end, why, int(time.time()), mail.qp)

    def _drop(self) -> None:
        """Leave nothing of a message that has not come to its end."""
        if self._mail is not None:
            self._mail.fail()
            self._mail.close(b"", ())
            self._mail = None

    # Logins

    def _login(self, login: smtp_server.Login) -> None:
        session = self.session
        name = login.credentials.name
        problem = self._checked(login)
        if not problem:
            self._env[b"RELAYCLIENT"] = b""
            self._env[b"TCPREMOTEINFO"] = self._env[b"SMTP_AUTH_USER"] = name
            session.welcome(name)
            return
        if problem == smtp_server.WRONG:
            self._log(b"auth failed: user %s mechanism %s" % (shown(name), login.mechanism))
            self._flush()
            if not self._client.stays(scan(self._env[b"AUTHDELAY"])[0] if b"AUTHDELAY" in self._env else DELAY_S):
                raise TimeoutError
        session.reject(problem)

    def _checked(self, login: smtp_server.Login) -> bytes:
        """The reply to a login that is not good; b"" if it is."""
        credentials = login.credentials
        try:
            packet = fd3.build(credentials.name, credentials.password, login.stamp)
        except fd3.PacketError:
            return smtp_server.WRONG
        finally:
            fd3.wipe(credentials.password)
        size = len(packet)
        try:
            reading, writing = os.pipe()
        except OSError as e:
            fd3.wipe(packet)
            strerr.warn(PROGRAM, b"unable to open pipe", error=e)
            return smtp_server.NO_PIPE
        try:
            os.write(writing, packet)  # it is shorter than what a pipe holds
            fd3.wipe(packet)
            os.close(writing)
            pid = self._spawn(lambda: self._become_checker(reading))
            status, _ = outcome(pid, LOGIN_S)
            return self._judged(status, fds.unread(reading) == size)
        except OSError as e:
            strerr.warn(PROGRAM, b"unable to start the checker", error=e)
            return smtp_server.NO_CHILD
        finally:
            os.close(reading)

    def _become_checker(self, reading: int) -> Exec:
        apart()
        fds.move(reading, 3)
        return Exec(self._auth, self._env, who=PROGRAM, complaint=b"warning: unable to run")

    def _judged(self, status: int | None, untouched: bool) -> bytes:
        name = shown(self._auth[0])
        if status == 0 and not untouched:
            return b""
        if status == 0:
            strerr.warn(PROGRAM, name, b" accepts everybody: it does not read descriptor 3")
        elif status is None:
            strerr.warn(PROGRAM, name, b" did not end")
        elif os.WIFSIGNALED(status):
            strerr.warn(PROGRAM, name, b" was killed by signal %d" % os.WTERMSIG(status))
        elif os.WEXITSTATUS(status) in fd3.WRONG:
            return smtp_server.WRONG
        else:
            strerr.warn(PROGRAM, name, b" exited %d" % os.WEXITSTATUS(status))
        return smtp_server.CRASHED


def converse(client: Client, words: list[bytes], env: Env) -> int:
    """The exit code. Raises OSError when the client is gone."""
    try:
        server = Server(client, words, env)
    except control.Unreadable as e:
        client.write(NO_CONTROLS)
        return strerr.fail(1, PROGRAM, b"unable to read control/", e.name, error=e)
    except OSError as e:
        client.write(NO_CONTROLS)
        return strerr.fail(1, PROGRAM, b"unable to enter ", home(env), error=e)
    return server.serve() if server.greets() else 1


def main(argv: list[bytes], env: Env) -> int:
    signals.ignore(signals.PIPE)
    client = Client()
    try:
        with client:
            try:
                return converse(client, argv[1:], starttls.begun(env))
            except MemoryError:
                client.write(NO_MEMORY)
    except OSError:  # the client is gone
        pass
    return 1
