"""NAME
    valias - show, add and remove aliases of a virtual domain

SYNOPSIS
    valias [-v] [-j] [-s] ADDRESS
    valias [-v] [-j] -n DOMAIN
    valias [-v] -i LINE ADDRESS
    valias [-v] -d ADDRESS

DESCRIPTION
    An alias USER@DOMAIN is the file .qmail-USER in the domain's folder, with a colon for each dot in USER. Its lines
    say what becomes of mail for USER, as dot-qmail(5) has them: &ADDRESS, or ADDRESS alone, forwards it, |COMMAND is
    run, /FOLDER/ is a Maildir. The file comes before an account of that name.

    Without options, or with -s, valias prints the lines of an alias, or of all aliases of a domain if ADDRESS is
    DOMAIN alone:

        info@example.org -> &max@example.org

    A line is added, or an alias removed, as a whole or not at all, and two that add lines at once lose none.

    The file .qmail-default, which has mail for all users, is shown when it is asked for, and never changed.

OPTIONS
    -s         print lines
    -n         print the names of the aliases of DOMAIN
    -i LINE    add LINE, of up to 159 bytes, unless it is there
    -d         remove the alias, with all its lines
    -j         print JSON: an object for each alias, on a line of its own, with alias, domain and lines
    -v         print the version

ENVIRONMENT
    VPOPMAILHOME       where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME          the home of the mail system; unset, /var/qmail
    VPOPMAIL_DOMAIN    the domain of a name without one, before etc/defaultdomain

EXIT STATUS
    0      done; also if there was nothing to remove
    111    the files are in use, or cannot be read or written now
    254    wrong option
    255    no address; no such domain; nothing found; or the line is there already
           Other codes are those of vpopmail: 256 less the number of its error

SECURITY
    Run it as root or as the owner of the domain, with whose rights all is done, and who runs the commands in lines.

SEE ALSO
    vadduser(8), vadddomain(8), vdelivermail(8), qmail-local(8)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import qmailfile, vpopmail
from qmailpy.stores.vpopmail import accounts, addressees, administration, domains, vhome
from qmailpy.stores.vpopmail.administration import Stop
from qmailpy.stores.vpopmail.domains import Domain
from qmailpy.unix import ids

PROGRAM = b"valias"
HELP = b"""valias: usage: [options] email_address\x20
options: -v ( display the vpopmail version number )
         -n ( show alias names, use just domain )
         -s ( show aliases, can use just domain )
         -d ( delete alias )
         -i alias_line (insert alias line)
         -j ( show as JSON )

Example: valias -i fred@inter7.com bob@inter7.com
         (adds alias from bob@inter7.com to fred@inter7.com"""

LETTERS = b"vnsdi:j"
BAD_OPTION = 254  # the originals' -2

PREFIX = qmailfile.PREFIX + b"-"
LISTS = (b"-default", b"-owner")  # parts of the names of a mailing list's files that are not its own name
NO_DOMAIN = b"invalid domain, not in qmail assign file"
NO_ADDRESS = b"must supply alias email address\n"
DOMAIN_ONLY = b"Please enter domain name only.\n"


def file_of(alias: bytes) -> bytes:
    """The file of an alias, below the domain's folder. Raises Invalid: it would be elsewhere."""
    if len(alias) > vpopmail.USER_LENGTH:
        raise vpopmail.Invalid(vpopmail.USER_TOO_LONG)
    if not alias or b"/" in alias:
        raise vpopmail.Invalid(vpopmail.ILLEGAL_USERNAME)
    return b"/" + PREFIX + qmailfile.safe_extension(alias)


def names(domain: Domain) -> list[bytes]:
    """The aliases of a domain, and its mailing lists, whose files are links, by one name each. Raises OSError."""
    found = []
    for name in os.listdir(domain.dir):
        alias = name.removeprefix(PREFIX)
        if alias == name or alias == qmailfile.DEFAULT:
            continue
        if any(part in name for part in LISTS) and os.path.islink(domain.dir + b"/" + name):
            continue
        found.append(alias.replace(b":", b"."))
    return sorted(found, key=lambda alias: (alias.lower(), alias))


def lines(domain: Domain, alias: bytes) -> list[bytes]:
    """The lines of an alias; none if it is not there. Raises Invalid, OSError."""
    text = addressees.read(domain.dir + file_of(alias))
    return [] if text is None else text.removesuffix(b"\n").split(b"\n")


def shown(domain: Domain, user: bytes | None, in_json: bool) -> bytes:
    """The lines of an alias, or of all. Raises Stop: there are none."""
    found = [(alias, lines(domain, alias)) for alias in (names(domain) if user is None else [user])]
    found = [(alias, text) for alias, text in found if text]
    if in_json:
        return administration.objects([{"alias": alias, "domain": domain.name, "lines": text} for alias, text in found])
    if not found and user is None:
        raise Stop(b"No aliases found for domain " + domain.alias)
    if not found:
        raise Stop(b"No aliases %s@%s found" % (user, domain.alias))
    return b"\n".join(b"%s@%s -> %s" % (alias, domain.alias, line) for alias, text in found for line in text)


def insert(domain: Domain, alias: bytes, address: bytes, line: bytes) -> None:
    """Raises Stop, Invalid, OSError."""
    name = changeable(alias)
    if len(line) >= vpopmail.ALIAS_LENGTH:
        raise vpopmail.Invalid(vpopmail.ALIAS_TOO_LONG)
    if not line or b"\n" in line or b"\0" in line:
        raise vpopmail.Invalid(vpopmail.BAD_CHARACTER)
    with accounts.Change(domain) as change:
        text = change.file(name)
        if line in text.split(b"\n"):
            strerr.say(b"Error: alias %s -> %s already exists.\n" % (address, line))
            raise Stop(b"")
        if text and not text.endswith(b"\n"):
            text += b"\n"
        change.put_file(name, text + line + b"\n")


def changeable(alias: bytes) -> bytes:
    """As file_of, of an alias that is not the mail for all users."""
    if alias == qmailfile.DEFAULT:
        raise vpopmail.Invalid(vpopmail.ILLEGAL_USERNAME)
    return file_of(alias)


def run(argv: list[bytes], env: Env) -> int:
    """Raises whatever administration.end tells."""
    try:
        options, words = administration.options(PROGRAM, argv, LETTERS, HELP)
    except Stop as stop:
        raise Stop(stop.text, BAD_OPTION)
    if not words:
        strerr.say(NO_ADDRESS)
        raise Stop(HELP)
    home = vhome.vhome(env)
    address = words[0].lower()
    user, name = home.split(address, env)
    if b"@" not in address:
        name = address
    domain = domains.find(home, name)
    if domain is None:
        raise Stop(NO_DOMAIN)
    action, line = next((option for option in reversed(options) if option[0] != b"j"), (b"s", b""))
    if action == b"i":
        insert(domain, user, address, line)
    elif action == b"d":
        file = changeable(user)
        with accounts.Change(domain) as change:
            change.put_file(file, b"")
    else:
        with ids.Acting(domain.uid, domain.gid):
            show(domain, user if b"@" in address else None, action == b"n", (b"j", b"") in options)
    return 0


def show(domain: Domain, user: bytes | None, only_names: bool, in_json: bool) -> None:
    if not only_names:
        text = shown(domain, user, in_json)
    elif user is not None:
        strerr.say(DOMAIN_ONLY)
        raise Stop(b"")
    elif in_json:
        text = administration.objects([{"alias": alias, "domain": domain.name} for alias in names(domain)])
    else:
        text = b"\n".join(names(domain))
        if not text:
            raise Stop(b"")
    if text:
        administration.say(text)


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o077)
    return administration.end(PROGRAM, lambda: run(argv, env))
