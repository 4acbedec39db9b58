"""NAME
    tcpserver - accept incoming TCP connections

SYNOPSIS
    tcpserver [-146UXpPhHrRoOdDqQvsS] [-c LIMIT] [-x RULES.CDB] [-B BANNER] [-g GID] [-u UID] [-b BACKLOG]
        [-l LOCALNAME] [-t TIMEOUT] [-I INTERFACE] [-n CERT] HOST PORT PROGRAM [ARG...]

DESCRIPTION
    tcpserver waits for connections to PORT of the address HOST and runs PROGRAM with the arguments ARG for each
    of them, with descriptors 0 and 1 connected to the peer and with the variables of tcp-environ in its
    environment: PROTO, TCPLOCALIP, TCPLOCALPORT, TCPLOCALHOST, TCPREMOTEIP, TCPREMOTEPORT, TCPREMOTEHOST and
    TCPREMOTEINFO; see ENVIRONMENT.

        tcpserver -RHD -c 100 0 pop3 qmail-popup mail.example \\
            checkpassword qmail-pop3d Maildir

    HOST is a name, an IPv4 or IPv6 address, or 0 for every IPv4 address of the machine. :: and :0 stand for every
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
    -B BANNER      write BANNER, as it is, to the peer at once, before the look-ups and rules; with -s after the
                   handshake
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

    -s             TLS: do a handshake with each peer before PROGRAM starts; -S, the default, does not
    -n CERT        the certificate and its key: a file, ./cert.pem unless set, a folder, or a cdb, as CERTFILE for
                   sslserver(1). Without -s: let PROGRAM begin TLS when it wants, by UCSPI-TLS

    -H, -R and -l0 spare every connection its look-ups.

TLS
    With -s PROGRAM reads what has been decrypted, and what it writes is encrypted: TLS 1.2 or 1.3. A peer that fails
    at the handshake never starts PROGRAM. With -n alone PROGRAM starts on the connection as it is, and begins TLS when
    the client asks for STLS or STARTTLS.

        tcpserver -RHl0 -s -n /etc/mail/cert.pem 0 995 \\
            qmail-popup mail.example checkpassword qmail-pop3d Maildir
        tcpserver -RHl0 -n /etc/mail/cert.pem 0 110 \\
            qmail-popup mail.example checkpassword qmail-pop3d Maildir

    Changed certificates, resumption, processes and what they may do, and the account TLSUSER are those of
    sslserver(1). TLS variables are never taken from a rule.

RULES
    A rule may set any variable for the program. Some that tcpserver itself follows, set by a rule or in its
    environment, limit what one peer may take:

    MAXCONNIP      at most so many connections from the peer's address at a time
    MAXCONIP       the same, but 0 is no limit
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

    SSL_PROTOCOL, SSL_CIPHER...
                     under TLS: what it is like, as sslserver(1) -s says it
    SSLCTLFD, SSLREADFD, SSLWRITEFD, UCSPITLS
                     with -n alone: for UCSPI-TLS, as sslserver(1) -n sets them

    UID, GID         for -U
    CIPHERS, CAFILE, CADIR, CRLDIR, VERIFYDEPTH, TLSUSER, SSL_UID,
    SSL_USER, SSL_GID, SSL_GROUP, SSL_CHROOT, QMAILPY_TLSAGAIN, QMAILHOME
                     for -s and -n, as sslserver(1) reads them
    CCAVERIFY        the same, or from a rule: clients have to show a certificate
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

    and, after the handshake of -s, `ssl 5994 accept TLSv1.3 TLS_AES_256_GCM_SHA384`. A handshake that fails is an
    error.

    deny stands for ok when the rules, or one of the limits above, turn the peer away. The status at the end is
    that of wait(2): 256 times the exit code, or the number of a signal. A process that serves again appears again.

SECURITY
    -u alone leaves the groups as they are: with it, always say -g.

    The key of CERT is read by a process of its own before privileges fall; neither tcpserver nor PROGRAM ever has it.

    Whatever comes from the peer's name server and ident server is the peer's word. The rules file is read with
    the privileges that -u and -g leave.

BUGS
    ps shows tcpserver for the programs of this toolkit that it runs. After an upgrade of the toolkit a running
    tcpserver executes the new programs, at the cost of an interpreter's start each, until it is restarted.

SEE ALSO
    sslserver(1), mkcert(8), tcprules(1), tcprulescheck(1), tcpclient(1), argv0(1), fixcrio(1), recordio(1), rblsmtpd(1)
"""

from qmailpy import chain, strerr
from qmailpy.chain import Env
from qmailpy.formats import options
from qmailpy.loops import server
from qmailpy.loops.keeper import Keeper
from qmailpy.loops.server import AT_ONCE, NEVER, Fatal, Settings
from qmailpy.stores import cdb

PROGRAM = b"tcpserver"
USAGE = (
    b"tcpserver [ -1UXpPhHrRoOdDqQv ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ] [ -u uid ] "
    b"[ -b backlog ] [ -l localname ] [ -t timeout ] host port program"
)
LETTERS = b"dDvqQhHrR1UXx:t:u:g:l:b:B:c:pPoO46I:sSn:"

FLAGS = {**server.FLAGS, b"s": ("tls", AT_ONCE), b"S": ("tls", NEVER)}
WORDS = {**server.WORDS, b"I": "interface", b"n": "certificate"}

CERTIFICATE = b"./cert.pem"  # unless -n says another


def find_resolver():  # type: ignore[no-untyped-def]
    from qmailpy.stores import resolver

    return resolver


def keep(settings: Settings, env: Env) -> Keeper:
    """Raises Fatal."""

    def load(complain):  # type: ignore[no-untyped-def]
        from qmailpy.stores import certificates

        try:
            wanted = certificates.Wanted(
                settings.certificate or CERTIFICATE,
                ciphers=certificates.server_ciphers(env),
                roots=certificates.client_roots(env) if settings.verifies(env) else (),
            )
            return certificates.Certificates(wanted, complain)
        except certificates.Broken as e:
            raise Fatal(e.text)

    return server.keep(settings, env, chain, load, b"unable to accept SSL connection")


def main(argv: list[bytes], env: Env) -> int:
    settings = Settings(PROGRAM)
    try:
        parsed = options.parse(argv, LETTERS)
    except options.OptionError as e:
        strerr.say(PROGRAM + b": " + e.args[0] + b"\n")
        return strerr.usage(PROGRAM, USAGE)
    outside = server.Outside(chain, cdb.find, find_resolver, keep)
    return server.serve(settings, USAGE, parsed, env, outside, flags=FLAGS, words_of=WORDS)
