"""NAME
    vipmap - default domains by local IP address

SYNOPSIS
    vipmap [-v] -a IP DOMAIN
    vipmap [-v] -d IP DOMAIN
    vipmap [-vj] -p

DESCRIPTION
    Who logs in as plain joe, at a host that has several addresses, is taken for joe@DOMAIN if he has come to the
    address IP, and so is found without his domain:

        vipmap -a 192.0.2.17 example.com
        vipmap -a 2001:db8::17 example.com

    vipmap keeps the lines `IP DOMAIN` of VHOME/etc/ip_alias_map, one for each address: -a replaces what an address has.
    IPv6 addresses are the same in all their spellings. A domain in control/locals counts for nothing there. Before the
    map comes the variable VPOPMAIL_DOMAIN, and after it etc/defaultdomain.

OPTIONS
    -a    have DOMAIN for IP
    -d    remove this line
    -p    print the lines
    -j    print one JSON object per line instead: ip and domain
    -v    print the version

ENVIRONMENT
    VPOPMAILHOME    where etc is. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME       the home of the mail system. Default: /var/qmail

EXIT STATUS
    0      done
    111    the file is in use, or cannot be read or written
    244    DOMAIN can be no name of a domain
    255    wrong usage, or IP is no address

SEE ALSO
    vchkpw(8), vadddomain(8)
"""

import os

from qmailpy.chain import Env
from qmailpy.formats import vpopmail
from qmailpy.stores.vpopmail import administration, ipmap, vhome
from qmailpy.stores.vpopmail.administration import Stop

PROGRAM = b"vipmap"
HELP = b"""vipmap: usage: [options] ip domain
options: -d delete mapping
         -a add mapping
         -p print mapping
         -v show version"""

ADD, DELETE, PRINT = b"a", b"d", b"p"
NO_ADDRESS = b"Error: not an IP address: "


def printed(home: vhome.Vhome, in_json: bool) -> list[bytes]:
    """Raises OSError."""
    pairs = ipmap.pairs(home)
    if not in_json:
        return [b"%s %s" % pair for pair in pairs]
    return [administration.objects([{"ip": ip, "domain": domain}]) for ip, domain in pairs]


def run(argv: list[bytes], env: Env) -> int:
    options, words = administration.options(PROGRAM, argv, b"vpdaj", HELP)
    letters = b"".join(letter for letter, _ in options)
    actions = letters.replace(b"j", b"") or PRINT
    home = vhome.vhome(env)
    if len(argv) < 2 or (actions[-1:] != PRINT and len(words) < 2):
        raise Stop(HELP)
    if actions[-1:] == PRINT:
        lines = printed(home, b"j" in letters)
        if lines:
            administration.say(b"\n".join(lines))
        return 0
    address = ipmap.address(words[0])
    if address is None:
        raise Stop(NO_ADDRESS + words[0])
    change = ipmap.add if actions[-1:] == ADD else ipmap.remove
    change(home, address, vpopmail.alias(words[1]))
    return 0


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o022)
    return administration.end(PROGRAM, lambda: run(argv, env))
