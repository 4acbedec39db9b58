"""NAME
    vdeldomain - remove a virtual domain, with all its mail

SYNOPSIS
    vdeldomain [-vf] DOMAIN

DESCRIPTION
    vdeldomain removes DOMAIN from the files of the mail system, which then takes no mail for it any more, and after
    that its folder with all accounts and their mail. There is no way back:

        vdeldomain example.com

    If DOMAIN is the name of an alias domain, only this name goes. A domain that has such aliases goes only with -f, and
    they go with it; without -f they are printed, and nothing is done.

    The lines of DOMAIN in users/assign and its cdb, control/virtualdomains, control/rcpthosts, and
    control/morercpthosts and its cdb are removed, and qmail-send(8) is told to read these files again. An empty
    morercpthosts is removed.

    Whatever happens on the way, the domain is known or not known: what a killed vdeldomain has begun, the next command
    that changes domains completes, or vcheck(8). The folder gets a name that begins with .deleted. first, and nobody
    has to wait while it is removed; vcheck removes what is left of one.

OPTIONS
    -f    remove the domain with its alias domains
    -v    print the version

CONTROL FILES
    morercpthosts     loses DOMAIN, and so does morercpthosts.cdb
    rcpthosts         loses it
    virtualdomains    loses DOMAIN:DOMAIN

ENVIRONMENT
    VPOPMAILHOME    where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME       the home of the mail system. Default: /var/qmail

EXIT STATUS
    0      done, or there are alias domains and no -f
    111    files are in use, or cannot be read or written
    245    there is no such domain
    255    wrong usage

SECURITY
    It is run as root, or as the owner of the mail system's home and of VHOME. A folder is removed with the rights of
    its owner, and no link in it is followed; one that is not domains/DOMAIN somewhere, as vadddomain(8) makes them, is
    left alone, with a warning.

SEE ALSO
    vadddomain(8), vaddaliasdomain(8), vdominfo(8), vcheck(8)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.stores.vpopmail import administration, changes, domains, trees, vhome
from qmailpy.stores.vpopmail.administration import Stop

PROGRAM = b"vdeldomain"
HELP = b"""vdeldomain: usage: [options] domain_name
options: -v (print version number)
options: -f (force delete of virtual domains)"""

ALIASES_EXIST = b"Warning: Alias domains exist:"
ALIASES_DELETED = b"Warning: Alias domains deleted:"
USE_FORCE = b"   use -f to force delete of domain and all aliases"
NO_DOMAIN = b"Error: Domain does not exist"
NO_DOMAIN_CODE = 245
NOT_REMOVED = b"Warning: Failed to delete directory tree: %s\n"


def delete(home: vhome.Vhome, name: bytes, forced: bool) -> None:
    """Raises whatever administration.end tells."""
    with changes.Change(home) as change:
        change.warn(PROGRAM)
        domain = change.find(name)
        if domain is None:
            raise Stop(NO_DOMAIN, NO_DOMAIN_CODE)
        aliases = [] if domain.is_alias else domains.aliases(home, domain)
        lines = [b"   " + alias for alias in aliases]
        if aliases and not forced:
            raise Stop(b"\n".join([ALIASES_EXIST, *lines, USE_FORCE]), 0)
        if aliases:
            administration.say(b"\n".join([ALIASES_DELETED, *lines]))
        try:
            change.delete(domain)
        except changes.Unsafe:
            strerr.say(NOT_REMOVED % domain.dir)
    parent = os.path.dirname(domain.dir)
    for left in [] if domain.is_alias else trees.left(parent):
        strerr.say(NOT_REMOVED % (parent + b"/" + left))


def run(argv: list[bytes], env: Env) -> int:
    options, words = administration.options(PROGRAM, argv, b"vf", HELP)
    if not words:
        raise Stop(HELP)
    delete(vhome.vhome(env), words[0].lower(), (b"f", b"") in options)
    return 0


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o022)
    return administration.end(PROGRAM, lambda: run(argv, env))
