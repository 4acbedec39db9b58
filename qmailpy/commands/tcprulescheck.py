"""NAME
    tcprulescheck - ask which access rule tcpserver would follow

SYNOPSIS
    tcprulescheck CDB

DESCRIPTION
    tcprulescheck prints what tcpserver would do, by the rules that tcprules compiled into CDB, with the peer that
    its environment describes:

        $ TCPREMOTEIP=192.168.10.7 tcprulescheck tcp.smtp.cdb
        rule 192.168.10.:
        set environment variable RELAYCLIENT=
        allow connection

    The first line names the address of the rule. An IPv6 address is shown in its short form, a prefix as
    10.0.0.0/8. When no rule matches, the answer is

        default:
        allow connection

    For a rule with deny the variables are not shown.

ENVIRONMENT
    TCPREMOTEIP      the peer's address, IPv4 or IPv6; if unset, TCP6REMOTEIP; if that is unset too, 0.0.0.0
    TCPREMOTEHOST    the peer's host name; unset if not known
    TCPREMOTEINFO    the user name from the peer's ident server; unset if not known

EXIT STATUS
    0      an answer was printed, allow or deny
    100    wrong usage
    111    CDB could not be read, or the answer not written

SEE ALSO
    tcprules(1), tcpserver(1), tcp-environ(5)
"""

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import tcprules
from qmailpy.stores import cdb
from qmailpy.unix import fds

PROGRAM = b"tcprulescheck"
USAGE = b"tcprulescheck rules.cdb"

STDOUT = 1


def report(rule: tcprules.Rule | None, ip: bytes) -> bytes:
    """What the original prints about a rule; ip, which may be anything here, is printed as it is."""
    if rule is None:
        return b"default:\nallow connection\n"
    said = b"rule %s:\n" % (rule.key if rule.key == ip else tcprules.readable(rule.key))
    for item in tcprules.items(rule.data):
        if item.startswith(b"D"):
            return said + b"deny connection\n"
        if item.startswith(b"+"):
            said += b"set environment variable %s\n" % item[1:]
    return said + b"allow connection\n"


def main(argv: list[bytes], env: Env) -> int | Exec:
    if len(argv) < 2:
        return strerr.usage(PROGRAM, USAGE)
    ip = env.get(b"TCPREMOTEIP", env.get(b"TCP6REMOTEIP", b"0.0.0.0"))
    try:
        rule = cdb.find(argv[1], ip, env.get(b"TCPREMOTEHOST"), env.get(b"TCPREMOTEINFO"))
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to read ", argv[1], error=e)
    try:
        fds.write_all(STDOUT, report(rule, ip))
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to write output", error=e)
    return 0
