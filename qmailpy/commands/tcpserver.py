"""NAME
    tcpserver - accept incoming TCP connections

SYNOPSIS
    tcpserver [-146UXpPhHrRoOdDqQv] [-c LIMIT] [-x RULES.CDB] [-B BANNER] [-g GID] [-u UID] [-b BACKLOG]
        [-l LOCALNAME] [-t TIMEOUT] [-I INTERFACE] HOST PORT PROGRAM [ARG...]

DESCRIPTION
    tcpserver waits for connections to PORT of the address HOST and runs PROGRAM with the arguments ARG for each
    of them, with descriptors 0 and 1 connected to the peer and with the variables of tcp-environ in its
    environment: PROTO, TCPLOCALIP, TCPLOCALPORT, TCPLOCALHOST, TCPREMOTEIP, TCPREMOTEPORT, TCPREMOTEHOST and
    TCPREMOTEINFO; see ENVIRONMENT.

        tcpserver -RHD -c 100 0 pop3 qmail-popup mail.example \\
            checkpassword qmail-pop3d Maildir

    HOST is a name, an IPv4 or IPv6 address, or 0 for every IPv4 address of the machine. :: stands for every
    address, IPv6 and IPv4; a peer that comes by IPv4 then looks as it does on an IPv4 socket. PORT is a
    number or a name of services(5); 0 takes any free port.

    If PROGRAM, or a program behind it, is a command of this toolkit, tcpserver loads it at start and runs it
    in the forked process: no connection pays for an interpreter's start. If PROGRAM is qmail-smtpd(8) without a
    CHECKER, qmail-qmtpd(8) or qmail-qmqpd(8), that process serves up to 100 connections, one after the other. One in
    which anything but a good end was seen is not used again, nor one that has waited for ten seconds.

    On SIGTERM tcpserver ends; programs that run go on.

OPTIONS
    -c LIMIT       at most LIMIT programs at a time, 40 unless set; further connections wait
    -x RULES.CDB   follow the rules that tcprules compiled into RULES.CDB: which peers may connect, and variables
                   for the program. The file is opened for each connection, so new rules hold at once; without
                   the file no connection is accepted
    -X             with -x: connections are accepted if the file does not exist
    -B BANNER      write BANNER, as it is, to the peer at once, before the look-ups and rules
    -u UID         after binding, change the user id: a number or a name of passwd(5)
    -g GID         after binding, change the group id, and drop the others: a number or a name of group(5)
    -U             take both from the variables UID and GID, as envuidgid(8) sets them
    -1             print the local port on descriptor 1 once the socket is bound
    -b BACKLOG     let the kernel hold about BACKLOG connections that wait, 20 unless set; of a larger burst some
                   clients may stay without an answer
    -o             leave IP options alone; -O, the default, removes them from the connection (source routing)
    -d             let the kernel delay small packets; -D does not. The programs of this toolkit write whole
                   replies, so it makes no difference for them
    -q             say nothing; -Q, the default, says errors; -v says everything
    -h             look up the peer's name in DNS, the default; -H does not
    -p             paranoid: with -h, remove TCPREMOTEHOST if that name does not have the peer's address;
                   -P, the default, does not look
    -l LOCALNAME   do not look up the local name in DNS, use LOCALNAME for TCPLOCALHOST; -l0 is usual
    -r             ask the peer's ident server for TCPREMOTEINFO, the default; -R does not
    -t TIMEOUT     give up on the ident server after TIMEOUT seconds, 26 unless set
    -4             names and 0 mean IPv4 addresses, the default
    -6             names mean IPv6 addresses, and 0 means ::
    -I INTERFACE   the interface that a link-local address HOST is on

    -H, -R and -l0 spare every connection its look-ups.

RULES
    A rule may set any variable for the program. Some that tcpserver itself follows, set by a rule or in its
    environment, limit what one peer may take:

    MAXCONNIP      at most so many connections from the peer's address at a time
    MAXCONNC       the same for the peer's network: 24 bits of an IPv4 address, 64 of an IPv6 address
    MAXLOAD        none while the load average of one minute, times 100, is above this
    DIEMSG         a line for a peer that is turned away by one of these

    A word that is no number counts as 0, which turns everybody away. A peer that is turned away takes a place
    of -c for as long as that takes.

    For instance, ten connections for each address, fifty for the neighbours:

        192.168.10.:allow,MAXCONNIP="50"
        :allow,MAXCONNIP="10",DIEMSG="421 too many connections from you"

ENVIRONMENT
    PROTO            TCP, or TCP6 for a peer that comes by IPv6
    TCPLOCALIP       the local address of the connection
    TCPLOCALPORT     the local port
    TCPLOCALHOST     the local name; unset if none is known
    TCPREMOTEIP      the peer's address
    TCPREMOTEPORT    the peer's port
    TCPREMOTEHOST    the peer's name; unset if none is known
    TCPREMOTEINFO    what the peer's ident server says; unset if it does not answer
    TCP6LOCALIP...   with IPv6 peers the same again, with TCP6 for TCP; and TCP6INTERFACE

    UID, GID         for -U
    DNSCACHEIP       the name servers to ask, instead of those of /etc/resolv.conf
    QMAILPY_COLD     if set and not empty, programs of this toolkit are executed like anybody's
    QMAILPY_AGAIN    how many connections a process may serve, 100 unless set. 1: each has its own

EXIT STATUS
    0      ended by SIGTERM
    100    wrong usage
    111    unable to start

LOG
    With -v, on descriptor 2; LHOST:LIP:LPORT and RHOST:RIP:INFO:RPORT describe both ends:

        tcpserver: status: 1/40
        tcpserver: pid 5994 from 127.0.0.1
        tcpserver: ok 5994 localname:127.0.0.1:110 :127.0.0.1::58851
        tcpserver: end 5994 status 0

    deny stands for ok when the rules, or one of the limits above, turn the peer away. The status at the end is
    that of wait(2): 256 times the exit code, or the number of a signal. A process that serves again appears again.

SECURITY
    -u alone leaves the groups as they are: with it, always say -g.

    Whatever comes from the peer's name server and ident server is the peer's word. The rules file is read with
    the privileges that -u and -g leave.

BUGS
    ps shows tcpserver for the programs of this toolkit that it runs. After an upgrade of the toolkit a running
    tcpserver executes the new programs, at the cost of an interpreter's start each, until it is restarted.

SEE ALSO
    tcprules(1), tcprulescheck(1), tcpclient(1), argv0(1), fixcrio(1), recordio(1), rblsmtpd(1)
"""

import _socket
import errno
import os
from _collections_abc import Callable

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import addresses, options, tcpenviron
from qmailpy.formats.numbers import scan
from qmailpy.loops import accept, connect, pool
from qmailpy.stores import cdb
from qmailpy.unix import fds, ids, signals

PROGRAM = b"tcpserver"
USAGE = (
    b"tcpserver [ -1UXpPhHrRoOdDqQv ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ] [ -u uid ] "
    b"[ -b backlog ] [ -l localname ] [ -t timeout ] host port program"
)
LETTERS = b"dDvqQhHrR1UXx:t:u:g:l:b:B:c:pPoO46I:"

DROPPING = b"warning: dropping connection, "
LIMITS = frozenset({b"MAXLOAD", b"MAXCONNIP", b"MAXCONNC"})
DENIED_BY_RULE = b"rule"
AGAIN = 100  # connections that a process serves, if its program can
FIELD_LIMIT = 100  # bytes of a field in a log line
LOGGABLE = bytes(ch if 33 <= ch <= 126 and ch not in b"%:" else ord("?") for ch in range(256))

# Options without an argument: letter -> (setting, value)
FLAGS: dict[bytes, tuple[str, int]] = {
    b"d": ("nodelay", 0), b"D": ("nodelay", 1),
    b"q": ("verbosity", 0), b"Q": ("verbosity", 1), b"v": ("verbosity", 2),
    b"h": ("remote_host", 1), b"H": ("remote_host", 0),
    b"r": ("remote_info", 1), b"R": ("remote_info", 0),
    b"p": ("paranoid", 1), b"P": ("paranoid", 0),
    b"o": ("keep_options", 1), b"O": ("keep_options", 0),
    b"X": ("rules_optional", 1), b"1": ("print_port", 1),
    b"4": ("ipv6", 0), b"6": ("ipv6", 1),
}  # fmt: skip
NUMBERS = {b"c": "limit", b"b": "backlog", b"t": "ident_timeout_s"}
WORDS = {b"x": "rules", b"B": "banner", b"l": "local_host", b"I": "interface"}


class Settings:
    """What the command line says."""

    def __init__(self) -> None:
        self.nodelay = self.paranoid = self.keep_options = self.rules_optional = self.print_port = self.ipv6 = 0
        self.remote_host = self.remote_info = self.verbosity = 1
        self.limit = 40
        self.backlog = 20
        self.ident_timeout_s = 26
        self.uid = self.gid = 0
        self.banner = b""
        self.rules: bytes | None = None
        self.local_host: bytes | None = None
        self.interface: bytes | None = None

    def read(self, letters: list[tuple[bytes, bytes]], env: Env) -> None:
        """Apply the options in order; raises Fatal for an unknown user or group."""
        for letter, word in letters:
            if letter in FLAGS:
                name, value = FLAGS[letter]
                setattr(self, name, value)
            elif letter in NUMBERS:
                setattr(self, NUMBERS[letter], scan(word)[0])
            elif letter in WORDS:
                setattr(self, WORDS[letter], word)
            elif letter == b"u":
                self.uid = _id(ids.user, word, b"user")
            elif letter == b"g":
                self.gid = _id(ids.group, word, b"group")
            else:  # -U
                self.uid = scan(env.get(b"UID", b"%d" % self.uid))[0]
                self.gid = scan(env.get(b"GID", b"%d" % self.gid))[0]


class Fatal(Exception):
    """tcpserver cannot start. args[0]: what it says, without the reason."""

    def __init__(self, text: bytes, error: OSError | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.error = error


def _id(find: Callable[[bytes], int], word: bytes, kind: bytes) -> int:
    try:
        return find(word)
    except LookupError:
        raise Fatal(b"unknown " + kind + b" " + word)


def find_host(host: bytes, settings: Settings, env: Env) -> bytes:
    """The address to listen on, 4 or 16 bytes."""
    if host in (b"", b"0"):
        return bytes(16 if settings.ipv6 else 4)
    literal = addresses.parse_ipv4(host) or addresses.parse_ipv6(host)
    if literal is not None:
        return literal
    from qmailpy.loops import resolve
    from qmailpy.stores import resolver

    servers = resolver.read(env)
    try:
        found = (resolve.qualified6 if settings.ipv6 else resolve.qualified4)(servers, host)
    except resolve.Unresolved as e:
        raise Fatal(b"temporarily unable to figure out IP address for " + host, e)
    if not found:
        raise Fatal(b"no IP address for " + host)
    return found[0]


def listen(address: bytes, port: int, settings: Settings) -> "_socket.socket":
    text = os.fsdecode(addresses.format_ip(address))
    try:
        if len(address) == 4:
            return accept.listen(_socket.AF_INET, (text, port), settings.backlog)
        scope = _socket.if_nametoindex(os.fsdecode(settings.interface)) if settings.interface else 0
        return accept.listen(_socket.AF_INET6, (text, port, 0, scope), settings.backlog)
    except OSError as e:
        raise Fatal(b"unable to " + (e.filename or b"find interface " + (settings.interface or b"")), e)


class Connection:
    """One peer, in the forked child: from the accepted socket to the program, or to the refusal."""

    def __init__(self, server: "Server", fd: int, remote: accept.Address) -> None:
        self.server = server
        self.settings = server.settings
        self.fd = fd
        self.remote_ip, self.interface = accept.shown(remote[0])
        self.remote_port = remote[1]
        self.denied = b""

    def prepare(self) -> Exec | int:
        """Everything between accept and the program; source: tcpserver(1), in the order of the original."""
        settings = self.settings
        if settings.verbosity >= 2:
            strerr.say(b"tcpserver: pid %d from %s\n" % (os.getpid(), self.remote_ip))
        connected = _socket.socket(self.server.family, _socket.SOCK_STREAM, 0, self.fd)
        try:
            self._set_options(connected)
            what = b"unable to print banner"
            if settings.banner:
                fds.write_all(self.fd, settings.banner)
            what = b"unable to get local address"
            local = connected.getsockname()
        except OSError as e:
            return self._drop(what, e)
        finally:
            connected.detach()
        env = described = self._environment(accept.shown(local[0])[0], local[1])
        if settings.rules is not None:
            try:
                env = self._follow_rules(settings.rules, env)
            except OSError as e:
                if e.errno != errno.ENOENT or not settings.rules_optional:
                    return self._drop(b"unable to read " + settings.rules, e)
        if not self.denied:
            self.denied = self._above_limit(env)
        if settings.verbosity >= 2:
            self._log_decision(described)
        if self.denied:
            return self._turn_away(env)
        try:
            fds.move(self.fd, 0)
            fds.copy(0, 1)
        except OSError as e:
            return self._drop(b"unable to set up descriptors", e)
        signals.default(signals.PIPE)
        who = PROGRAM if settings.verbosity else b""
        return Exec(self.server.program, env, who=who, complaint=DROPPING + b"unable to run")

    def _drop(self, text: bytes, error: OSError) -> int:
        if self.settings.verbosity:
            strerr.say(b"tcpserver: %s%s: %s\n" % (DROPPING, text, strerr.reason(error)))
        return strerr.LATER

    def _set_options(self, connected: "_socket.socket") -> None:
        """The original does not mind if they cannot be set."""
        try:
            if not self.settings.keep_options and self.server.family == _socket.AF_INET:
                connected.setsockopt(_socket.IPPROTO_IP, _socket.IP_OPTIONS, b"")
            if self.settings.nodelay:
                connected.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        except OSError:
            pass

    def _environment(self, local_ip: bytes, local_port: int) -> Env:
        settings = self.settings
        local_host, remote_host, info = settings.local_host, None, None
        if local_host is None or settings.remote_host:
            local_host, remote_host = self._look_up_names(local_ip)
        if settings.remote_info:
            from qmailpy.loops import ident

            ends = _packed(local_ip), local_port, _packed(self.remote_ip), self.remote_port
            info = ident.remoteinfo(*ends, settings.ident_timeout_s)
        return tcpenviron.environment(
            self.server.env,
            local_ip,
            local_port,
            local_host,
            self.remote_ip,
            self.remote_port,
            remote_host,
            info,
            self.interface,
        )

    def _look_up_names(self, local_ip: bytes) -> tuple[bytes | None, bytes | None]:
        """TCPLOCALHOST and TCPREMOTEHOST, as far as they are wanted and known."""
        from qmailpy.loops import resolve
        from qmailpy.stores import resolver

        servers = resolver.read(self.server.env)

        def name(ip: bytes) -> bytes | None:
            try:
                return resolve.names(servers, _packed(ip)) or None
            except resolve.Unresolved:
                return None

        local_host, remote_host = self.settings.local_host, None
        if local_host is None:
            local_host = name(local_ip)
        if self.settings.remote_host:
            remote_host = name(self.remote_ip)
            if remote_host is not None and self.settings.paranoid:
                remote_ip = _packed(self.remote_ip)
                of_name = resolve.addresses4 if len(remote_ip) == 4 else resolve.addresses6
                try:
                    remote_host = remote_host if remote_ip in of_name(servers, remote_host) else None
                except resolve.Unresolved:
                    remote_host = None
        return local_host, remote_host

    def _follow_rules(self, path: bytes, env: Env) -> Env:
        rule = cdb.find(path, self.remote_ip, env.get(b"TCPREMOTEHOST"), env.get(b"TCPREMOTEINFO"))
        if rule is None:
            return env
        if rule.deny:
            self.denied = DENIED_BY_RULE
        return {**env, **dict(rule.variables)}

    def _above_limit(self, env: Env) -> bytes:
        """What the log says if this peer, or the machine, has reached a limit of env; b"" if not."""
        if LIMITS.isdisjoint(env):
            return b""
        peers = [self.remote_ip, *self.server.children.peers.values()]
        counts: tuple[tuple[bytes, bytes, Callable[[], int]], ...] = (
            (b"MAXLOAD", b"LOAD", lambda: int(os.getloadavg()[0] * 100)),
            (b"MAXCONNIP", b"MAXCONNIP", lambda: peers.count(self.remote_ip)),
            (b"MAXCONNC", b"MAXCONNC", lambda: list(map(_network, peers)).count(_network(self.remote_ip))),
        )
        for variable, shown, count in counts:
            if variable in env:
                found = count()
                if found > scan(env[variable])[0]:
                    return b" %s:%d" % (shown, found)
        return b""

    def _log_decision(self, env: Env) -> None:
        """env is the connection's own, not what a rule made of it."""
        local = (b"TCPLOCALHOST", b"TCPLOCALIP", b"TCPLOCALPORT")
        remote = (b"TCPREMOTEHOST", b"TCPREMOTEIP", b"TCPREMOTEINFO", b"TCPREMOTEPORT")
        ends = [b":".join([_loggable(env.get(name, b"")) for name in names]) for names in (local, remote)]
        decision = b"deny" if self.denied else b"ok"
        why = self.denied if self.denied != DENIED_BY_RULE else b""
        strerr.say(b"tcpserver: %s %d %s%s\n" % (decision, os.getpid(), b" ".join(ends), why))

    def _turn_away(self, env: Env) -> int:
        """Nothing here waits: a peer that is turned away would keep others from its place under -c."""
        if self.denied != DENIED_BY_RULE and env.get(b"DIEMSG"):
            try:
                fds.write_all(self.fd, env[b"DIEMSG"] + b"\r\n")
            except OSError:
                pass
        return strerr.NEVER


def _packed(address: bytes) -> bytes:
    """Four or sixteen bytes of an address that the kernel gave as text."""
    family = _socket.AF_INET6 if b":" in address else _socket.AF_INET
    return _socket.inet_pton(family, address.decode())


def _network(address: bytes) -> bytes:
    """What MAXCONNC counts as neighbours: 24 bits of IPv4, 64 of IPv6."""
    packed = addresses.parse_ipv6(address)
    return packed[:8] if packed is not None else address.rpartition(b".")[0]


def _loggable(field: bytes) -> bytes:
    """A field of the ok and deny lines: what could forge or break a line becomes `?`."""
    text = field[:FIELD_LIMIT].translate(LOGGABLE)
    return text + b"..." if len(field) >= FIELD_LIMIT else text


class Server:
    """What stays while connections come and go."""

    def __init__(self, settings: Settings, program: list[bytes], env: Env, listening: "_socket.socket") -> None:
        self.settings = settings
        self.program = program
        self.env = env
        self.family = listening.family
        self.children = accept.Children(settings.limit)
        self.again = scan(env.get(b"QMAILPY_AGAIN", b"%d" % AGAIN))[0] if chain.serves_again(program, env) else 1
        self.pool = pool.Pool() if self.again > 1 else None
        self.acceptor = accept.Acceptor(
            listening, self.children, self._connected, self._ended, self._changed, self._short, self.pool
        )

    def run(self) -> None:
        self._changed()
        self.acceptor.run()

    def _connected(self, fd: int, remote: accept.Address) -> int:
        try:
            pid = self.pool.hand_over(fd, self._described(remote)) if self.pool is not None else 0
            if not pid and self.pool is not None and self.pool.has_room():
                pid = self._enlarge(self.pool, fd, remote)
            return pid or chain.spawn(lambda: self._serve(fd, remote), self.env, "tcpserver")
        except OSError as e:
            if self.settings.verbosity:
                strerr.say(b"tcpserver: %sunable to fork: %s\n" % (DROPPING, strerr.reason(e)))
            raise

    def _serve(self, fd: int, remote: accept.Address) -> Exec | int:
        self.acceptor.release()
        return Connection(self, fd, remote).prepare()

    # Processes that serve again

    def _enlarge(self, pool: pool.Pool, fd: int, remote: accept.Address) -> int:
        """Raises OSError."""
        line, place = pool.line()
        try:
            pid = chain.spawn(lambda: self._serve_all(place, fd, remote), self.env, "tcpserver")
        except OSError:
            line.close()
            raise
        finally:
            place.leave()
        pool.add(pid, line)
        return pid

    def _described(self, remote: accept.Address) -> bytes:
        """A peer, and all others, for a process that cannot see them."""
        return b" ".join((os.fsencode(remote[0]), b"%d" % remote[1], *self.children.peers.values()))

    def _serve_all(self, place: pool.Place, fd: int, remote: accept.Address) -> Exec | int:
        """In a process of its own: this connection and others, until one has an end that is out of the ordinary."""
        identity = os.getresuid(), os.getresgid()
        try:
            folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:  # one of root's, and there is no way back for -u
            return self._serve(fd, remote)
        step = self._serve(fd, remote)
        for _ in range(self.again - 1):
            if isinstance(step, int):
                return step
            status = chain.attempt(step, self.env, (*place.descriptors, folder))
            if status or (os.getresuid(), os.getresgid()) != identity:
                return os.waitstatus_to_exitcode(status)
            try:
                place.done()
                for used in (0, 1):
                    os.close(used)
                os.fchdir(folder)
                given = place.next()
            except OSError:  # tcpserver has ended
                return 0
            if given is None:
                return 0
            fd, text = given
            ip, port, *peers = text.split(b" ")
            self.children.peers = dict(enumerate(peers))
            step = Connection(self, fd, (os.fsdecode(ip), int(port))).prepare()
        return step

    def _ended(self, pid: int, status: int) -> None:
        if self.settings.verbosity >= 2:
            strerr.say(b"tcpserver: end %d status %d\n" % (pid, status))

    def _short(self, error: OSError) -> None:
        if self.settings.verbosity:
            strerr.warn(PROGRAM, b"unable to accept", error=error)

    def _changed(self) -> None:
        if self.settings.verbosity >= 2:
            strerr.say(b"tcpserver: status: %d/%d\n" % (self.children.count, self.children.limit))


def find_port(word: bytes) -> int:
    port = connect.service(word)
    if port is None:
        raise Fatal(b"unable to figure out port number for " + word)
    return port


def import_lookups(settings: Settings) -> None:
    """What each child would import otherwise, perhaps after an upgrade has changed it on disk."""
    if settings.remote_host or settings.local_host is None:
        from qmailpy.loops import resolve  # noqa: F401
        from qmailpy.stores import resolver  # noqa: F401
    if settings.remote_info:
        from qmailpy.loops import ident  # noqa: F401


def start(settings: Settings, host: bytes, port: int, program: list[bytes], env: Env) -> Server:
    """Bind, and let go of privileges; source: tcpserver(1). Raises Fatal."""
    signals.catch(signals.TERM, lambda number, frame: os._exit(0))
    signals.ignore(signals.PIPE)
    listening = listen(find_host(host, settings, env), port, settings)
    chain.preload(program, env)
    import_lookups(settings)
    for change, value, text in ((ids.set_gid, settings.gid, b"gid"), (ids.set_uid, settings.uid, b"uid")):
        if value:
            try:
                change(value)
            except OSError as e:
                raise Fatal(b"unable to set " + text, e)
    if settings.print_port:
        try:
            fds.write_all(1, b"%d\n" % listening.getsockname()[1])
        except OSError:  # nobody wants to know
            pass
    os.close(0)
    os.close(1)
    fds.fill_standard()  # what a pool has is not to have the numbers of a connection
    return Server(settings, program, env, listening)


def main(argv: list[bytes], env: Env) -> int:
    settings = Settings()
    try:
        letters, words = options.parse(argv, LETTERS)
    except options.OptionError as e:
        strerr.say(PROGRAM + b": " + e.args[0] + b"\n")
        return strerr.usage(PROGRAM, USAGE)
    try:
        settings.read(letters, env)
        port = find_port(words[1]) if len(words) > 1 else 0
        if len(words) < 3:
            return strerr.usage(PROGRAM, USAGE) if settings.verbosity else strerr.NEVER
        fds.fill_standard()
        start(settings, words[0], port, words[2:], env).run()
    except Fatal as e:
        if settings.verbosity:
            strerr.fail(strerr.LATER, PROGRAM, e.text, error=e.error)
    return strerr.LATER
