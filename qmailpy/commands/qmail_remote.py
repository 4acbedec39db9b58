"""NAME
    qmail-remote - send mail via SMTP

SYNOPSIS
    qmail-remote HOST SENDER RECIP...

DESCRIPTION
    qmail-remote reads a message from descriptor 0 and sends it, by SMTP, to each RECIP on HOST, from SENDER.
    qmail-rspawn(8) runs it for each delivery, or what QMAILREMOTE names instead.

    HOST is a name, or an address in brackets: [192.0.2.7], [IPv6:2001:db8::7]. It takes no options.

    The server is greeted by EHLO; one that does not know that is greeted by HELO and then finds the conversation of
    old. What it offers is used: PIPELINING, SIZE, 8BITMIME, SMTPUTF8, STARTTLS, and AUTH where a route has a password.
    QUIT is sent, its answer is not waited for.

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
    run, but where a server lacks the TLS that it needs. IPv4 hosts that do not answer in time twice are left out for an
    hour: see qmail-tcpto(8).

    Without an answer from DNS mail waits. It is bounced only if a server says that there is no such name, or
    no address for it.

TLS
    TLS is used with each server that offers it, 1.2 or 1.3, whatever its certificate is. Where the handshake fails, the
    message is sent without, by another connection. For some destinations that is not enough; then mail waits, with the
    reason in its report, and never goes in clear:

    control/tlsdestinations    the administrator's word, see DESTINATIONS.

    DANE (RFC 7672)    Where DNS has TLSA records for a mail exchanger, or for a relay, the certificate has to fit one
                       of them. MX records, addresses and TLSA records all have to be authentic (DNSSEC), and the name
                       server that says so to be believed: see control/dnssecservers.

    MTA-STS (RFC 8461)    Where the domain has published such a policy in mode `enforce`, only mail exchangers that it
                          names are used, with a certificate of theirs, from an authority that this system trusts.
                          Policies are kept in the folder mta-sts of the home, which qmail-make-queue(8) makes;
                          without it there is no MTA-STS. Mail by a route has no part in it.

    passwords    A password goes only to the relay that it is for, as its certificate shows, unless tlsdestinations
                 has a line for this relay, not one for all, or see clearauthhosts.

    What the administrator says with `none` or `verify` counts alone. A server with TLSA records has to fit these, and
    not the authorities of MTA-STS. If all of these records are of kinds that are not for mail, it has to have TLS.

    The report of a message that was taken by TLS says so in a second line: version, cipher, and whether the
    certificate was `verified`, `verified by DANE`, `verified by MTA-STS`, or `unverified`, as none had to be shown.

ROUTES
    In control/smtproutes DOMAIN is HOST whole, or a part of it at its end that begins with a dot, or nothing for all;
    the longest counts, and of two alike the last. Without RELAY mail goes by DNS, as if there were no line. RELAY is a
    name, of which only the addresses are looked up, or an address; one of IPv6 stands in brackets:

        inside.example:firewall.example:26
        .example:
        two.example:[2001:db8::7]:2525
        :smarthost.example:587|me|my password
        :smtps://smarthost.example|me|my password

    smtps:// is TLS from the first byte, by port 465 unless there is another; RELAY:465 means the same, smtp://RELAY:465
    does not.

    With a password the server has to offer CRAM-MD5, PLAIN or LOGIN (the first of these is taken). It is sent only to
    the loopback addresses, by TLS, or to a RELAY in clearauthhosts; otherwise mail waits.

DESTINATIONS
    In control/tlsdestinations DOMAIN is as in smtproutes, but counts however a name is written in an address: with a
    dot at its end, or in UTF-8. Here it is as DNS has it, in the latter case xn--... WORD is

    encrypt    there has to be TLS, whoever is at the other end
    verify     and a certificate for the name of the server, or for NAME, from an authority that this system trusts
    none       STARTTLS is not used

    Without WORD it is as if there were no line. For mail by a RELAY both HOST and RELAY are looked up, HOST not as
    the domain of all, and the stricter line counts. NAME is what matters where DNS can be forged: the name of a mail
    exchanger comes from there.

        bank.example:verify:mx.bank.example
        .partner.example:encrypt
        broken.example:none

REPORTS
    To descriptor 1, each followed by a NUL: one for each RECIP that the server was asked about, in order, and one
    for the message, the letter first.

    r    the recipient is accepted
    h    the recipient is refused for good
    s    the recipient is refused for now
    K    the server has taken the message for all that are accepted
    Z    it has not; later it may
    D    it has not, and will not

CONTROL FILES
    helohost          the name to greet with; me unless set
    smtproutes        routes, as DOMAIN:[smtps://]RELAY[:PORT][|USER|PASSWORD]: see ROUTES
    authsenders       the same for senders: an address, what begins with an @ or a dot at its end, or nothing for all
    clearauthhosts    relays that may be sent a password in clear, as they stand in a route, one on each line
    tlsdestinations   which TLS a destination has to have, as DOMAIN:WORD[:NAME]: see DESTINATIONS
    dnssecservers     addresses of the name servers that are believed when they say that an answer is authentic, one on
                      each line; unless set, those on loopback addresses
    clientcert.pem    our own certificate and its key, without a password, for servers that ask for one
    tlsclientciphers  ciphers for TLS 1.2, as in openssl-ciphers(1)
    timeoutconnect    seconds that a server has to take the connection, 60 unless set
    timeoutremote     seconds that it has to answer, and for each 64 kB of the message to take them, 1200 unless set

ENVIRONMENT
    QMAILHOME          the home of the mail system, /var/qmail unless set
    DNSCACHEIP, QMAILPY_DNSPORT
                       the name servers to ask, and on which port, see tcpclient(1)
    QMAILPY_HTTPSPORT  the port of the servers that have policies, 443 unless set
    SSL_CERT_FILE, SSL_CERT_DIR
                       the certificates of authorities, those of the system unless set

EXIT STATUS
    0    always: the reports say what has happened

SECURITY
    TLS that need not be verified keeps out who only listens. Who can change what goes over the network can also take
    STARTTLS away; where that matters use tlsdestinations, or what the other side publishes. Bytes that come behind the
    answer to STARTTLS end the connection: they would be read as if they came by TLS.

    MTA-STS trusts the first answer; DANE trusts the name server, and the way to it. A name server that does not
    validate beside one that does undoes that: it is asked where the other refuses what is forged.

    Replies are passed on in reports as they come: whoever shows them to a terminal has to make them safe. A reply has
    64 kB, and timeoutremote seconds, or twice as many if it comes slowly; a server can hold a run no longer than that
    for each command and each 64 kB of the message. For the handshake of TLS it has 300 seconds at the most. Of a domain
    at most 32 mail exchangers are looked up, fewer if name servers do not answer, and 32 addresses tried.

    An address with a line break in it is refused: it would be another command.

    smtproutes and authsenders with passwords, and clientcert.pem, must not be readable by all. qmailr needs to read
    them.

BUGS
    A server that is known by a TLSA record of usage 2 (DANE-TA) has two connections: by the first it is learned which
    certificate is meant. Reports (TLSRPT) are not sent.

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
from qmailpy.formats import addresses, dns, mtasts, numbers, tcpto, tlsa
from qmailpy.formats.resolvconf import Resolver
from qmailpy.formats.smtproutes import PORT, Route
from qmailpy.loops import connect, resolve
from qmailpy.mta import routing, tlspolicy
from qmailpy.mta.routing import Target
from qmailpy.mta.tlspolicy import Need
from qmailpy.protocols import smtp_client
from qmailpy.protocols.smtp_client import (
    MESSAGE,
    OVER,
    REPLY,
    TLS,
    Body,
    Conversation,
    Login,
    Mail,
    PartialLine,
    Security,
)
from qmailpy.stores import home, resolver
from qmailpy.stores import tcpto as store
from qmailpy.stores.control import Control
from qmailpy.stores.mtasts import Policies
from qmailpy.unix import fds, interfaces, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmailpy.loops.tlsclient import Channel
    from qmailpy.loops.tlsclient import Settings as TlsSettings

PROGRAM = b"qmail-remote"

MESSAGE_FD, REPORT_FD = 0, 1

TIMEOUT_CONNECT_S, TIMEOUT_S = 60, 1200  # unless set
LONGEST_S = 1_000_000  # that a socket waits
HANDSHAKE_S = 300  # for TLS, at the most
HTTPS_PORT = 443

MOST_CONNECTIONS = 4  # to one address: the first, by an anchor of DANE, without EHLO, without TLS
MOST_ANCHORS = 8

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

# The same about TLS
MISSPELT = b"ZI do not know the word %s in control/tlsdestinations. (#4.3.5)\n"
UNUSABLE = b"ZNo TLS with %s: %s. (#4.3.5)\n"
TLS_FAILED = b"ZConnected to %s but TLS failed, which %s demands: %s. (#4.7.5)\n"
NO_POLICY = b"ZUnable to read the MTA-STS policy of %s. (#4.3.0)\n"
NOT_IN_POLICY = b"ZSorry, %s is a mail exchanger that the MTA-STS policy of its domain does not name. (#4.7.5)\n"
NO_TLSA = b"ZSorry, I couldn't find out which certificate %s has to show (DANE). (#4.7.5)\n"

EARLY = b"the server has sent more than its answer to STARTTLS"
UNFIT = b"its certificate fits none of its TLSA records"
MISNAMED = b"its certificate is not for %s"
HUNG_UP = b"the server has hung up"

VISIBLE = bytes(byte if 33 <= byte <= 126 else ord("?") for byte in range(256))


class Failed(Exception):
    """args[0]: the one report."""


class Insecure(Exception):
    """A server lacks the TLS that it needs; args[0]: the one report."""


class NoTls(Exception):
    """There is no TLS with a server; args[0]: why."""


class Anchored(Exception):
    """A server has to be asked again: its certificate may descend from one of args[0]."""


class Settings:
    """What the control files say."""

    __slots__ = ("control", "destinations", "hello", "routes", "senders", "timeout_connect_s", "timeout_s")

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
        self.destinations = control.text(b"tlsdestinations") or b""


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
        return [Target(ip, preference, addresses.format_ip(ip))], False
    if impossible(host):
        return [], False
    found: list[Target] = []
    trouble = False
    for look_up in (resolve.host4, resolve.host6):
        try:
            there = look_up(names, host)
        except resolve.Unresolved:
            trouble = True
            continue
        bases = (there.name, dns.from_dots(host)) if there.authentic else ()  # RFC 7672 section 2.2.3
        found += [Target(addresses.unmap(ip), preference, host, bases) for ip in there.addresses]
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
        exchanges, authentic = resolve.exchanges_and_proof(names, name)
    except resolve.Unresolved:
        raise Failed(DNS_TROUBLE)
    if routing.null(exchanges):
        raise Failed(NO_MAIL_THERE % shown(host))
    found = [] if exchanges else only_targets(names, name, host)
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
    if not authentic:
        for target in found:
            target.bases = ()
    return found, unknown[0] if unknown else None


def name_servers(settings: Settings, env: Env) -> Resolver:
    """How to resolve names, and who is believed. Raises Failed."""
    names = resolver.read(env)
    try:
        believed = settings.control.lines(b"dnssecservers")
    except OSError:
        raise Failed(NO_CONTROLS)
    servers = [] if isinstance(names.servers, OSError) else [ip for ip, _ in names.servers]
    if believed is None:
        names.believed = frozenset([ip for ip in servers if routing.is_loopback(ip)])
    else:
        names.believed = frozenset([ip for ip in map(literal, believed) if ip is not None])
    return names


def targets(route: Route | None, host: bytes, names: Resolver) -> list[Target]:
    """The addresses to try, in order. Raises Failed."""
    ip = literal(host if route is None else route.relay)
    unknown = None
    if ip is not None:
        found = [Target(ip, 0, addresses.format_ip(ip))]
    elif route is not None:
        found = only_targets(names, dns.a_labels(route.relay), route.relay)
    else:
        found, unknown = exchange_targets(names, host)
    if route is not None:
        return found
    try:
        better = routing.before_us(found, interfaces.addresses())
    except OSError:
        raise Failed(NO_RESOURCES)
    if not better:  # of those that are known
        raise Failed(WE_ARE_IT if unknown is None or unknown >= found[0].preference else DNS_TROUBLE)
    return better


class Needs:
    """Which TLS the servers of a destination need. told: the administrator has said what is enough for a password."""

    __slots__ = ("_host", "_names", "_policy", "_port", "_records", "_relayed", "_rule", "told")

    def __init__(self, settings: Settings, names: Resolver, host: bytes, route: Route | None) -> None:
        """Raises Failed."""
        self._names = names
        self._host = dns.canonical(host)
        self._relayed = route is not None
        self._port = PORT if route is None else route.port
        self._policy: mtasts.Policy | None = None
        self._records: dict[tuple[bytes, ...], tuple[list[bytes], list[bytes]] | None] = {}
        try:
            self._rule = tlspolicy.rule(settings.destinations, host, None if route is None else route.relay)
            self.told = route is not None and tlspolicy.names_relay(settings.destinations, route.relay)
        except tlspolicy.Misspelt as e:
            raise Failed(MISSPELT % shown(e.args[0]))

    def named(self, found: list[Target]) -> list[Target]:
        """Those that the policy allows. Raises Failed if it allows none."""
        policy = self._policy
        named = found if policy is None else [target for target in found if policy.names(target.name)]
        if not named:
            raise Failed(NOT_IN_POLICY % shown(found[0].name))
        return named

    def learn(self, policies: Policies, env: Env) -> None:
        """See to the MTA-STS policy of the destination. Raises Failed."""
        named = tlspolicy.can_be_named(self._host) and literal(self._host) is None and not impossible(self._host)
        if self._relayed or not named or tlspolicy.final(self._rule) or not policies.are_kept():
            return
        try:
            self._policy = current_policy(self._names, policies, self._host, env)
        except OSError:
            raise Failed(NO_POLICY % shown(self._host))

    def of(self, target: Target) -> Need:
        """Raises Insecure if that is not known now."""
        records: list[bytes] = []
        names: list[bytes] = []
        if target.bases and not tlspolicy.final(self._rule):
            if target.bases not in self._records:
                self._records[target.bases] = self._proven(target)
            found = self._records[target.bases]
            if found is None:
                raise Insecure(NO_TLSA % shown(target.name))
            records, names = found
        return tlspolicy.need(self._rule, target.name, self._policy, records, names)

    def _proven(self, target: Target) -> tuple[list[bytes], list[bytes]] | None:
        """The TLSA records of a server, and the names that count with them; None if they are not known now."""
        found: list[bytes] = []
        base = b""
        for base in dict.fromkeys(target.bases):
            try:
                found = resolve.proven(self._names, tlsa.named(self._port, base), dns.TLSA)
            except dns.Malformed:  # the name is too long to have some
                continue
            except resolve.Unresolved:
                return None
            if found:
                break
        own = [dns.to_dots(base), target.name]
        return found, own if self._relayed else [*own, self._host]


def current_policy(names: Resolver, policies: Policies, domain: bytes, env: Env) -> mtasts.Policy | None:
    """The policy of a domain, if it is to be enforced; fetched if need be. Raises OSError."""
    kept = policies.read(domain)
    now = int(time.time())
    try:
        found = mtasts.policy_id(resolve.each_text(names, mtasts.LABEL + domain))
    except resolve.Unresolved:
        found = None
    if found is not None and tlspolicy.is_due(kept, found, now):
        policy = fetched_policy(names, domain, env)
        if policy is not None:
            kept = mtasts.Kept(found, now, 0, policy)
        else:
            kept = kept or mtasts.Kept(found, 0, 0, None)
            kept.failed = now
        policies.write(domain, kept, now)
    policy = tlspolicy.in_force(kept, now)
    return policy if policy is not None and policy.mode == mtasts.ENFORCE else None


def fetched_policy(names: Resolver, domain: bytes, env: Env) -> mtasts.Policy | None:
    """The policy that a domain publishes; None if there is none to be had."""
    from qmailpy.loops import https, tlsclient  # heavy, and seldom needed

    host = mtasts.HOST + domain
    port = numbers.scan(env.get(b"QMAILPY_HTTPSPORT", b""))[0] % 65536 or HTTPS_PORT
    try:
        ips = [target.ip for target in host_targets(names, host, 0)[0]][: routing.MOST_INSECURE]
        context = tlsclient.verifying(tlsclient.Settings(env.get(b"SSL_CERT_FILE"), env.get(b"SSL_CERT_DIR")))
        return mtasts.parse(https.fetch(ips, port, host, mtasts.PATH, context, mtasts.LARGEST, "text/plain"))
    except (tlsclient.Unusable, tlsclient.Failed, mtasts.Malformed):
        return None


class Link:
    """A connection. Each step has to be done in timeout_s seconds; a wait that begins within them may take as many
    again. All raise OSError; TimeoutError is one."""

    __slots__ = ("_channel", "_sock", "_timeout_s")

    def __init__(self, sock: _socket.socket, timeout_s: int) -> None:
        self._sock: _socket.socket | Channel = sock
        self._channel: Channel | None = None
        self._timeout_s = timeout_s
        sock.settimeout(None)
        limit = struct.pack("@ll", max(1, min(timeout_s, LONGEST_S)), 0)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, limit)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, limit)

    def secure(self, need: Need, name: bytes | None, settings: "TlsSettings") -> bytes:
        """Go on by TLS, if the server has what it needs; returns what that is like. name: what it is asked for by.
        Raises NoTls, Anchored, and Failed."""
        from qmailpy.loops import tlsclient  # heavy; whoever lives long has it already: prepare

        assert isinstance(self._sock, _socket.socket)
        try:
            if need.level in (tlspolicy.VERIFY, tlspolicy.ANCHORS):
                context = tlsclient.verifying(settings, need.anchors)
                context.check_hostname = need.level == tlspolicy.VERIFY
            else:
                context = tlsclient.trusting(settings)
        except tlsclient.Unusable as e:
            raise Failed(UNUSABLE % (addresses.format_ip(connect.remote(self._sock)[0]), e.args[0]))
        try:
            channel = tlsclient.Channel(
                self._sock, context, name, self._timeout_s, min(HANDSHAKE_S, max(1, self._timeout_s))
            )
        except tlsclient.Failed as e:
            raise NoTls(e.args[0])
        if need.level == tlspolicy.DANE:
            check_records(channel, need)
        elif need.level == tlspolicy.ANCHORS and not tlspolicy.evident(channel.names, need.names):
            raise NoTls(MISNAMED % shown(need.names[0]))
        self._sock = self._channel = channel
        return channel.shown + b" " + need.shown

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
            if self._channel is not None:
                self._channel.leave()
        except OSError:  # the other end has gone first
            pass

    def close(self) -> None:
        self._sock.close()


def check_records(channel: "Channel", need: Need) -> None:
    """Compare the certificates of a server with its TLSA records. If its own fits that is enough, whatever else is in
    it (RFC 7672 section 3.1.1); where another fits, Anchored is raised; where none does, NoTls."""
    from qmailpy.loops.tlsclient import digest

    chain = channel.chain()
    ends = [record for record in need.records if record.usage == tlsa.END_ENTITY]
    if any(tlsa.fits(record, chain[0], digest) for record in ends if chain):
        return
    roots = [record for record in need.records if record.usage == tlsa.TRUST_ANCHOR]
    anchors = [each for each in chain if any(tlsa.fits(record, each, digest) for record in roots)]
    anchors += [record.data for record in roots if record.selector == tlsa.CERTIFICATE and record.matching == tlsa.FULL]
    if not anchors:
        raise NoTls(UNFIT)
    raise Anchored(list(dict.fromkeys(anchors))[:MOST_ANCHORS])


class Delivery:
    """One message on its way to the first server that can be reached."""

    __slots__ = ("_env", "_first", "_folder", "_mail", "_needs", "_route", "_settings")

    def __init__(
        self, folder: bytes, settings: Settings, mail: Mail, route: Route | None, needs: Needs, env: Env
    ) -> None:
        self._folder = folder
        self._mail = mail
        self._route = route
        self._settings = settings
        self._needs = needs
        self._env = env
        self._first: bytes | None = None  # block of the message, once it is read

    def run(self, found: list[Target]) -> list[bytes]:
        """The reports. Raises Failed."""
        insecure: list[bytes] = []
        for target in found[: routing.MOST_TARGETS]:
            try:
                login = self._login(target.ip)
                need = self._need(target, login)
                sock = self._connected(target.ip)
                if sock is not None:
                    return self._deliver(sock, target, need, login)
            except Insecure as e:
                insecure.append(e.args[0])
                if len(insecure) == routing.MOST_INSECURE:
                    break
        raise Failed(insecure[0] if insecure else NO_CONNECTION)

    def _need(self, target: Target, login: Login | None) -> Need:
        """Raises Insecure."""
        need = self._needs.of(target)
        if self._route is not None and self._route.tls and need.level < tlspolicy.ENCRYPT:
            need = Need(tlspolicy.ENCRYPT, tlspolicy.SMTPS)
        if login is not None and not login.protected:  # last: what smtps demands is not enough
            need = tlspolicy.for_login(need, target.name, self._needs.told)
        return need

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

    def _deliver(self, sock: _socket.socket, target: Target, need: Need, login: Login | None) -> list[bytes]:
        """The reports of the server that has taken the connection. Raises Failed, and Insecure."""
        if self._first is None:
            try:
                self._first = look(self._mail)
            except OSError:
                raise Failed(UNREADABLE)
        place = addresses.format_ip(target.ip)
        extended = True
        for _ in range(MOST_CONNECTIONS):
            start = (
                smtp_client.MUST if need.strict else smtp_client.NEVER if need.level == tlspolicy.NEVER
                else smtp_client.MAY
            )  # fmt: skip
            security = Security(start, need.source)
            conversation = Conversation(place, self._settings.hello, self._mail, login, extended, security)
            try:
                if self._talk(sock, conversation, target, need):
                    break
                extended = False
                if need.strict:  # without EHLO there is no STARTTLS
                    break
            except Anchored as e:
                need = need.anchored(e.args[0])
            except NoTls as e:
                if need.strict:
                    raise Insecure(TLS_FAILED % (place, need.source, e.args[0]))
                need = Need(tlspolicy.NEVER)
            again = self._connected(target.ip)
            if again is None:
                break
            sock = again
        conversation.lost()  # which changes nothing once it is over
        if conversation.insecure:
            raise Insecure(conversation.reports[-1])
        return conversation.reports

    def _tls(self, link: Link, target: Target, need: Need) -> bytes:
        """See Link.secure."""
        from qmailpy.loops import tlsclient

        certificate = self._folder + b"/control/clientcert.pem"
        try:
            ciphers = self._settings.control.line(b"tlsclientciphers") or None
        except OSError:
            raise Failed(NO_CONTROLS)
        settings = tlsclient.Settings(
            self._env.get(b"SSL_CERT_FILE"), self._env.get(b"SSL_CERT_DIR"),
            certificate if os.path.lexists(certificate) else None, ciphers,
        )  # fmt: skip
        name = need.names[0] if need.names and need.level >= tlspolicy.VERIFY else target.name
        named = need.level >= tlspolicy.VERIFY or tlspolicy.can_be_named(name)
        return link.secure(need, name if named else None, settings)

    def _talk(self, sock: _socket.socket, conversation: Conversation, target: Target, need: Need) -> bool:
        """Have the conversation, to its end, and close sock; False if the server has hung up on EHLO. Raises NoTls and
        Anchored, and Failed."""
        link = Link(sock, self._settings.timeout_s)
        first = self._first or b""
        try:
            if self._route is not None and self._route.tls:
                conversation.begun(self._tls(link, target, need))
            while conversation.wants != OVER:
                if conversation.output:
                    link.send(conversation.output)
                    conversation.output.clear()
                if conversation.wants == MESSAGE:
                    send_message(link, conversation, first)
                elif conversation.wants == TLS:
                    if conversation.early:
                        raise NoTls(EARLY)
                    conversation.secured(self._tls(link, target, need))
                else:
                    link.hear(conversation)
        except TimeoutError:
            conversation.lost()
        except OSError:
            if conversation.unproved:
                raise NoTls(HUNG_UP)
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
    known = literal(host if route is None else route.relay) is not None
    names = Resolver([], []) if known else name_servers(settings, env)
    needs = Needs(settings, names, host, route)
    found = targets(route, host, names)
    needs.learn(Policies(folder), env)
    return Delivery(folder, settings, Mail(sender, recipients), route, needs, env).run(needs.named(found))


def prepare() -> None:
    """Before the fork of a spawner: of a message by TLS, importing ssl and its first use would be most of the work."""
    from qmailpy.loops import tlsclient

    tlsclient.trusting(tlsclient.Settings())


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
