"""NAME
    sslserver - accept incoming TLS connections

SYNOPSIS
    sslserver [-1346UXpPhHrRoOdDqQvViIzZmeEsSaAnN] [-c LIMIT] [-x RULES.CDB] [-y EARLY.CDB] [-B BANNER] [-g GID]
        [-u UID] [-b BACKLOG] [-l LOCALNAME] [-t TIMEOUT] [-T SSLTIMEOUT] [-w PROGTIMEOUT] HOST PORT PROGRAM [ARG...]

DESCRIPTION
    sslserver waits for connections to PORT of the address HOST. For each it does a handshake of TLS, 1.2 or 1.3, and
    then runs PROGRAM with the arguments ARG, with descriptors 0 and 1 connected to the peer: what PROGRAM reads has
    been decrypted, and what it writes is encrypted. A peer that fails at the handshake never starts PROGRAM.

        CERTFILE=/etc/mail/cert.pem sslserver -seRHl0 0 995 \\
            qmail-popup mail.example checkpassword qmail-pop3d Maildir

    HOST, PORT, what becomes of programs of this toolkit, rules, limits and the log are as for tcpserver(1).

OPTIONS
    -c, -x, -X, -u, -g, -U, -1, -b, -o, -O, -q, -Q, -v, -h, -H, -p, -P, -l, -r, -R, -t, -4 and -6 are those of
    tcpserver(1).

    -s             tell PROGRAM, in its environment, what TLS is like; -S, the default, does not
    -e             set the variables of tcpserver(1) too; -E, the default, does not. The mail programs need them
    -y EARLY.CDB   first of all, before anything is looked up in DNS or by ident, see what EARLY.CDB has for the
                   client's address. A deny ends the connection; an allow, even of the line with no address, takes the
                   place of -x. -X holds for both files
    -i, -z         ask for a certificate of the client: it must lead to one of CAFILE or CADIR, and, with -h, be for the
                   client's name in DNS, if it has one. -m: be for whatever name. -I or -Z, the default: ask for none.
                   See CERTIFICATES OF CLIENTS
    -n             delayed: PROGRAM starts on the connection as it is, and begins TLS when it wants, by UCSPI-TLS. -N,
                   the default: at once
    -B BANNER      write BANNER to the peer, after the handshake; with -n before it
    -T SSLTIMEOUT  give up on a handshake after SSLTIMEOUT seconds, 26 unless set
    -w PROGTIMEOUT end a connection on which nothing has come from either side for PROGTIMEOUT seconds, 3600 unless set
    -3             read the password of the key, up to a NUL, from descriptor 3
    -V             as -v
    -d, -D, -a, -A accepted, without effect: small packets are never delayed, and keys are read before privileges fall

CERTIFICATES
    CERTFILE names a file in PEM format with the key, its certificate, and those that lead to a root; or a folder with
    such a file NAME.pem for each name, or a folder NAME with fullchain.pem and privkey.pem; or a cdb(5) file whose name
    ends in .cdb, with the path of such a file for each name. Clients get that of the name they ask for (SNI),
    then that of *.DOMAIN, else default.pem, the folder default, or the path that the cdb has for default.

    Files that have changed are used from the next connection on. If they cannot be, sslserver says why, once, and
    goes on with what it had. A new key should come with its certificate in one file, by rename; in two files, the
    one of them alone is complained of until the other is there. After a day, keys for the resumption of sessions are
    made anew; a client then needs a whole handshake.

CERTIFICATES OF CLIENTS
    With -i, -z and -m all clients have to show one. A rule may say otherwise of some: where it sets CCAVERIFY, to
    anything, they have to, and where it sets CCAFILE to - they need not. CCAVERIFY wins.

        192.168.10.:allow,CCAFILE="-"
        203.0.113.7:allow,UCSPITLS="!",CCAVERIFY="",RELAYCLIENT=""

    With -n nobody is asked who does without TLS; UCSPITLS="!" has our programs refuse them.

    A client that shows none, or one that has expired, has been revoked, or leads to no root in VERIFYDEPTH steps, gets
    an alert, the log says why, and PROGRAM does not start. With -s, PROGRAM finds the verified subject in
    SSL_CLIENT_S_DN. Nobody is asked for a certificate that may be missing.

ENVIRONMENT
    Read:

    CERTFILE        as above; ./cert.pem unless set
    KEYFILE         the key, if CERTFILE is a file without it
    CERTCHAINFILE   instead of CERTFILE, which is ignored then
    CERTFILEEC, KEYFILEEC
                    another certificate, with a key of another kind, for clients that cannot use the first
    CAFILE, CADIR   roots for certificates of clients: a file, and a folder, of which all files are read at start,
                    and when one has changed; with -i, -z, -m, -x, -y or CCAVERIFY, else nobody can be asked for any
    CCAFILE         the same if neither is set; -: no client has to show a certificate
    CCAVERIFY       if set, every client has to; either may also come from a rule
    CRLDIR          a folder of lists of revoked certificates
    VERIFYDEPTH     how many certificates may lie between a client's and its root, 1 unless set
    CIPHERS         ciphers for TLS 1.2, as in ciphers(1); else those of control/tlsserverciphers, else the library's
    DHFILE          parameters for ciphers that need some
    TLSUSER         the account that processes doing TLS run as, if sslserver is started as root: a name or number,
                    nobody unless set. It should be no other program's
    SSL_UID, SSL_USER, SSL_GID, SSL_GROUP
                    the same: a number; else a name or number, before TLSUSER; and another group than the account's
    SSL_CHROOT      the root of such processes, a folder, instead of an empty one that nobody can reach. Only for root.
                    None of these is taken from a rule
    QMAILPY_TLSAGAIN
                    how many connections of one client a process doing TLS may serve, one after the other, 100 unless
                    set: see SECURITY
    QMAILHOME       where control is, /var/qmail unless set
    UID, GID, MAXCONNIP, MAXCONIP, MAXCONNC, MAXLOAD, DIEMSG, DNSCACHEIP, QMAILPY_COLD
                    as for tcpserver(1)

    Set for PROGRAM:

    PROTO           SSL
    SSLLOCALIP, SSLLOCALPORT, SSLLOCALHOST, SSLREMOTEIP, SSLREMOTEPORT, SSLREMOTEHOST, SSLREMOTEINFO
                    what tcpserver(1) calls TCPLOCALIP and so on; those names are set too with -e

    and with -s, or in the answer of UCSPI-TLS:

    SSL_PROTOCOL    TLSv1.2 or TLSv1.3
    SSL_CIPHER, SSL_CIPHER_USEKEYSIZE, SSL_CIPHER_ALGKEYSIZE, SSL_CIPHER_EXPORT
                    the cipher, and bits of its key
    SSL_SESSION_ID  of the session, in hexadecimal, with small letters
    SSL_TLS_SNI     the name that the client has asked for
    SSL_CLIENT_S_DN, SSL_CLIENT_I_DN, SSL_CLIENT_S_DN_CN...
                    subject and issuer of the client's verified certificate, and their parts: C, ST, L, O, OU, CN, T, I,
                    G, S, D, UID, DC, Email. Bytes that are no printable ASCII stand as \\xHH, and so does a slash in
                    a part of S_DN or I_DN
    SSL_CLIENT_SAN_DNS_0, SSL_CLIENT_SAN_Email_0...
                    its other names (subjectAltName), a hundred of a kind
    SSL_CLIENT_M_VERSION, SSL_CLIENT_M_SERIAL, SSL_CLIENT_V_START, SSL_CLIENT_V_END, SSL_CLIENT_A_SIG,
    SSL_CLIENT_A_KEY, SSL_CLIENT_CERT, SSL_CLIENT_CERT_CHAIN_0...
                    what else it says; the serial is a decimal number
    SSL_CLIENT_VERIFY
                    SUCCESS; NONE where none was asked for, and the variables above are not there
    SSL_SERVER_S_DN...
                    the same of this side's certificate
    SSL_VERSION_INTERFACE, SSL_VERSION_LIBRARY
                    ucspi-ssl, and the version of the library

    With -n:

    SSLCTLFD, SSLREADFD, SSLWRITEFD
                    descriptors for UCSPI-TLS: PROGRAM writes y, or Y, on the first and goes on with the others
    UCSPITLS        empty, unless it was set before or by a rule: whether PROGRAM is to offer TLS

EXIT STATUS
    0      ended by SIGTERM
    100    wrong usage
    111    unable to start

LOG
    That of tcpserver(1), and with -v

        sslserver: ssl 5994 accept TLSv1.3 TLS_AES_256_GCM_SHA384

    A handshake that fails is an error: the peer's address, and why. So is an end by TLS later, as by the alert of a
    client that does not trust our certificate:

        dropping connection, unable to SSL accept: IP: bad certificate
        dropping connection, unable to speak SSL: IP: tlsv1 alert unknown ca

SECURITY
    Three kinds of processes share the work. sslserver itself accepts, and never has the key. The keeper, forked before
    privileges fall, reads keys and certificates. It forks a process for each connection, which does TLS and
    nothing else: before it reads a byte of the peer it has, if started as root, become TLSUSER in an empty folder that
    is its root, and in any case given up opening files and sockets, executing, forking and signalling (seccomp(2)).
    PROGRAM has the key nowhere in its memory, nor has any process behind it.

    On machines other than x86_64 and aarch64 there is no list of allowed system calls: limits keep the process from
    opening and forking, and nothing keeps it from executing and signalling.

    When a connection has had a good end, its process waits ten seconds for another one from the same address, which
    costs a third of what a new process does. It never serves two addresses. But whoever takes such a process over, by
    an error of the library, has the connections that follow from the address that he came from, as of others behind
    the same router; with QMAILPY_TLSAGAIN=1 each connection has a process of its own, and so has in any case one
    for which a certificate has been shown.

    A client may send a thousand records without data, and then as many as those with some: each may demand new keys.

    Whoever can read a file of CERTFILE has the key. It may belong to root and be closed to all others.

BUGS
    The certificate of a client is verified for each connection; sessions with one are not resumed. No names of CAs are
    sent to clients. If the keeper is killed, sslserver ends.

SEE ALSO
    tcpserver(1), sslclient(1), mkcert(8), tcprules(1), qmail-popup(8), qmail-smtpd(8)
"""

import os

from qmailpy import chain, strerr
from qmailpy.chain import Env
from qmailpy.formats import options, sslenviron
from qmailpy.loops import server
from qmailpy.loops.keeper import Keeper
from qmailpy.loops.server import AT_ONCE, DELAYED, NAMED, NEEDED, Fatal, Settings
from qmailpy.stores import cdb
from qmailpy.unix import fds

PROGRAM = b"sslserver"
USAGE = (
    b"sslserver [ -13UXpPhHrRoOdDqQviIeEsS ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ] [ -u uid ] "
    b"[ -b backlog ] [ -l localname ] [ -t timeout ] [ -T ssltimeout ] [ -w progtimeout ] host port program"
)
LETTERS = b"dDvqQhHrR1UXx:y:t:T:u:g:l:b:B:c:pPoO346IiEeSsaAw:nNzZmV"

FLAGS = {
    **server.FLAGS,
    b"V": ("verbosity", 2),
    b"i": ("client", NAMED), b"z": ("client", NAMED), b"m": ("client", NEEDED),
    b"I": ("client", 0), b"Z": ("client", 0),
    b"s": ("described", 1), b"S": ("described", 0),
    b"e": ("tcp_names", 1), b"E": ("tcp_names", 0),
    b"a": ("loaded_first", 1), b"A": ("loaded_first", 0),
    b"n": ("tls", DELAYED), b"N": ("tls", AT_ONCE),
    b"3": ("password", 1),
}  # fmt: skip
NUMBERS = {**server.NUMBERS, b"T": "handshake_s", b"w": "idle_s"}
WORDS = {**server.WORDS, b"y": "early_rules"}

CERTIFICATE = b"./cert.pem"  # unless CERTFILE says another
PASSWORD_FD = 3
PASSWORD_LIMIT = 1024  # bytes


class OurSettings(Settings):
    """What sslserver has besides."""

    def __init__(self) -> None:
        super().__init__(PROGRAM)
        self.nodelay = 1
        self.tls = AT_ONCE
        self.described = self.tcp_names = self.loaded_first = self.password = 0


def find_resolver():  # type: ignore[no-untyped-def]
    from qmailpy.stores import resolver

    return resolver


def read_password() -> bytes:
    """Raises Fatal."""
    try:
        text = fds.read_all(PASSWORD_FD, PASSWORD_LIMIT)
        os.close(PASSWORD_FD)
    except OSError as e:
        raise Fatal(b"unable to read password", e)
    return text.partition(b"\0")[0]


def wanted(settings: OurSettings, env: Env):  # type: ignore[no-untyped-def]
    """What certificates are loaded, and how. Raises certificates.Broken, Fatal."""
    from qmailpy.stores import certificates

    roots = certificates.client_roots(env)
    if settings.client and env.get(b"CCAFILE") != b"-" and not roots:
        raise Fatal(b"unable to load CA list: neither CAFILE nor CADIR is set")
    second = env.get(b"CERTFILEEC", b"")
    return certificates.Wanted(
        env.get(b"CERTCHAINFILE") or env.get(b"CERTFILE") or CERTIFICATE,
        key=env.get(b"KEYFILE", b""),
        more=(second, env.get(b"KEYFILEEC") or second) if second else None,
        ciphers=certificates.server_ciphers(env),
        roots=roots if settings.verifies(env) else (),
        password=read_password() if settings.password else b"",
        parameters=env.get(b"DHFILE", b""),
    )


def keep(settings: Settings, env: Env) -> Keeper:
    """Raises Fatal."""
    assert isinstance(settings, OurSettings)
    ours = settings

    def load(complain):  # type: ignore[no-untyped-def]
        from qmailpy.stores import certificates

        try:
            return certificates.Certificates(wanted(ours, env), complain)
        except certificates.Broken as e:
            raise Fatal(e.text)

    if settings.password:
        try:
            os.fstat(PASSWORD_FD)
        except OSError as e:
            raise Fatal(b"unable to read password", e)
    keeper = server.keep(settings, env, chain, load, b"unable to SSL accept")
    if settings.password:  # the keeper has read it
        os.close(PASSWORD_FD)
    if settings.verbosity >= server.EVERYTHING:
        log_configuration(settings, env)
    return keeper


def log_configuration(settings: Settings, env: Env) -> None:
    for what, variable, end in (
        (b"cafile", b"CAFILE", b""),
        (b"ccafile", b"CCAFILE", b""),
        (b"cadir", b"CADIR", b""),
        (b"cert", b"CERTFILE", b""),
        (b"key", b"KEYFILE", b""),
        (b"param", b"DHFILE", b" 0"),
    ):
        settings.say(b"%s %d %s%s" % (what, os.getpid(), env.get(variable, b""), end))


def main(argv: list[bytes], env: Env) -> int:
    settings = OurSettings()
    try:
        parsed = options.parse(argv, LETTERS)
    except options.OptionError as e:
        strerr.say(PROGRAM + b": " + e.args[0] + b"\n")
        return strerr.usage(PROGRAM, USAGE)

    def name(described: Env) -> Env:
        return sslenviron.ucspi(described, bool(settings.tcp_names))

    outside = server.Outside(chain, cdb.find, find_resolver, keep, name)
    return server.serve(settings, USAGE, parsed, env, outside, FLAGS, NUMBERS, WORDS)
