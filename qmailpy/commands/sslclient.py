"""NAME
    sslclient - make an outgoing TLS connection

SYNOPSIS
    sslclient [-346hHrRdDqQveEsSnNxXmM] [-i LOCALIP] [-p LOCALPORT] [-T X+Y] [-l LOCALNAME] [-t TIMEOUT] [-I INTERFACE]
        [-a CAFILE] [-A CADIR] [-c CERTFILE] [-k KEYFILE] [-K PASSWORDFILE] [-C CIPHERS] [-z CIPHERS] [-V VERIFYDEPTH]
        [-w PROGTIMEOUT] HOST PORT PROGRAM [ARG...]

DESCRIPTION
    sslclient connects to PORT of HOST, does a handshake of TLS, 1.2 or 1.3, and becomes PROGRAM with the arguments ARG.
    Descriptor 6 reads what has been decrypted, descriptor 7 writes what is to be encrypted; 0, 1 and 2 stay what they
    are.

        sslclient -RHl0 -V 3 mail.example pop3s mconnect-io

    The server has to prove by its certificate that it is HOST: for as long as it does not, PROGRAM is not run. It is
    also told that HOST is wanted (SNI). How HOST is looked up and connected to is in tcpclient(1).

OPTIONS
    -4, -6, -h, -H, -r, -R, -d, -D, -q, -Q, -v, -i, -p, -l, -t and -I are those of tcpclient(1).

    -T X+Y         as for tcpclient(1); a handshake gets X+Y seconds
    -a CAFILE      a file with the roots that may vouch for the server; else CAFILE of the environment
    -A CADIR       a folder with such files; else CADIR. Without any, those that the system trusts
    -c CERTFILE    a certificate to show to the server; else CERTFILE
    -k KEYFILE     its key; else KEYFILE, else it is in CERTFILE
    -3             read the password of the key, up to a NUL, from descriptor 3
    -K PASSWORDFILE
                   read it from this file instead
    -C CIPHERS, -z CIPHERS
                   ciphers for TLS 1.2, as in ciphers(1); else CIPHERS, else those of control/tlsclientciphers, else the
                   library's
    -V VERIFYDEPTH how many certificates may lie between the server's and its root; else VERIFYDEPTH, else 1
    -x             verify the server's certificate, the default; -X does not, and then not its name either
    -n             verify that it is for HOST, the default; -N does not
    -s             tell PROGRAM, in its environment, what TLS is like; -S, the default, does not
    -e             set the variables of tcpclient(1) too; -E, the default, does not
    -w PROGTIMEOUT end a connection on which nothing has come from either side for PROGTIMEOUT seconds, 3600 unless set
    -m, -M         accepted, without effect: the server is always told which name is wanted

ENVIRONMENT
    Set for PROGRAM:

    PROTO           SSL
    SSLLOCALIP, SSLLOCALPORT, SSLLOCALHOST, SSLREMOTEIP, SSLREMOTEPORT, SSLREMOTEHOST, SSLREMOTEINFO
                    what tcpclient(1) calls TCPLOCALIP and so on; those names are set too with -e
    SSL_PROTOCOL, SSL_CIPHER, SSL_SERVER_S_DN...
                    with -s, as by sslserver(1)

    Read:

    CAFILE, CADIR, CERTFILE, KEYFILE, CIPHERS, VERIFYDEPTH
                    as above
    TLSUSER         the account that the process doing TLS runs as, if sslclient is started as root: a name or number,
                    nobody unless set
    QMAILHOME       where control is, /var/qmail unless set
    DNSCACHEIP, DNSREWRITEFILE, LOCALDOMAIN
                    as for tcpclient(1)

EXIT STATUS
    That of the program.

    100    wrong usage
    111    no connection, no TLS, or PROGRAM could not be run

    In TLS 1.3 a server may refuse our certificate, or miss it, when the handshake is over for us: PROGRAM runs then,
    and reads the end of the connection. Descriptor 2 gets `warning: unable to speak SSL: ` and why.

SECURITY
    A child of PROGRAM does TLS. It gives up opening files and sockets, executing and forking before it reads a byte of
    the server's; without -q it keeps descriptor 2. PROGRAM never has a key in its memory.

BUGS
    What was open as descriptor 6 or 7 is closed first, even if no connection is made. PROGRAM has a child that it does
    not know of.

SEE ALSO
    sslcat(1), sslconnect(1), https@(1), tcpclient(1), sslserver(1), mconnect-io(1)
"""

import os

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import options, sslenviron
from qmailpy.formats.numbers import scan
from qmailpy.loops import client
from qmailpy.stores import resolver
from qmailpy.unix import fds

PROGRAM = b"sslclient"
USAGE = (
    b"sslclient [ -3hHrRdDqQveEsSnNxX ] [ -i localip ] [ -p localport ] [ -T timeoutconn ] [ -l localname ] "
    b"[ -t timeoutinfo ] [ -a cafile ] [ -A cadir ] [ -c certfile ] [ -C ciphers ] [ -k keyfile ] "
    b"[ -V verifydepth ] [ -w progtimeout ] host port program"
)
LETTERS = b"dDvqQhHrRi:p:t:T:l:a:A:c:C:k:K:V:3eEsSnNxXw:46I:mMz:"

FLAGS: dict[bytes, tuple[str, object]] = {
    **client.FLAGS,
    b"e": ("tcp_names", True), b"E": ("tcp_names", False),
    b"s": ("described", True), b"S": ("described", False),
    b"n": ("named", True), b"N": ("named", False),
    b"x": ("verified", True), b"X": ("verified", False),
    b"m": ("asks_for_name", True), b"M": ("asks_for_name", True),
    b"3": ("password", True),
}  # fmt: skip
NUMBERS = {**client.NUMBERS, b"w": "idle_s", b"V": "depth"}
WORDS = {
    **client.WORDS,
    b"a": "ca_file",
    b"A": "ca_folder",
    b"c": "certificate",
    b"k": "key",
    b"K": "password_file",
    b"C": "ciphers",
    b"z": "ciphers",
}

DEPTH = 1  # unless -V or VERIFYDEPTH says another
PASSWORD_FD = 3
PASSWORD_LIMIT = 1024  # bytes


class Settings(client.Settings):
    """What sslclient has besides; the environment says what options do not."""

    def __init__(self, env: Env) -> None:
        super().__init__(PROGRAM)
        self.tls = True
        self.described = self.tcp_names = self.password = False
        self.asks_for_name = True
        self.password_file = b""
        self.ca_file = env.get(b"CAFILE", b"")
        self.ca_folder = env.get(b"CADIR", b"")
        self.certificate = env.get(b"CERTFILE", b"")
        self.key = env.get(b"KEYFILE", b"")
        self.ciphers = b""
        self.depth = scan(env[b"VERIFYDEPTH"])[0] if b"VERIFYDEPTH" in env else DEPTH


def read_password(settings: Settings) -> bytes:
    """That of the key, up to a NUL; the file of -K comes before descriptor 3. Raises OSError."""
    if not settings.password_file and not settings.password:
        return b""
    fd = os.open(settings.password_file, os.O_RDONLY | os.O_CLOEXEC) if settings.password_file else PASSWORD_FD
    return fds.read_all(fd, PASSWORD_LIMIT).partition(b"\0")[0]


def make_context(settings: Settings, env: Env):  # type: ignore[no-untyped-def]
    """In the process that does TLS. Raises tls.Refused."""
    from qmailpy.loops import tls
    from qmailpy.stores import certificates

    try:
        wanted = certificates.Wanted(
            settings.certificate,
            key=settings.key,
            ciphers=settings.ciphers or certificates.client_ciphers(env),
            roots=tuple([path for path in (settings.ca_file, settings.ca_folder) if path]),
            password=read_password(settings),
        )
        return certificates.client_context(wanted, settings.verified, settings.named)
    except certificates.Broken as e:
        raise tls.Refused(e.text)
    except OSError as e:
        place = b" from " + settings.password_file if settings.password_file else b""
        raise tls.Refused(b"unable to read password%s: %s" % (place, strerr.reason(e)))


def main(argv: list[bytes], env: Env) -> int | Exec:
    client.close_ours()
    settings = Settings(env)
    try:
        parsed = options.parse(argv, LETTERS)
    except options.OptionError as e:
        strerr.say(b"%s: %s\n" % (PROGRAM, e.args[0]))
        return strerr.usage(PROGRAM, USAGE)

    def begin(sock, host: bytes) -> tuple[int, Env]:  # type: ignore[no-untyped-def]
        begun = client.secure(sock, host, settings, env, chain, lambda: make_context(settings, env))
        if settings.password:  # the child has read it
            os.close(PASSWORD_FD)
        return begun

    def name(described: Env) -> Env:
        return sslenviron.ucspi(described, settings.tcp_names)

    def run(host: bytes, service: bytes) -> Env:
        return client.client(settings, host, service, resolver.read(env), env, begin, name)

    def become(program: list[bytes], environment: Env) -> Exec:
        return Exec(program, environment, who=PROGRAM if settings.verbosity else b"")

    result: int | Exec = client.serve(settings, USAGE, parsed, become, run, FLAGS, NUMBERS, WORDS)
    return result
