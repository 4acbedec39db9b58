"""NAME
    vdominfo - show virtual domains

SYNOPSIS
    vdominfo [-vanugdtrj] [DOMAIN]

DESCRIPTION
    vdominfo prints what there is of DOMAIN, which may be the name of an alias domain, and the names of its aliases:

        domain: example.com
        uid:    89
        gid:    89
        dir:    /home/vpopmail/domains/example.com
        users:  2
        alias: example.org

    Without DOMAIN it prints this of all domains and alias domains, in the order of users/assign, with an empty line
    after each. There an alias domain has `domain: example.org (alias of example.com)`.

OPTIONS
    -a    print all fields; the default
    -n    print only the name
    -u    print only the uid
    -g    print only the gid
    -d    print only the folder
    -t    print only the number of users
    -r    print only the name of the real domain
          Several of these together print a line for each
    -j    print one JSON object per line instead, one for each domain and alias domain, or one for DOMAIN: domain, real,
          uid, gid, dir, users, and aliases, a list. Strings have \\xNN for bytes that are not UTF-8
    -v    print the version

ENVIRONMENT
    VPOPMAILHOME    where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME       the home of the mail system. Default: /var/qmail

EXIT STATUS
    0      done
    111    a file cannot be read; a vpasswd that cannot counts as empty, and the rest is shown
    219    users/assign cannot be read
    245    there is no such domain
    255    wrong usage; or, without DOMAIN, users/assign cannot be read

SEE ALSO
    vuserinfo(8), vadddomain(8), vaddaliasdomain(8), vdeldomain(8)
"""

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import vpopmail
from qmailpy.stores.vpopmail import accounts, administration, domains, vhome
from qmailpy.stores.vpopmail.administration import Stop
from qmailpy.stores.vpopmail.domains import Domain

PROGRAM = b"vdominfo"
HELP = b"""vdominfo: usage: [options] [domain]
options: -v (print version number)
         -a (display all fields, this is the default)
         -n (display domain name)
         -u (display uid field)
         -g (display gid field)
         -d (display domain directory)
         -t (display total users)
         -r (display real domain)"""

UNREADABLE = b"Can't get domain entries - " + vpopmail.text(vpopmail.NO_ASSIGN)
NOTHING = b"What now - " + vpopmail.text(0)
UNKNOWN = b"Invalid domain name"


class View:
    """What is shown of each domain: the letters of the fields, none for all. code: for the exit, unless something that
    belongs to a domain could not be read, which was said: its owner hides no other domain by that."""

    __slots__ = ("_counts", "_fields", "code", "is_json")

    def __init__(self, options: list[tuple[bytes, bytes]]) -> None:
        letters = b"".join(letter for letter, _ in options)
        self.is_json = b"j" in letters
        last_all = letters.rfind(b"a")  # the last word counts
        wanted = letters[last_all + 1 :] if last_all >= 0 else letters
        self._fields = letters if wanted.replace(b"j", b"") else b""
        self._counts: dict[bytes, int] = {}
        self.code = 0

    def users(self, domain: Domain) -> int:
        """How many accounts; 0 where nobody can tell."""
        if domain.name not in self._counts:
            self._counts[domain.name] = self._count(domain)
        return self._counts[domain.name]

    def _count(self, domain: Domain) -> int:
        try:
            return accounts.count(domain)
        except OSError as e:
            strerr.warn(PROGRAM, b"unable to read ", domain.dir + accounts.TEXT, error=e)
            self.code = strerr.LATER
            return 0

    def lines(self, domain: Domain) -> list[bytes]:
        name = domain.alias + (b" (alias of %s)" % domain.name if domain.is_alias else b"")
        if not self._fields:
            return [
                b"domain: " + name,
                b"uid:    %d" % domain.uid,
                b"gid:    %d" % domain.gid,
                b"dir:    " + domain.dir,
                b"users:  %d" % self.users(domain),
            ]
        values = {b"n": name, b"u": b"%d" % domain.uid, b"g": b"%d" % domain.gid, b"d": domain.dir}
        if b"t" in self._fields:
            values[b"t"] = b"%d" % self.users(domain)
        values[b"r"] = domain.name
        return [value for letter, value in values.items() if letter in self._fields]

    def json(self, domain: Domain, aliases: list[bytes]) -> bytes:
        record = {
            "domain": domain.alias,
            "real": domain.name,
            "uid": domain.uid,
            "gid": domain.gid,
            "dir": domain.dir,
            "users": self.users(domain),
            "aliases": aliases,
        }
        return administration.objects([record])


def _listed(home: vhome.Vhome, code: int) -> list[Domain]:
    """Raises Stop."""
    try:
        return list(domains.every(home))
    except OSError as e:
        raise Stop(UNREADABLE, code) from e


def show_one(home: vhome.Vhome, name: bytes, view: View) -> list[bytes]:
    """Raises Stop."""
    listed = _listed(home, vpopmail.NO_ASSIGN & 255)
    asked = next((each for each in listed if each.alias == name), None)
    domain = next((each for each in listed if asked is not None and each.alias == asked.name), asked)
    if domain is None:
        raise Stop(UNKNOWN, vpopmail.NO_DOMAIN & 255)
    aliases = [each.alias for each in listed if each.name == domain.name and each.is_alias]
    if view.is_json:
        return [view.json(domain, aliases)]
    return view.lines(domain) + [b"alias: " + alias for alias in aliases]


def show_all(home: vhome.Vhome, view: View) -> list[bytes]:
    """Raises Stop."""
    listed = _listed(home, administration.MISUSE)
    if view.is_json:
        aliases: dict[bytes, list[bytes]] = {}
        for each in listed:
            if each.is_alias:
                aliases.setdefault(each.name, []).append(each.alias)
        return [view.json(each, [] if each.is_alias else aliases.get(each.name, [])) for each in listed]
    if not listed:
        return [NOTHING]
    return [line for each in listed for line in (*view.lines(each), b"")]


def run(argv: list[bytes], env: Env) -> int:
    options, words = administration.options(PROGRAM, argv, b"vanugdtrj", HELP)
    view = View(options)
    home = vhome.vhome(env)
    lines = show_one(home, words[0].lower(), view) if words else show_all(home, view)
    if lines:
        administration.say(b"\n".join(lines))
    return view.code


def main(argv: list[bytes], env: Env) -> int:
    return administration.end(PROGRAM, lambda: run(argv, env))
