"""NAME
    rblsmtpd - refuse mail from clients that are on a DNS blocklist

SYNOPSIS
    rblsmtpd [-bBcC] [-t TIMEOUT] [-r BASE]... [-a BASE]... PROGRAM [ARG...]

DESCRIPTION
    rblsmtpd stands between tcpserver(1) and an SMTP server. It asks the lists that its options name about the
    client, whose address is in TCPREMOTEIP. If no list speaks against the client, rblsmtpd becomes PROGRAM with
    the arguments ARG.

        tcpserver -R -x tcp.smtp.cdb 0 smtp \\
            rblsmtpd -r zen.example qmail-smtpd

    Otherwise it refuses the mail itself: it greets the client and accepts HELO, EHLO, MAIL, RSET, NOOP and QUIT,
    and answers everything else with the reason. It prints one line on descriptor 2,

        rblsmtpd: 192.0.2.7 pid 5994: 451 see https://zen.example/192.0.2.7

    and ends when the client has said QUIT or is gone, or after 60 seconds.

    451 makes the client try again later: an innocent one has time to get off the list. 553 makes it return the
    mail to its sender at once.

OPTIONS
    -r BASE        a blocklist. The client 192.0.2.7 is on it if 7.2.0.192.BASE has a TXT record, whose text is the
                   reason. An IPv6 client is looked up by the 32 hexadecimal digits of its address, in reverse
                   order, with dots between them
    -a BASE        a list of exceptions. A client is on it if that name has an A record; its mail is accepted,
                   and no list behind this one is asked
    -b             refuse clients on a blocklist with 553; -B, the default, with 451
    -c             fail closed: if a blocklist cannot be asked now, refuse the mail with 451; if a list of
                   exceptions cannot, go on without it
    -C             fail open, the default: if a blocklist cannot be asked now, go on without it; if a list of
                   exceptions cannot, accept the mail
    -t TIMEOUT     end the conversation after TIMEOUT seconds, 60 unless set. 0 means to say nothing but the
                   reason, and to end

    The lists are asked in the order in which they are given, until one decides. -b, -B, -c and -C hold for the
    lists behind them. If any list could not be asked, mail is refused with 451, never with 553.

ENVIRONMENT
    TCPREMOTEIP      the client's address
    RBLSMTPD         if it is set, no list is asked: empty, the mail is accepted; otherwise it is the reason to
                     refuse the mail, with 553 if it begins with a hyphen, which is removed, else with 451.
                     tcprules(1) can set it for single clients
    DNSCACHEIP, QMAILPY_DNSPORT
                     the name servers to ask: see tcpclient(1)

EXIT STATUS
    That of PROGRAM.

    0      the mail was refused
    100    wrong usage
    111    PROGRAM could not be run

SECURITY
    What a list says is shown to the client and in the log: at most 200 bytes, those that are not printable ASCII
    as question marks. Without -c, a client who can keep the look-up from working gets through.

BUGS
    The usage line, kept as it always was, shows an option -R that does not exist.

SEE ALSO
    tcpserver(1), tcprules(1), tcpclient(1), fixcrio(1), recordio(1)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import addresses, dns, options
from qmailpy.formats.numbers import scan
from qmailpy.formats.resolvconf import Resolver
from qmailpy.loops import resolve
from qmailpy.loops.connect import Deadline
from qmailpy.protocols.refusal import GREETING, Refusal
from qmailpy.stores import resolver
from qmailpy.unix import fds
from qmailpy.unix.timed import Peer

PROGRAM = b"rblsmtpd"
USAGE = b"rblsmtpd [ -b ] [ -R ] [ -t timeout ] [ -r base ] [ -a base ] smtpd [ arg ... ]"
LETTERS = b"bBcCt:r:a:"

TIMEOUT_S = 60
LONGEST_TEXT = 200  # bytes
BLOCK = 4096  # bytes

UNREACHABLE_LIST = b"temporary RBL lookup error"

# Verdicts
LATER, NEVER = b"451 ", b"553 "
ACCEPTED = b""

LISTED = {b"b": NEVER, b"B": LATER}
CLOSED = {b"c": True, b"C": False}


class Judge:
    """Asks one list after the other. verdict is None until one has decided; text is the reason to refuse."""

    def __init__(self, env: Env) -> None:
        self.verdict: bytes | None = None
        self.text = b""
        self._told(env.get(b"RBLSMTPD"))
        self._client = reversed_ip(env.get(b"TCPREMOTEIP", b""))
        self._listed = LATER
        self._closed = False
        self._doubtful = False  # a list could not be asked: it might have been the one with the exception

    def _told(self, text: bytes | None) -> None:
        if text is None:
            return
        self.verdict = NEVER if text.startswith(b"-") else LATER if text else ACCEPTED
        self.text = text.removeprefix(b"-")

    def hear(self, letters: list[tuple[bytes, bytes]], names: Resolver) -> None:
        """Follow the options in order, as far as it takes."""
        for letter, word in letters:
            if self.verdict is not None:
                return
            if letter in LISTED:
                self._listed = LISTED[letter]
            elif letter in CLOSED:
                self._closed = CLOSED[letter]
            elif letter == b"r":
                self._ask_blocklist(word, names)
            elif letter == b"a":
                self._ask_exceptions(word, names)

    def _ask_blocklist(self, base: bytes, names: Resolver) -> None:
        try:
            self.text = resolve.texts(names, self._client + b"." + base)
        except resolve.Unresolved:
            self._doubtful = True
            if self._closed:
                self.verdict, self.text = LATER, UNREACHABLE_LIST
            return
        if self.text:
            self.verdict = LATER if self._doubtful else self._listed

    def _ask_exceptions(self, base: bytes, names: Resolver) -> None:
        try:
            if resolve.addresses4(names, self._client + b"." + base):
                self.verdict = ACCEPTED
        except resolve.Unresolved:
            self._doubtful = True
            if not self._closed:
                self.verdict = ACCEPTED


def reversed_ip(text: bytes) -> bytes:
    """The client's address as lists name it. What is no IPv6 address is turned around between its dots."""
    ip = addresses.parse_ipv6(text)
    if ip is None:
        return b".".join(reversed(text.split(b".")))
    return dns.reversed_labels(addresses.unmap(ip))


def refuse(reason: bytes, timeout_s: int) -> None:
    """Have the conversation, or say the reason only if there is no time."""
    try:
        if timeout_s == 0:
            fds.write_all(1, reason + b"\r\n")
            return
        converse(Refusal(reason), Deadline(timeout_s))
    except OSError:  # the client is gone, or its time is over
        pass


def converse(refusal: Refusal, deadline: Deadline) -> None:
    with Peer(0) as client:  # the deadline is set anew before each wait
        replies = [GREETING]
        while True:
            for reply in replies:
                client.timeout_ms = deadline.left_ms()
                client.write(reply)
            if refusal.over:
                return
            client.timeout_ms = deadline.left_ms()
            block = client.read(BLOCK)
            if not block:
                return
            replies = refusal.feed(block)


def main(argv: list[bytes], env: Env) -> int | Exec:
    try:
        letters, program = options.parse(argv, LETTERS)
    except options.OptionError as e:
        strerr.say(b"%s: %s\n" % (PROGRAM, e.args[0]))
        return strerr.usage(PROGRAM, USAGE)
    if not program:
        return strerr.usage(PROGRAM, USAGE)
    judge = Judge(env)
    if judge.verdict is None:
        judge.hear(letters, resolver.read(env))
    if not judge.verdict:
        return Exec(program, env, who=PROGRAM)
    text = judge.verdict + judge.text[:LONGEST_TEXT]
    reason = bytes(byte if 32 <= byte <= 126 else ord("?") for byte in text)
    strerr.say(b"%s: %s pid %d: %s\n" % (PROGRAM, env.get(b"TCPREMOTEIP", b""), os.getpid(), reason))
    timeouts_s = [scan(word)[0] for letter, word in letters if letter == b"t"]
    refuse(reason, timeouts_s[-1] if timeouts_s else TIMEOUT_S)
    return 0
