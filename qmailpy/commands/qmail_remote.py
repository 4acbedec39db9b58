"""NAME
    qmail-remote - send mail via SMTP

SYNOPSIS
    qmail-remote HOST SENDER RECIP...

DESCRIPTION
    qmail-remote reads a message from descriptor 0 and sends it, by SMTP, to each RECIP on HOST, from SENDER.
    qmail-rspawn(8) runs it for each delivery, or what QMAILREMOTE names instead.

    HOST is a name, or an address in brackets: [192.0.2.7], [IPv6:2001:db8::7]. It takes no options.

    The server is greeted by EHLO; one that does not know that is greeted by HELO and then finds the conversation of
    old. What it offers is used: PIPELINING, SIZE, 8BITMIME, SMTPUTF8, and AUTH where a route has a password. QUIT
    is sent, its answer is not waited for.

    Lines end in CRLF on the wire, whether they do so with LF, CRLF or CR in the message; one that begins with a dot
    gets another. A message that does not end with a newline cannot be sent. Long lines, and 8-bit bytes without
    8BITMIME, are sent as they are.

    An address in UTF-8 needs SMTPUTF8; without it, its domain is sent in ASCII (xn--...), and with other characters in
    its local part it is refused for good.

WHICH SERVER
    What control/authsenders says for SENDER, else what control/smtproutes says for HOST, else DNS: the mail exchangers
    (MX) by their preference, those of one preference in random order, or the addresses of HOST if it has none. IPv4
    addresses of a host are tried before its IPv6 addresses. A host whose only mail exchanger is `.` takes no mail
    (RFC 7505).

    Who is a mail exchanger itself, by an address of any of its interfaces, tries only those of a better preference,
    and bounces the message if there are none: HOST is missing in control/locals, virtualdomains or smtproutes. If
    one of these has addresses that are not known now, mail waits instead.

    The addresses are tried until one takes the connection; after that, whatever happens, no other is tried in this
    run. IPv4 hosts that do not answer in time twice are left out for an hour: see qmail-tcpto(8).

    Without an answer from DNS mail waits. It is bounced only if a server says that there is no such name, or
    no address for it.

REPORTS
    To descriptor 1, each followed by a NUL: one for each RECIP that the server was asked about, in order, and one
    for the message, the letter first.

    r    the recipient is accepted
    h    the recipient is refused for good
    s    the recipient is refused for now
    K    the server has taken the message for all that are accepted
    Z    it has not; later it may
    D    it has not, and will not

ROUTES
    DOMAIN is HOST whole, or a part of it at its end that begins with a dot, or nothing for all; the longest counts, and
    of two alike the last. Without RELAY mail goes by DNS, as if there were no line. RELAY is a name, of which only the
    addresses are looked up, or an address; one of IPv6 stands in brackets:

        inside.example:firewall.example:26
        .example:
        two.example:[2001:db8::7]:2525
        :smarthost.example:587|me|my password

    With a password the server has to offer CRAM-MD5, PLAIN or LOGIN (the first of these is taken). It is sent only to
    the loopback addresses, or to a RELAY in clearauthhosts; otherwise mail waits.

CONTROL FILES
    helohost          the name to greet with; me unless set
    smtproutes        routes, as DOMAIN:RELAY[:PORT][|USER|PASSWORD]: see ROUTES
    authsenders       the same for senders: an address, what begins with an @ or a dot at its end, or nothing for all
    clearauthhosts    relays that may be sent a password in clear, as they stand in a route, one on each line
    timeoutconnect    seconds that a server has to take the connection, 60 unless set
    timeoutremote     seconds that it has to answer, and for each 64 kB of the message to take them, 1200 unless set

ENVIRONMENT
    QMAILHOME          the home of the mail system, /var/qmail unless set
    DNSCACHEIP, QMAILPY_DNSPORT
                       the name servers to ask, and on which port, see tcpclient(1)

EXIT STATUS
    0    always: the reports say what has happened

SECURITY
    Nothing is encrypted. Replies are passed on in reports as they come: whoever shows them to a terminal has to
    make them safe. A reply has 64 kB, and timeoutremote seconds, or twice as many if it comes slowly; a server can hold
    a run no longer than that for each command and each 64 kB of the message. Of a domain at most 32 mail exchangers are
    looked up, fewer if name servers do not answer, and 32 addresses tried.

    An address with a line break in it is refused: it would be another command.

    smtproutes and authsenders with passwords must not be readable by all. qmailr needs to read them.

BUGS
    smtproutes makes loops between hosts possible, as a relay is never compared with the own addresses.

    If the connection breaks after the message has been sent, it may have been taken, and is sent again: the report says
    so.

SEE ALSO
    qmail-rspawn(8), qmail-send(8), qmail-tcpto(8), qmail-tcpok(8), qmail-smtpd(8)
"""

import _socket
import errno
import os
import struct
import time

from qmailpy.chain import Env
from qmailpy.formats import addresses, dns, tcpto
from qmailpy.formats.resolvconf import Resolver
from qmailpy.formats.smtproutes import PORT, Route
from qmailpy.loops import connect, resolve
from qmailpy.mta import routing
from qmailpy.mta.routing import Target
from qmailpy.protocols.smtp_client import MESSAGE, OVER, REPLY, Body, Conversation, Login, Mail, PartialLine
from qmailpy.stores import home, resolver
from qmailpy.stores import tcpto as store
from qmailpy.stores.control import Control
from qmailpy.unix import fds, interfaces, signals

PROGRAM = b"qmail-remote"

MESSAGE_FD, REPORT_FD = 0, 1

TIMEOUT_CONNECT_S, TIMEOUT_S = 60, 1200  # unless set
LONGEST_S = 1_000_000  # that a socket waits

BLOCK = 65536  # bytes of the message at once
RECEIVED = 4096  # bytes of a reply at once
HEAD = 4096  # bytes in front, where the Received lines of this host are

BY_SMTPUTF8 = b" with UTF8SMTP"  # UTF8SMTP, UTF8SMTPA, UTF8SMTPS ... of RFC 6531 section 4.3

# Reports
USAGE_REPORT = b"DI (qmail-remote) was invoked improperly. (#5.3.5)\n"
NO_MEMORY = b"ZOut of memory. (#4.3.0)\n"
NO_RESOURCES = b"ZSystem resources temporarily unavailable. (#4.3.0)\n"
NO_CONNECTION = b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
UNREADABLE = b"ZUnable to read message. (#4.3.0)\n"
DNS_TROUBLE = b"ZSorry, I couldn't find any host by that name. (#4.1.2)\n"
NO_HOME = b"ZUnable to switch to home directory. (#4.3.0)\n"
NO_CONTROLS = b"ZUnable to read control files. (#4.3.0)\n"
PARTIAL_LINE = b"DSMTP cannot transfer messages with partial final lines. (#5.6.2)\n"
NO_SUCH_HOST = b"DSorry, I couldn't find any host named %s. (#5.1.2)\n"
NO_ADDRESS = b"DSorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n"
NO_MAIL_THERE = b"DSorry, %s does not accept mail: its DNS says so by a null MX. (#5.1.10)\n"
WE_ARE_IT = (
    b"DSorry. Although I'm listed as a best-preference MX or A for that host,\n"
    b"it isn't in my control/locals file, so I don't treat it as local. (#5.4.6)\n"
)

VISIBLE = bytes(byte if 33 <= byte <= 126 else ord("?") for byte in range(256))


class Failed(Exception):
    """args[0]: the one report."""


class Settings:
    """What the control files say."""

    __slots__ = ("control", "hello", "routes", "senders", "timeout_connect_s", "timeout_s")

    def __init__(self, folder: bytes) -> None:
        """Raises OSError; LookupError if this host has no name."""
        self.control = control = Control(folder)
        timeout_s, connect_s = control.number(b"timeoutremote"), control.number(b"timeoutconnect")
        self.timeout_s = TIMEOUT_S if timeout_s is None else timeout_s
        self.timeout_connect_s = TIMEOUT_CONNECT_S if connect_s is None else connect_s
        hello = control.line(b"helohost")
        if hello is None:
            hello = control.me()
        if hello is None:
            raise LookupError
        self.hello = hello
        self.routes = control.text(b"smtproutes") or b""
        self.senders = control.text(b"authsenders") or b""


def shown(host: bytes) -> bytes:
    """A host in a report."""
    return host.translate(VISIBLE)


def literal(host: bytes) -> bytes | None:
    """The address that a host is: 192.0.2.7, [192.0.2.7], [2001:db8::7], [IPv6:2001:db8::7]; None for a name."""
    text = host[1:-1] if host.startswith(b"[") and host.endswith(b"]") else host
    ip, length = dns.scan4(text)
    if ip and length == len(text):
        return ip
    ip6 = addresses.parse_ipv6(text[5:] if text[:5].lower() == b"ipv6:" and text != host else text)
    return None if ip6 is None else addresses.unmap(ip6)


def impossible(host: bytes) -> bool:
    """Whether no name in DNS can be so."""
    if not host or host.startswith(b".") or b".." in host:
        return True
    try:
        dns.from_dots(host)
    except dns.Malformed:
        return True
    return False


def host_targets(names: Resolver, host: bytes, preference: int) -> tuple[list[Target], bool]:
    """The addresses of a host, none if it has none; and whether there may be others, which are not known now."""
    ip = literal(host)
    if ip is not None:
        return [Target(ip, preference)], False
    if impossible(host):
        return [], False
    found: list[Target] = []
    trouble = False
    for look_up in (resolve.addresses4, resolve.addresses6):
        try:
            found += [Target(addresses.unmap(ip), preference) for ip in look_up(names, host)]
        except resolve.Unresolved:
            trouble = True
    return found, trouble


def only_targets(names: Resolver, name: bytes, shown_as: bytes) -> list[Target]:
    """The addresses of a host beside which there is no other. Raises Failed."""
    found, trouble = host_targets(names, name, 0)
    if not found:
        raise Failed(DNS_TROUBLE if trouble else NO_SUCH_HOST % shown(shown_as))
    return found


def exchange_targets(names: Resolver, host: bytes) -> tuple[list[Target], int | None]:
    """The addresses of the mail exchangers of a host, in the order in which they are to be tried; and the preference of
    the first one of which not all are known now. Raises Failed."""
    name = dns.a_labels(host)
    if impossible(name):
        raise Failed(NO_SUCH_HOST % shown(host))
    try:
        exchanges = resolve.exchanges(names, name)
    except resolve.Unresolved:
        raise Failed(DNS_TROUBLE)
    if not exchanges:
        return only_targets(names, name, host), None
    if routing.null(exchanges):
        raise Failed(NO_MAIL_THERE % shown(host))
    found: list[Target] = []
    unknown: list[int] = []
    draw = [os.urandom(8) for _ in exchanges]
    for preference, exchange in routing.in_order(exchanges, draw)[: routing.MOST_HOSTS]:
        more, trouble = host_targets(names, exchange, preference)
        found += more
        if trouble:
            unknown.append(preference)
            if len(unknown) == routing.MOST_TROUBLE:
                break
    if not found:
        raise Failed(DNS_TROUBLE if unknown else NO_ADDRESS)
    return found, unknown[0] if unknown else None


def targets(route: Route | None, host: bytes, env: Env) -> list[Target]:
    """The addresses to try, in order. Raises Failed."""
    ip = literal(host if route is None else route.relay)
    unknown = None
    if ip is not None:
        found = [Target(ip, 0)]
    elif route is not None:
        found = only_targets(resolver.read(env), dns.a_labels(route.relay), route.relay)
    else:
        found, unknown = exchange_targets(resolver.read(env), host)
    if route is not None:
        return found
    try:
        better = routing.before_us(found, interfaces.addresses())
    except OSError:
        raise Failed(NO_RESOURCES)
    if not better:  # of those that are known
        raise Failed(WE_ARE_IT if unknown is None or unknown >= found[0].preference else DNS_TROUBLE)
    return better


class Link:
    """A connection. Each step has to be done in timeout_s seconds; a wait that begins within them may take as many
    again. All raise OSError; TimeoutError is one."""

    __slots__ = ("_sock", "_timeout_s")

    def __init__(self, sock: _socket.socket, timeout_s: int) -> None:
        self._sock = sock
        self._timeout_s = timeout_s
        sock.settimeout(None)
        limit = struct.pack("@ll", max(1, min(timeout_s, LONGEST_S)), 0)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, limit)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, limit)

    def send(self, data: "bytes | bytearray") -> None:
        """All of it."""
        deadline = connect.Deadline(self._timeout_s)
        view = memoryview(data)
        try:
            while view:
                view = view[self._sock.send(view) :]
                if view:
                    deadline.left()
        except BlockingIOError:
            raise TimeoutError(errno.ETIMEDOUT, "")

    def hear(self, conversation: Conversation) -> None:
        """One reply, and what has come with it."""
        deadline = connect.Deadline(self._timeout_s)
        heard = conversation.heard
        while conversation.heard == heard and conversation.wants == REPLY:
            try:
                data = self._sock.recv(RECEIVED)
            except BlockingIOError:  # SO_RCVTIMEO has passed
                raise TimeoutError(errno.ETIMEDOUT, "")
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "")
            conversation.feed(data)
            deadline.left()

    def hear_now(self, conversation: Conversation) -> None:
        """What has come already."""
        try:
            conversation.feed(self._sock.recv(RECEIVED, _socket.MSG_DONTWAIT))
        except BlockingIOError:
            pass

    def leave(self, last: "bytes | bytearray") -> None:
        """Send some last words, if they can go."""
        try:
            self._sock.send(last, _socket.MSG_DONTWAIT)
        except OSError:  # the other end has gone first
            pass

    def close(self) -> None:
        self._sock.close()


class Delivery:
    """One message on its way to the first server that can be reached."""

    __slots__ = ("_folder", "_mail", "_route", "_settings")

    def __init__(self, folder: bytes, settings: Settings, mail: Mail, route: Route | None) -> None:
        self._folder = folder
        self._mail = mail
        self._route = route
        self._settings = settings

    def run(self, found: list[Target]) -> list[bytes]:
        """The reports. Raises Failed."""
        for target in found[: routing.MOST_TARGETS]:
            sock = self._connected(target.ip)
            if sock is not None:
                return self._deliver(sock, target.ip)
        raise Failed(NO_CONNECTION)

    def _connected(self, ip: bytes) -> _socket.socket | None:
        """A connection to that address; None if there is none now. Raises Failed."""
        slow = self._record(ip)
        if routing.left_out(slow, int(time.time()), os.getpid()):
            return None
        try:
            sock = connect.stream(ip)
        except OSError as e:
            if e.errno == errno.EAFNOSUPPORT:  # no IPv6 here
                return None
            raise Failed(NO_RESOURCES)
        port = PORT if self._route is None else self._route.port
        timed_out = False
        try:
            connect.connect(sock, ip, port, connect.Deadline(self._settings.timeout_connect_s))
            connection = sock
        except OSError as e:
            sock.close()
            timed_out = e.errno == errno.ETIMEDOUT
            connection = None
        if timed_out and len(ip) == 4:
            store.change(self._folder, lambda table: routing.noted(table, ip, int(time.time())))
        elif slow is not None and slow.count:
            store.change(self._folder, lambda table: routing.forgiven(table, ip))
        return connection

    def _record(self, ip: bytes) -> tcpto.Entry | None:
        """What is known of a host; there is no room for IPv6 in the table."""
        return tcpto.find(store.read(self._folder), ip) if len(ip) == 4 else None

    def _login(self, ip: bytes) -> Login | None:
        """What to log in with. Raises Failed."""
        route = self._route
        if route is None or not route.user:
            return None
        try:
            trusted = self._settings.control.lines(b"clearauthhosts") or []
        except OSError:
            raise Failed(NO_CONTROLS)
        return Login(route.user, route.password, routing.is_loopback(ip) or route.relay in trusted)

    def _deliver(self, sock: _socket.socket, ip: bytes) -> list[bytes]:
        """The reports of the server that has taken the connection. Raises Failed."""
        try:
            first = look(self._mail)
        except OSError:
            raise Failed(UNREADABLE)
        place, name, login = addresses.format_ip(ip), self._settings.hello, self._login(ip)
        conversation = Conversation(place, name, self._mail, login)
        if not self._talk(sock, conversation, first):
            again = self._connected(ip)
            if again is not None:
                conversation = Conversation(place, name, self._mail, login, extended=False)
                self._talk(again, conversation, first)
            conversation.lost()  # which changes nothing once it is over
        return conversation.reports

    def _talk(self, sock: _socket.socket, conversation: Conversation, first: bytes) -> bool:
        """Have the conversation, to its end, and close sock; False if the server has hung up on EHLO."""
        link = Link(sock, self._settings.timeout_s)
        try:
            while conversation.wants != OVER:
                if conversation.output:
                    link.send(conversation.output)
                    conversation.output.clear()
                if conversation.wants == MESSAGE:
                    send_message(link, conversation, first)
                else:
                    link.hear(conversation)
        except TimeoutError:
            conversation.lost()
        except OSError:
            if conversation.hung_up_on_ehlo:
                return False
            conversation.lost()
        finally:
            if conversation.wants == OVER and conversation.output:
                link.leave(conversation.output)
            link.close()
        return True


def look(mail: Mail) -> bytes:
    """Note what the message is like; returns its first block, which is all of most. Raises OSError."""
    first = os.read(MESSAGE_FD, BLOCK)
    length, newlines = len(first), first.count(b"\n")
    mail.eight_bit = not first.isascii()
    mail.utf8 = BY_SMTPUTF8 in first[:HEAD].partition(b"\n\n")[0]
    try:
        at = os.lseek(MESSAGE_FD, 0, os.SEEK_CUR)
    except OSError:  # a pipe: what follows can be read only once
        return first
    while length >= BLOCK and (block := os.pread(MESSAGE_FD, BLOCK, at)):
        at += len(block)
        length += len(block)
        newlines += block.count(b"\n")
        mail.eight_bit = mail.eight_bit or not block.isascii()
    mail.size = length + newlines
    return first


def send_message(link: Link, conversation: Conversation, block: bytes) -> None:
    """Send the message, of which block is the first; stop where the server answers before it has all. Raises OSError,
    but not for what is wrong with the message."""
    body = Body()
    while True:
        wire = body.feed(block)
        try:
            block = os.read(MESSAGE_FD, BLOCK) if block else b""
        except OSError:
            conversation.stop(UNREADABLE)
            return
        if not block:
            break
        try:
            link.send(wire)
        except OSError:  # it may have said why
            link.hear_now(conversation)
            raise
        link.hear_now(conversation)
        if conversation.wants != MESSAGE:
            return
    try:
        wire += body.finish()
    except PartialLine:
        conversation.stop(PARTIAL_LINE)
        return
    try:
        link.send(wire + conversation.end())
    except OSError:
        conversation.unsent()
        link.hear_now(conversation)
        raise


def deliver(argv: list[bytes], env: Env) -> list[bytes]:
    """The reports. Raises Failed."""
    if len(argv) < 4:
        raise Failed(USAGE_REPORT)
    folder = home.home(env)
    try:
        os.stat(folder + b"/.")
    except OSError:
        raise Failed(NO_HOME)
    try:
        settings = Settings(folder)
    except (OSError, LookupError):
        raise Failed(NO_CONTROLS)
    host, sender, *recipients = argv[1:]
    route = routing.artificial(settings.routes, settings.senders, host, sender)
    return Delivery(folder, settings, Mail(sender, recipients), route).run(targets(route, host, env))


def main(argv: list[bytes], env: Env) -> int:
    signals.ignore(signals.PIPE)
    try:
        reports = deliver(argv, env)
    except Failed as e:
        reports = [e.args[0]]
    except MemoryError:
        reports = [NO_MEMORY]
    try:
        fds.write_all(REPORT_FD, b"".join([report + b"\0" for report in reports]))
    except OSError:  # nobody is there to be told
        pass
    return 0
