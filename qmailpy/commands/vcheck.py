"""NAME
    vcheck - find and mend what does not fit together of virtual domains

SYNOPSIS
    vcheck [-vnj] [DOMAIN]...

DESCRIPTION
    vcheck looks whether the files that know of virtual domains say the same, and mends what can be mended without
    losing anything. It prints a line for each thing that it finds, and nothing if all is well:

        example.com: in neither control/rcpthosts nor morercpthosts: mended
        example.org: alias of example.com, which is no domain

    It mends, and with -n only reports: what a killed command that changes domains or accounts has left undone; a
    users/cdb, morercpthosts.cdb or vpasswd.cdb that says something else than the file it is made of; a domain of
    users/assign that is not in virtualdomains, in neither rcpthosts nor morercpthosts, or in locals; a missing
    .qmail-default, with which mail for unknown users bounces then; missing Maildirs; and what is left of folders that
    were removed.

    It only reports: a bad line in users/assign; lines of virtualdomains and ip_alias_map for what is no domain, and a
    second line of virtualdomains for a domain; aliases of what is no domain, or that have another folder; missing
    folders of domains, and such of another owner; a missing vpasswd; and folders of no domain, or of no account.

    With DOMAINs, it looks only at their folders, and at the files of the mail system as always. After it has mended
    control files it tells qmail-send(8) to read them again. While it mends, no other command changes domains.

OPTIONS
    -n    mend nothing
    -j    print one JSON object per line instead: where, what, and whether it is mended. Strings have \\xNN for bytes
          that are not UTF-8
    -v    print the version

CONTROL FILES
    locals
    morercpthosts
    rcpthosts
    virtualdomains    are compared with users/assign

ENVIRONMENT
    VPOPMAILHOME    where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME       the home of the mail system. Default: /var/qmail

EXIT STATUS
    0      nothing is wrong any more
    1      something is; all of it was printed
    111    files are in use, or cannot be read or written
    255    wrong usage

SECURITY
    It is run as root, or as the owner of the mail system's home and of VHOME. What is mended in a domain's folder is
    mended with the rights of its owner.

SEE ALSO
    vdominfo(8), vadddomain(8), vmkpasswd(8), qmail-newu(8), qmail-newmrh(8)
"""

import os

from qmailpy.chain import Env
from qmailpy.formats.visible import visible
from qmailpy.stores.vpopmail import administration, changes, consistency, vhome

PROGRAM = b"vcheck"
HELP = b"""vcheck: usage: [options] [domain] ...
options: -v (print version number)
         -n (mend nothing)
         -j (print JSON)"""

WRONG = 1  # exit code


def line(found: consistency.Finding) -> bytes:
    return visible(found.where + b": " + found.what + (b": mended" if found.is_mended else b""))


def as_json(found: consistency.Finding) -> bytes:
    return administration.objects([{"where": found.where, "what": found.what, "mended": found.is_mended}])


def check(home: vhome.Vhome, change: changes.Change | None, names: list[bytes], in_json: bool) -> int:
    """The exit code. Raises OSError."""
    code = 0
    for found in consistency.Check(home, change).findings(names):
        administration.say(as_json(found) if in_json else line(found))
        if not found.is_mended:
            code = WRONG
    return code


def run(argv: list[bytes], env: Env) -> int:
    options, words = administration.options(PROGRAM, argv, b"vnj", HELP)
    letters = b"".join(letter for letter, _ in options)
    home = vhome.vhome(env)
    names = [word.lower() for word in words]
    if b"n" in letters:
        return check(home, None, names, b"j" in letters)
    with changes.Change(home) as change:
        return check(home, change, names, b"j" in letters)


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o022)
    return administration.end(PROGRAM, lambda: run(argv, env))
