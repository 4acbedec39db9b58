"""server - accept connections, and make of each a process with a program in it: what tcpserver and sslserver share.

A command fills in Settings from its own options, and says in Outside what this room may not import.
"""

import _socket
import errno
import gc
import os
from _collections_abc import Callable

from qmailpy import strerr
from qmailpy.formats import addresses, options, sslenviron, tcpenviron, ucspitls
from qmailpy.formats.numbers import scan
from qmailpy.loops import accept, connect, pool
from qmailpy.loops.keeper import DEMAND, Failed, Hold, Keeper, Rehearsed
from qmailpy.loops.keeper import start as start_keeper
from qmailpy.unix import fds, ids, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qmailpy.unix.stage import Stage

Env = dict[bytes, bytes]

DROPPING = b"warning: dropping connection, "
LIMITS = frozenset({b"MAXLOAD", b"MAXCONNIP", b"MAXCONIP", b"MAXCONNC"})
DENIED_BY_RULE = b"rule"
AGAIN = 100  # connections that a process serves, if its program can
REHEARSAL_S = 0.1  # for a connection from here
FIELD_LIMIT = 100  # bytes of a field in a log line
LOGGABLE = bytes(ch if 33 <= ch <= 126 and ch not in b"%:" else ord("?") for ch in range(256))

ERRORS, EVERYTHING = 1, 2  # verbosity
ACCOUNTS, NOBODY = (b"SSL_UID", b"SSL_USER", b"TLSUSER"), b"nobody"  # whose processes do TLS, if root starts them
GROUPS = b"SSL_GID", b"SSL_GROUP"  # instead of the account's
ROOT = b"SSL_CHROOT"
DEPTH = b"1"  # unless VERIFYDEPTH says another
NO_CAS, VERIFY = b"CCAFILE", b"CCAVERIFY"  # that a rule may set: - for no certificate of this client, any for one
TLS_AGAIN = b"QMAILPY_TLSAGAIN"  # how many connections of one client one of them may serve, one after the other
SPARE = 10  # of them, beyond two for each connection that is allowed: those that end slowly
WISH = b"UCSPITLS"  # how far programs are to offer TLS; a rule may say otherwise

# TLS: not at all, before the program starts, or when the program asks for it
NEVER, AT_ONCE, DELAYED = range(3)
NEEDED, NAMED = 1, 2

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
WORDS = {b"x": "rules", b"B": "banner", b"l": "local_host"}
ANY_DUAL = b":0"  # what ucspi-tcp6 and ucspi-ssl call every address, IPv4 too


class Settings:
    """What the command line says."""

    def __init__(self, program: bytes) -> None:
        self.program = program
        self.nodelay = self.paranoid = self.keep_options = self.rules_optional = self.print_port = self.ipv6 = 0
        self.remote_host = self.remote_info = self.verbosity = 1
        self.limit = 40
        self.backlog = 20
        self.ident_timeout_s = 26
        self.uid = self.gid = 0
        self.banner = b""
        self.rules: bytes | None = None
        self.early_rules: bytes | None = None  # for addresses alone, before anything is looked up
        self.local_host: bytes | None = None
        self.interface: bytes | None = None
        # TLS
        self.tls = NEVER
        self.certificate: bytes | None = None
        self.handshake_s = 26
        self.idle_s = 3600
        self.described = 1  # whether the program is told what TLS is like
        self.client = 0  # whether clients need a certificate: NEEDED, or NAMED, for the name that DNS has for them

    def read(
        self,
        letters: list[tuple[bytes, bytes]],
        env: Env,
        flags: dict[bytes, tuple[str, int]],
        numbers: dict[bytes, str],
        words: dict[bytes, str],
    ) -> None:
        """Apply the options in order; raises Fatal for an unknown user or group."""
        for letter, word in letters:
            if options.apply(self, letter, word, flags, numbers, words):
                continue
            if letter == b"u":
                self.uid = _id(ids.user, word, b"user")
            elif letter == b"g":
                self.gid = _id(ids.group, word, b"group")
            else:  # -U
                self.uid = scan(env.get(b"UID", b"%d" % self.uid))[0]
                self.gid = scan(env.get(b"GID", b"%d" % self.gid))[0]
        if self.tls == NEVER and self.certificate is not None:
            self.tls = DELAYED

    def quiet(self) -> "Settings":
        """The same for a connection that neither log nor name servers are to know of."""
        settings = Settings(self.program)
        settings.__dict__.update(self.__dict__)
        settings.verbosity = settings.remote_host = settings.remote_info = 0
        settings.local_host = b""
        return settings

    def verifies(self, env: Env) -> bool:
        """Whether some client may have to show a certificate."""
        return bool(self.client or self.rules or self.early_rules) or VERIFY in env

    def say(self, text: bytes) -> None:
        strerr.say(b"%s: %s\n" % (self.program, text))


class Outside:
    """chain: the module; find_rule, as stores.cdb.find; resolver() gives stores.resolver; keep(settings, env) starts
    the process that has the keys, and raises Fatal; name(env) changes the names of variables, if a command has others
    than tcpserver."""

    __slots__ = ("chain", "find_rule", "keep", "name", "resolver")

    def __init__(
        self,
        chain: "Any",
        find_rule: "Callable[..., Any]",
        resolver: "Callable[[], Any]",
        keep: "Callable[[Settings, Env], Keeper]",
        name: Callable[[Env], Env] = dict,
    ) -> None:
        self.chain = chain
        self.find_rule = find_rule
        self.resolver = resolver
        self.keep = keep
        self.name = name


class Fatal(Exception):
    """The server cannot start. text: what it says, without the reason; empty if somebody has said enough."""

    def __init__(self, text: bytes, error: OSError | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.error = error


def _id(find: Callable[[bytes], int], word: bytes, kind: bytes) -> int:
    try:
        return find(word)
    except LookupError:
        raise Fatal(b"unknown " + kind + b" " + word)


def find_host(host: bytes, settings: Settings, env: Env, outside: Outside) -> bytes:
    """The address to listen on, 4 or 16 bytes."""
    if host in (b"", b"0"):
        return bytes(16 if settings.ipv6 else 4)
    if host == ANY_DUAL:
        return bytes(16)
    literal = addresses.parse_ipv4(host) or addresses.parse_ipv6(host)
    if literal is not None:
        return literal
    from qmailpy.loops import resolve

    servers = outside.resolver().read(env)
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
        self.keeper = server.keeper
        self.fd = fd
        self.remote_ip, self.interface = accept.shown(remote[0])
        self.remote_port = remote[1]
        self.denied = b""
        self.offered: ucspitls.Descriptors | None = None

    def prepare(self) -> "Any":
        """Everything between accept and the program, as a chain.Exec, or the exit code; source: tcpserver(1), in the
        order of the original."""
        settings = self.settings
        if settings.verbosity >= EVERYTHING:
            settings.say(b"pid %d from %s" % (os.getpid(), self.remote_ip))
        connected = _socket.socket(self.server.family, _socket.SOCK_STREAM, 0, self.fd)
        early: Env | None = None
        try:
            what = b"unable to get local address"
            local = connected.getsockname()
            ends = accept.shown(local[0])[0], local[1]
            if settings.early_rules is not None:
                what = b"unable to read " + settings.early_rules
                early = self._follow_rules(settings.early_rules, None, None)
                if self.denied:
                    return self._turn_away_unseen(*ends)
            self._set_options(connected)
            what = b"unable to print banner"
            if settings.banner and settings.tls != AT_ONCE:
                fds.write_all(self.fd, settings.banner)
        except OSError as e:
            return self._drop(what, e)
        finally:
            connected.detach()
        described = self._environment(*ends)
        env = {**self.server.outside.name(described), **(early or {})}
        if settings.rules is not None and early is None:
            names = described.get(b"TCPREMOTEHOST"), described.get(b"TCPREMOTEINFO")
            try:
                env.update(self._follow_rules(settings.rules, *names) or {})
            except OSError as e:
                return self._drop(b"unable to read " + settings.rules, e)
        if not self.denied:
            self.denied = self._above_limit(env)
        if settings.verbosity >= EVERYTHING:
            self._log_decision(described)
        if self.denied:
            return self._turn_away(env)
        if settings.tls:
            try:
                env = self._begin_tls(env, described) if settings.tls == AT_ONCE else self._offer_tls(env, described)
            except Failed as e:
                return self._drop(b"unable to reach the keeper of the key", e.error) if e.error else strerr.LATER
            except OSError as e:
                return self._drop(b"unable to print banner", e)
        try:
            fds.move(self.fd, 0)
            self.fd = -1
            fds.copy(0, 1)
        except OSError as e:
            return self._drop(b"unable to set up descriptors", e)
        signals.default(signals.PIPE)
        who = settings.program if settings.verbosity else b""
        become = self.server.outside.chain.Exec
        return become(self.server.program, env, who=who, complaint=DROPPING + b"unable to run")

    def end(self) -> None:
        """In a process that goes on: close the connection if it has come to no program, and what the program was given
        besides 0 and 1, if it has not done so."""
        left = {self.fd} if self.fd >= 0 else set()
        if self.offered is not None:
            left |= {self.offered.control, self.offered.reading, self.offered.writing}
        for fd in left:
            try:
                os.close(fd)
            except OSError:
                pass

    def _begin_tls(self, env: Env, described: Env) -> Env:
        """The connection is under TLS from now on, and fd is what stands for it. Raises Failed."""
        keeper, settings = self.keeper, self.settings
        assert keeper is not None
        network, self.fd = self.fd, -1
        self.fd, variables = keeper.begin(network, self._client(described, env), settings.handshake_s)
        if settings.verbosity >= EVERYTHING and variables:
            self._log_tls(variables)
        if settings.banner:
            fds.write_all(self.fd, settings.banner)
        env = sslenviron.forget(ucspitls.without(env))
        return {**env, **variables} if settings.described else env

    def _offer_tls(self, env: Env, described: Env) -> Env:
        """Let the program begin TLS. Raises Failed."""
        keeper = self.keeper
        assert keeper is not None
        self.offered = keeper.offer(self.fd, self._client(described, env))
        env = sslenviron.forget(env)
        return {WISH: b"", **env, **self.offered.variables()}

    def _client(self, described: Env, env: Env) -> bytes:
        """For the keeper; env has what a rule says of certificates."""
        wanted = self.settings.client if env.get(NO_CAS) != b"-" else 0
        if VERIFY in env:
            wanted = self.settings.client or NEEDED
        # Each link has an fe80::1 of its own.
        address = self.remote_ip + (b"%" + self.interface if self.interface else b"")
        if not wanted:
            return address + b" "
        name = described.get(b"TCPREMOTEHOST", b"") if wanted == NAMED else b""
        return address + b" " + DEMAND + name

    def _log_tls(self, variables: Env) -> None:
        agreed = [_loggable(variables.get(name, b"")) for name in (sslenviron.PROTOCOL, sslenviron.CIPHER)]
        self.settings.say(b"ssl %d accept %s" % (os.getpid(), b" ".join(agreed)))

    def _drop(self, text: bytes, error: OSError) -> int:
        if self.settings.verbosity:
            self.settings.say(b"%s%s: %s" % (DROPPING, text, strerr.reason(error)))
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

        servers = self.server.outside.resolver().read(self.server.env)

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

    def _follow_rules(self, path: bytes, host: bytes | None, info: bytes | None) -> Env | None:
        """What a rule sets; None if there is none for this peer. Raises OSError."""
        try:
            rule = self.server.outside.find_rule(path, self.remote_ip, host, info)
        except OSError as e:
            if e.errno != errno.ENOENT or not self.settings.rules_optional:
                raise
            return None
        if rule is None:
            return None
        if rule.deny:
            self.denied = DENIED_BY_RULE
        return dict(rule.variables)

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
        most = scan(env.get(b"MAXCONIP", b""))[0]
        if most and peers.count(self.remote_ip) > most:  # of ucspi-tcp6 and ucspi-ssl, where 0 is no limit
            return b" ip connection limit:%d exceeded" % most
        return b""

    def _log_decision(self, env: Env) -> None:
        """env is the connection's own, not what a rule made of it."""
        local = (b"TCPLOCALHOST", b"TCPLOCALIP", b"TCPLOCALPORT")
        remote = (b"TCPREMOTEHOST", b"TCPREMOTEIP", b"TCPREMOTEINFO", b"TCPREMOTEPORT")
        ends = [b":".join([_loggable(env.get(name, b"")) for name in names]) for names in (local, remote)]
        decision = b"deny" if self.denied else b"ok"
        why = self.denied if self.denied != DENIED_BY_RULE else b""
        self.settings.say(b"%s %d %s%s" % (decision, os.getpid(), b" ".join(ends), why))

    def _turn_away_unseen(self, local_ip: bytes, local_port: int) -> int:
        """Before anything is looked up."""
        if self.settings.verbosity >= EVERYTHING:
            ends = local_ip, local_port, self.settings.local_host, self.remote_ip, self.remote_port
            self._log_decision(tcpenviron.environment({}, *ends, None, None, self.interface))
        return strerr.NEVER

    def _turn_away(self, env: Env) -> int:
        """Nothing here waits: a peer that is turned away would keep others from its place under -c."""
        if self.denied != DENIED_BY_RULE and env.get(b"DIEMSG") and self.settings.tls != AT_ONCE:
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

    def __init__(
        self,
        settings: Settings,
        program: list[bytes],
        env: Env,
        listening: "_socket.socket",
        outside: Outside,
        keeper: Keeper | None,
    ) -> None:
        self.settings = settings
        self.outside = outside
        self.keeper = keeper
        self.program = program
        self.env = env
        self.family = listening.family
        self.children = accept.Children(settings.limit)
        again = settings.tls != AT_ONCE and outside.chain.serves_again(program, env)
        self.again = scan(env.get(b"QMAILPY_AGAIN", b"%d" % AGAIN))[0] if again else 1
        self.pool = pool.Pool() if self.again > 1 else None
        self.acceptor = accept.Acceptor(
            listening, self.children, self._connected, self._ended, self._changed, self._short, self.pool
        )

    def rehearse(self) -> None:
        """What each forked process does before the program."""
        self.outside.chain.rehearse([self._rehearse])

    def _rehearse(self, stage: "Stage") -> None:
        """A connection from and to this machine, about which nobody is asked and nothing is said. Raises OSError."""
        listening = _socket.socket(self.family, _socket.SOCK_STREAM)
        calling = _socket.socket(self.family, _socket.SOCK_STREAM)
        listening.bind(("::1" if self.family == _socket.AF_INET6 else "127.0.0.1", 0))
        listening.listen(1)
        calling.settimeout(REHEARSAL_S)  # a firewall may have something against it
        calling.connect(listening.getsockname())
        keeper = Rehearsed()
        fd, (ip, port, *_) = listening._accept()  # type: ignore[attr-defined]  # as in loops/accept
        connection = Connection(self, fd, (ip, port))
        connection.settings = self.settings.quiet()
        connection.keeper = keeper
        try:
            stage.play(b"", connection.prepare)
        finally:
            connection.end()

    def run(self) -> None:
        self._changed()
        self.acceptor.run()

    def _connected(self, fd: int, remote: accept.Address) -> int:
        try:
            pid = self.pool.hand_over(fd, self._described(remote)) if self.pool is not None else 0
            if not pid and self.pool is not None and self.pool.has_room():
                pid = self._enlarge(self.pool, fd, remote)
            return pid or self._spawn(lambda: self._serve(fd, remote))
        except OSError as e:
            if self.settings.verbosity:
                self.settings.say(b"%sunable to fork: %s" % (DROPPING, strerr.reason(e)))
            raise

    def _spawn(self, child: "Callable[[], Any]") -> int:
        """Raises OSError."""
        return int(self.outside.chain.spawn(child, self.env, os.fsdecode(self.settings.program)))

    def _serve(self, fd: int, remote: accept.Address) -> "Any":
        self.acceptor.release()
        return Connection(self, fd, remote).prepare()

    # Processes that serve again

    def _enlarge(self, pool: pool.Pool, fd: int, remote: accept.Address) -> int:
        """Raises OSError."""
        line, place = pool.line()
        try:
            pid = self._spawn(lambda: self._serve_all(place, fd, remote))
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

    def _serve_all(self, place: pool.Place, fd: int, remote: accept.Address) -> "Any":
        """In a process of its own: this connection and others, until one has an end that is out of the ordinary."""
        identity = os.getresuid(), os.getresgid()
        try:
            folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:  # one of root's, and there is no way back for -u
            return self._serve(fd, remote)
        kept = (*place.descriptors, folder, *((self.keeper.fd,) if self.keeper is not None else ()))
        self.acceptor.release()
        connection = Connection(self, fd, remote)
        step = connection.prepare()
        for _ in range(self.again - 1):
            if isinstance(step, int):
                return step
            network = _identity(0)
            status = self.outside.chain.attempt(step, self.env, kept)
            if status or (os.getresuid(), os.getresgid()) != identity:
                return os.waitstatus_to_exitcode(status)
            if _identity(0) != network:  # it was under TLS: whatever was said there stays with this process alone
                return 0
            try:
                connection.end()
                place.done()
                for used in (0, 1):
                    os.close(used)
                os.fchdir(folder)
                given = place.next()
            except OSError:  # the server has ended
                return 0
            if given is None:
                return 0
            fd, text = given
            ip, port, *peers = text.split(b" ")
            self.children.peers = dict(enumerate(peers))
            connection = Connection(self, fd, (os.fsdecode(ip), int(port)))
            step = connection.prepare()
        return step

    def _ended(self, pid: int, status: int) -> None:
        if self.keeper is not None and pid == self.keeper.pid:
            raise Fatal(b"keeper of the key has ended")
        if self.settings.verbosity >= EVERYTHING:
            self.settings.say(b"end %d status %d" % (pid, status))

    def _short(self, error: OSError) -> None:
        if self.settings.verbosity:
            strerr.warn(self.settings.program, b"unable to accept", error=error)

    def _changed(self) -> None:
        if self.settings.verbosity >= EVERYTHING:
            self.settings.say(b"status: %d/%d" % (self.children.count, self.children.limit))


def _identity(fd: int) -> tuple[int, int]:
    """Which file a descriptor is of; a closed one is of none."""
    try:
        status = os.fstat(fd)
    except OSError:
        return -1, -1
    return status.st_dev, status.st_ino


def find_port(word: bytes) -> int:
    port = connect.service(word)
    if port is None:
        raise Fatal(b"unable to figure out port number for " + word)
    return port


def keep(
    settings: Settings,
    env: Env,
    chain: "Any",
    load: "Callable[[Callable[[bytes], None]], Any]",
    refusal: bytes,
) -> Keeper:
    """Start the process that has the keys. load(complain) gives it, and nobody else, its certificates, as in
    stores.certificates, or raises Fatal; refusal: what a failed handshake is called. Raises Fatal."""

    def complain(text: bytes) -> None:
        if settings.verbosity:
            strerr.warn(settings.program, text)

    def drop(text: bytes) -> None:
        complain(b"dropping connection, " + (b"" if text.startswith(b"unable to ") else refusal + b": ") + text)

    def spawn(act: Callable[[], int]) -> int:
        return int(chain.spawn(act, env, os.fsdecode(settings.program)))

    def child(line: "_socket.socket") -> int:
        from qmailpy.loops import tls
        from qmailpy.unix import confine, forking

        signals.default(signals.TERM)
        try:
            certificates = load(complain)
            fds.close_others(strerr.STDERR, line.fileno())
            fds.fill_standard()
            fds.widen()
            jail = _jail(env, confine.Jail)
            cell = confine.Cell()
            again = max(scan(env.get(TLS_AGAIN, b"%d" % AGAIN))[0], 1)
            depth = scan(env.get(b"VERIFYDEPTH", DEPTH))[0]
            terms = tls.Terms(settings.handshake_s, settings.idle_s, depth, again)
            hold = Hold(
                line,
                2 * settings.limit + SPARE,
                spawn,
                certificates.refresh,
                lambda reports, line: tls.serve(certificates, terms, jail, cell, reports, line),
                drop,
                again > 1,
            )
            cell.hide()
            tls.rehearse(certificates, spawn)
        except OSError as e:
            return _complaint(settings, Fatal(b"unable to keep the key", e))
        except Fatal as e:
            return _complaint(settings, e)
        forking.hand_down_code()
        gc.collect()
        gc.freeze()
        gc.enable()
        return hold.run()

    try:
        return start_keeper(spawn, child)
    except Failed as e:
        raise Fatal(b"unable to start the keeper of the key" if e.error else b"", e.error)


def _jail(env: Env, jail: "Callable[[bytes, int, bytes], Any]") -> "Any":
    """Where processes of TLS go, and as whom; a number 0 says nothing. Never by a rule: whoever follows rules need not
    be root, and could say what it likes. Raises Fatal."""

    def first(names: tuple[bytes, ...]) -> bytes:
        return next((env[name] for name in names if env.get(name, b"").strip(b"0")), b"")

    account, group, root = first(ACCOUNTS) or NOBODY, first(GROUPS), env.get(ROOT, b"")
    try:
        return jail(account, _id(ids.group, group, b"group") if group else 0, root)
    except LookupError:
        raise Fatal(b"unknown user " + account)
    except OSError as e:
        raise Fatal(b"unable to chroot to " + root, e)


def _complaint(settings: Settings, problem: Fatal) -> int:
    if problem.text and settings.verbosity:
        strerr.fail(strerr.LATER, settings.program, problem.text, error=problem.error)
    return strerr.LATER


def import_lookups(settings: Settings, outside: Outside) -> None:
    """What each child would import otherwise, perhaps after an upgrade has changed it on disk."""
    if settings.remote_host or settings.local_host is None:
        from qmailpy.loops import resolve  # noqa: F401

        outside.resolver()
    if settings.remote_info:
        from qmailpy.loops import ident  # noqa: F401


def start(settings: Settings, host: bytes, port: int, program: list[bytes], env: Env, outside: Outside) -> Server:
    """Read the keys, bind, and let go of privileges; source: tcpserver(1). Raises Fatal."""
    signals.catch(signals.TERM, lambda number, frame: os._exit(0))
    signals.ignore(signals.PIPE)
    address = find_host(host, settings, env, outside)
    keeper = outside.keep(settings, env) if settings.tls else None
    listening = listen(address, port, settings)
    outside.chain.preload(program, env)
    import_lookups(settings, outside)
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
    server = Server(settings, program, env, listening, outside, keeper)
    server.rehearse()
    return server


def serve(
    settings: Settings,
    usage: bytes,
    command_line: tuple[list[tuple[bytes, bytes]], list[bytes]],
    env: Env,
    outside: Outside,
    flags: dict[bytes, tuple[str, int]] = FLAGS,
    numbers: dict[bytes, str] = NUMBERS,
    words_of: dict[bytes, str] = WORDS,
) -> int:
    """The life of the server, with a command line as options.parse gives it. Returns the exit code if there can be
    none."""
    letters, words = command_line
    try:
        settings.read(letters, env, flags, numbers, words_of)
        port = find_port(words[1]) if len(words) > 1 else 0
        if len(words) < 3:
            return strerr.usage(settings.program, usage) if settings.verbosity else strerr.NEVER
        fds.fill_standard()
        start(settings, words[0], port, words[2:], env, outside).run()
    except Fatal as e:
        return _complaint(settings, e)
    return strerr.LATER
