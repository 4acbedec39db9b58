"""NAME
    tcprules - compile access rules for tcpserver

SYNOPSIS
    tcprules CDB TMP

DESCRIPTION
    tcprules reads rules on descriptor 0 and writes them, in a form for quick look-ups, to the file CDB:

        tcprules tcp.smtp.cdb tcp.smtp.tmp < tcp.smtp

    It writes the file TMP first and then moves it to CDB, so both must be in the same file system. A tcpserver that
    runs meanwhile goes by the old rules or by the new ones, all of them, from the next connection on. After any
    trouble the old rules stay in force.

RULES
    A rule is one line, an address, a colon and instructions, without blanks between:

        127.0.0.1:allow,RELAYCLIENT=""
        192.168.10.:allow,RELAYCLIENT=""
        10.0.1-15.:deny
        2001:db8:25::/48:allow,RELAYCLIENT=""
        =.dialup.example:deny
        :allow

    Here peers at 127.0.0.1 and in two networks may relay, fifteen networks and all hosts under dialup.example are
    turned away, and everybody else may connect.

    Empty lines, lines that begin with # and lines without a colon mean nothing. Blanks at the end of a line are cut;
    those at its beginning belong to the address. Where two rules have the same address, the first holds.

ADDRESSES
    tcpserver goes by the first of these addresses that has a rule, and by no other rule:

    INFO@IP         the user name that the peer's ident server gave, and its address
    INFO@=HOST      that name, and the peer's host name
    IP              the peer's address
    =HOST           the peer's host name
    1.2.3.          beginnings of an IPv4 address that end in a dot, the longest first: 1.2.3., 1.2., 1.
    IP/LENGTH       prefixes of the peer's address, the longest first
    =.b.c           endings of the host name that begin with a dot, the longest first: for a.b.c, =.b.c and =.c
    =               any host name
    nothing         everybody; a rule that begins with its colon

    IP is TCPREMOTEIP, HOST is TCPREMOTEHOST and INFO is TCPREMOTEINFO; those with HOST or INFO are left out when it is
    not known. Upper and lower case differ in names. Who is matched by no rule may connect.

    In an IPv4 address, or in the beginning of one, one number may be a range: 1.2.3.37-53 stands for 17 addresses,
    10.0-3. for 10.0., 10.1., 10.2. and 10.3. A missing end is 0, an upper end above 255 is 255, and a range whose lower
    end is the greater one stands for nothing.

    An IPv6 address is written in any form, with or without brackets: 2001:db8::25, [2001:DB8::25]. One that holds an
    IPv4 address, ::ffff:192.0.2.1, stands for that, since tcpserver shows such peers as IPv4 ones.

    A prefix is an address, a slash and the number of bits that count: 10.0.0.0/8, 2001:db8::/32, [2001:db8::]/32,
    ::/0 for all IPv6 peers. In IPv4 the numbers at the end may be left out: 172.16/12.

    Other addresses are taken as they stand. So 1.2.3, without a dot at its end, is matched by nobody.

INSTRUCTIONS
    allow    let the peer connect
    deny     close its connection at once

    Then any number of variables for the program that tcpserver runs, each with a comma before it. The first
    character of the value quotes it; the value goes on to the next such character, and may hold any other:

        10.:allow,RELAYCLIENT="",GREETING=/the "best" host: mail.example/

EXIT STATUS
    0      CDB holds the rules
    100    wrong usage, or a line that is no rule; it is shown, with its number and what is wrong
    111    a file could not be read, written or moved

SECURITY
    HOST is the word of whoever runs the peer's name server, unless tcpserver has -p; INFO is the peer's own word.

BUGS
    The list above is the order of addresses, not the size of networks: 10.:allow holds before 10.1.2.0/24:deny. Use
    prefixes alone, or beginnings alone, for the parts of one network.

    The original tcpserver, given a CDB with prefixes and IPv6 addresses, goes by the other rules in it; that of
    ucspi-tcp6 knows them, but for the lengths 0 and 1. A CDB by Debian's ucspi-tcp-ipv6 is followed here, and one
    by ucspi-tcp6 except for its prefixes: make it again from its text.

    The original takes 10.0.0.0/8 as an address that nobody has. Here it is a prefix, and 10.0.0.0/33 an error.

    After a failure TMP is left behind.

SEE ALSO
    tcprulescheck(1), tcpserver(1), tcp-environ(5)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import cdb, tcprules
from qmailpy.stores import safeio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = b"tcprules"
USAGE = b"tcprules rules.cdb rules.tmp"

STDIN = 0
PIECE = 65536  # bytes


def lines_of(fd: int) -> "Iterator[bytes]":
    """The lines to be read on fd, without their newlines; the last may have none. Raises OSError."""
    begun: list[bytes] = []
    while piece := os.read(fd, PIECE):
        first, *others = piece.split(b"\n")
        begun.append(first)
        if others:
            yield b"".join(begun)
            begun = [others.pop()]
            yield from others
    yield b"".join(begun)


def main(argv: list[bytes], env: Env) -> int | Exec:
    if len(argv) < 3:
        return strerr.usage(PROGRAM, USAGE)
    path, temporary = argv[1:3]
    try:
        safeio.replace(path, temporary, cdb.make(tcprules.records(lines_of(STDIN))))
    except tcprules.BadRule as e:
        line = e.line.partition(b"\0")[0]  # the original's message ends there
        problem = b" (line %d: %s)" % (e.number, e.reason)
        return strerr.fail(strerr.NEVER, PROGRAM, b"unable to parse this line: ", line, problem)
    except safeio.Failed as e:
        return strerr.fail(strerr.LATER, PROGRAM, e.complaint, error=e)
    except cdb.TooLarge:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to write to ", temporary, b": out of memory")
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to read input", error=e)
    return 0
