"""NAME
    tcpclient - make an outgoing TCP connection

SYNOPSIS
    tcpclient [-46hHrRdDqQvsSN] [-i LOCALIP] [-p LOCALPORT] [-T X+Y] [-l LOCALNAME] [-t TIMEOUT] [-I INTERFACE]
        [-n CERT] HOST PORT PROGRAM [ARG...]

DESCRIPTION
    tcpclient connects to PORT of HOST and becomes PROGRAM with the arguments ARG, with descriptor 6 reading from
    the network and descriptor 7 writing to it, and with variables in its environment that describe the
    connection. Descriptors 0, 1 and 2 stay what they are.

        tcpclient -RHl0 mail.example smtp mconnect-io

    HOST is a name, an IPv4 or IPv6 address, or 0, which is 127.0.0.1. PORT is a number or a name of services(5).

    If HOST has several addresses, tcpclient tries one after the other: the IPv4 addresses, in random order, and,
    if none of them gives a connection, the IPv6 addresses. For each address that does not, it says why:

        tcpclient: unable to connect to 192.0.2.1 port 25: connection refused

OPTIONS
    -q             say nothing; -Q, the default, says errors; -v says also to which address it has connected
    -T X+Y         wait X seconds for each address, then Y seconds more for each one that was too slow; 2+58
                   unless set. A single address gets X+Y seconds at once. -T X is -T X+0
    -i LOCALIP     connect from that address, and to addresses of its kind only
    -p LOCALPORT   connect from that port
    -I INTERFACE   the interface that HOST, a link-local IPv6 address, is on
    -4             only IPv4 addresses of HOST
    -6             only IPv6 addresses of HOST; 0 is then ::1
    -d             let the kernel delay small packets, the default; -D does not (TCP_NODELAY)
    -h             look up the name of the remote address in DNS, the default; -H does not
    -l LOCALNAME   do not look up the name of the local address in DNS, use LOCALNAME for TCPLOCALHOST
    -r             ask the remote host's ident server for TCPREMOTEINFO, the default; -R does not
    -t TIMEOUT     give up on the ident server after TIMEOUT seconds, 26 unless set
    -s             TLS, 1.2 or 1.3: PROGRAM starts after the handshake, reads what has been decrypted, and what it
                   writes is encrypted. The server has to prove that it is HOST, by a certificate that leads to a root
                   of CAFILE or CADIR, or else to one that the system trusts. -S, the default: no TLS
    -N             with -s, take any certificate
    -n CERT        with -s, show the certificate of the file CERT, which has its key too

    The look-ups happen between the connection and the program, which has to wait for them. -RHl0 spares them.

HOST NAMES
    Names are looked up in DNS alone; /etc/hosts is never read. A name that is made of digits, dots and brackets
    only is an IPv4 address. Any other is first completed by rules, from the first of these that exists:

        the file that DNSREWRITEFILE names, else /etc/dnsrewrite
        the variable LOCALDOMAIN: domains, separated by single spaces
        the first search or domain line of /etc/resolv.conf
        the domain of the local host's name

    All but the first make a domain follow a name without a dot, remove a final dot, and make localhost, and every
    name in the domain localhost, the local machine. The file has one rule in each line, which is tried on
    what the lines above it have made of the name:

        =NAME:NEW      the name NAME becomes NEW
        *TAIL:NEW      a name that ends in TAIL gets NEW in its place
        ?TAIL:NEW      the same, if there is no dot or bracket before TAIL
        -TAIL:NEW      a name that ends in TAIL becomes NEW

    If the outcome is PART+END1+END2, PARTEND1 and then PARTEND2 is tried.

    A server is given 3 seconds, then, when all have been asked, 11 and then 45.

ENVIRONMENT
    Set for the program:

    PROTO            TCP, or TCP6 for a connection by IPv6
    TCPLOCALIP       the local address
    TCPLOCALPORT     the local port
    TCPLOCALHOST     the local name; empty if there is none, unset if that cannot be found out
    TCPREMOTEIP      the remote address
    TCPREMOTEPORT    the remote port
    TCPREMOTEHOST    the remote name; likewise, and unset with -H
    TCPREMOTEINFO    what the remote ident server says, which may be nothing; unset if it does not answer
    TCP6LOCALIP...   with IPv6 the same again, with TCP6 for TCP; with -I also TCP6INTERFACE
    SSL_PROTOCOL, SSL_CIPHER, SSL_SERVER_S_DN...
                     with -s: what TLS is like, as sslserver(1) names it

    Read:

    DNSCACHEIP       the name servers to ask: IPv4 addresses, joined by dots, instead of those in /etc/resolv.conf;
                     without any, 127.0.0.1 is asked
    DNSREWRITEFILE, LOCALDOMAIN
                     see HOST NAMES
    QMAILPY_DNSPORT  the port that name servers are asked on, 53 unless set
    CAFILE, CADIR, CIPHERS, TLSUSER, QMAILHOME
                     with -s, as for sslclient(1)

EXIT STATUS
    That of the program.

    100    wrong usage
    111    no connection, no TLS with -s, or PROGRAM could not be run

SECURITY
    Host names and TCPREMOTEINFO are what name servers and the remote host say; they may be lies. Answers of name
    servers are matched by a random number and port only: let DNSCACHEIP be a cache that is near.

BUGS
    What was open as descriptor 6 or 7 is closed first, even if no connection is made.

SEE ALSO
    tcpserver(1), sslclient(1), tcpcat(1), mconnect(1), who@(1), date@(1), finger@(1), http@(1), rblsmtpd(1)
"""

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import options
from qmailpy.loops import client
from qmailpy.stores import resolver

PROGRAM = b"tcpclient"
USAGE = (
    b"tcpclient [ -hHrRdDqQv ] [ -i localip ] [ -p localport ] [ -T timeoutconn ] [ -l localname ] "
    b"[ -t timeoutinfo ] host port program"
)
LETTERS = b"dDvqQhHrRi:p:t:T:l:46I:sSNn:"

FLAGS: dict[bytes, tuple[str, object]] = {
    **client.FLAGS, b"s": ("tls", True), b"S": ("tls", False), b"N": ("verified", False),
}  # fmt: skip
WORDS = {**client.WORDS, b"n": "certificate"}


class Settings(client.Settings):
    """certificate: a file with our own, and its key; none if empty."""

    certificate = b""


def make_context(settings: Settings, env: Env):  # type: ignore[no-untyped-def]
    """In the process that does TLS. Raises tls.Refused."""
    from qmailpy.loops import tls
    from qmailpy.stores import certificates

    roots = tuple([env[name] for name in (b"CAFILE", b"CADIR") if env.get(name)])
    try:
        wanted = certificates.Wanted(settings.certificate, ciphers=certificates.client_ciphers(env), roots=roots)
        return certificates.client_context(wanted, settings.verified, settings.named)
    except certificates.Broken as e:
        raise tls.Refused(e.text)


def main(argv: list[bytes], env: Env) -> int | Exec:
    client.close_ours()
    settings = Settings(PROGRAM)
    try:
        parsed = options.parse(argv, LETTERS)
    except options.OptionError as e:
        strerr.say(b"%s: %s\n" % (PROGRAM, e.args[0]))
        return strerr.usage(PROGRAM, USAGE)

    def begin(sock, host: bytes) -> tuple[int, Env]:  # type: ignore[no-untyped-def]
        return client.secure(sock, host, settings, env, chain, lambda: make_context(settings, env))

    def run(host: bytes, service: bytes) -> Env:
        return client.client(settings, host, service, resolver.read(env), env, begin if settings.tls else None)

    def become(program: list[bytes], environment: Env) -> Exec:
        return Exec(program, environment, who=PROGRAM if settings.verbosity else b"")

    result: int | Exec = client.serve(settings, USAGE, parsed, become, run, flags=FLAGS, words_of=WORDS)
    return result
