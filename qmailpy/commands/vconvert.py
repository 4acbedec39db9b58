"""NAME
    vconvert - bring accounts into a virtual domain, or list them for elsewhere

SYNOPSIS
    vconvert [-vdN] -e -c [-f PASSWD] [-s SHADOW] [-u FIRST] DOMAIN
    vconvert [-vdN] -p FILE -c DOMAIN
    vconvert [-vdN] -t FILE -c [DOMAIN]
    vconvert [-vd] -c -t FILE DOMAIN...

DESCRIPTION
    The first of the options -e, -p, -t and -c says where accounts come from, the second where they go.

    -e    accounts of the system, as passwd(5) and shadow(5) have them: those with a password and a number of at least
          FIRST. Their names, hashes and comments are taken
    -p    lines `NAME:HASH`; more fields are ignored
    -t    a table: comma-separated values, as spreadsheets write them
    -c    a virtual domain

    All accounts are added with one change of a domain's files. One that is wrong, or is there already, is named with
    the reason and left out; the others are added. Folders and Maildirs are made as by vadduser(8); mail is not moved.

    The first line of a table names its columns. Read are those that are there of

        address     USER@DOMAIN, or USER for the DOMAIN that is given; needed
        crypt       the hash of the password, or
        password    the password itself, of which a hash is made
        gecos       the comment. Default: USER
        quota       10M, 10485760S,1000C, NOQUOTA. Default: the domain's
        gid         flags, as a number; vuserinfo(8) shows them
        uid         1, or 2 where a login by APOP is wanted
        clear       the password, where it is to be kept as it is

    and other columns are refused, but for dir. Written are address, crypt, uid, gid, gecos, dir, quota and clear. A
    table that is written can be read again, here or elsewhere. FILE - is the standard input, or output.

OPTIONS
    -N           dry run: print what would be done, and do nothing
    -f PASSWD    instead of /etc/passwd
    -s SHADOW    instead of /etc/shadow
    -u FIRST     the least number of an account of the system. Default: 1000
    -d           name each account that is added
    -v           print the version

ENVIRONMENT
    VPOPMAILHOME    where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME       the home of the mail system; unset, /var/qmail

EXIT STATUS
    0      done, or it would be
    111    the files are in use, or cannot be read or written now
    245    there is no such domain
    255    wrong usage, or some accounts were left out

SECURITY
    A table with hashes is to be kept from others: it is written with mode 600.

BUGS
    SQL databases are not known here; -m says so. The original takes all accounts of the system that have a password,
    also root and those of daemons.

SEE ALSO
    vadduser(8), vadddomain(8), vmkpasswd(8)
"""

import os

from qmailpy.chain import Env
from qmailpy.formats import hashes, vpopmail
from qmailpy.formats.numbers import scan
from qmailpy.formats.visible import visible
from qmailpy.formats.vpasswd import POP, Account
from qmailpy.stores import safeio
from qmailpy.stores.vpopmail import accounts, administration, domains, limits, vhome
from qmailpy.stores.vpopmail.administration import Stop
from qmailpy.stores.vpopmail.domains import Domain
from qmailpy.stores.vpopmail.vhome import Vhome
from qmailpy.unix import fds, ids

PROGRAM = b"vconvert"
HELP = b"""vconvert: usage
 The first option sets which format to convert FROM,
 the second option sets which format to convert TO.
 -e = etc format
 -p file = lines name:hash
 -t file = comma-separated values
 -c = cdb format
 -N = only say what would be done
 -f file, -s file = instead of /etc/passwd and /etc/shadow
 -u number = the least uid for -e
 -v = version
 -d = debug info"""

LETTERS = b"mcep:Svdt:Nf:s:u:"
FORMATS = b"mcept"

SYSTEM, LINES, TABLE, CDB = b"e", b"p", b"t", b"c"
UNKNOWN = b"unknown conversion"
FAILED = b"domain conversion failed"

PASSWD = b"/etc/passwd"
SHADOW = b"/etc/shadow"
FIRST = 1000  # of the numbers that are people's
LARGEST = 1 << 30  # bytes of a file

WRITTEN = ("address", "crypt", "uid", "gid", "gecos", "dir", "quota", "clear")
READ = {*WRITTEN, "password"}


class Row:
    """One account that somebody wants to have. place: such as `line 3`, for complaints; it may be empty."""

    __slots__ = ("account", "name", "place", "wrong")

    def __init__(self, name: bytes, place: bytes = b"") -> None:
        self.name = name
        self.place = place
        self.account = Account(name, b"", quota=b"")
        self.wrong = b""


def passwd_rows(passwd: bytes, shadow: bytes, first: int) -> "tuple[list[Row], list[bytes]]":
    """Accounts of the system, and the names of those that have no password."""
    stored = {}
    for line in shadow.split(b"\n"):
        name, _, rest = line.partition(b":")
        stored[name] = rest.partition(b":")[0]
    rows, skipped = [], []
    for line in passwd.split(b"\n"):
        fields = line.split(b":")
        if len(fields) < 7 or scan(fields[2])[0] < first:
            continue
        hash = stored.get(fields[0], fields[1])
        if hashes.locked(hash):
            skipped.append(fields[0])
            continue
        row = Row(fields[0])
        row.account.password = hash
        row.account.gecos = fields[4]
        rows.append(row)
    return rows, skipped


def line_rows(text: bytes) -> list[Row]:
    """Lines name:hash, with more fields or none behind."""
    rows = []
    for number, line in enumerate(text.split(b"\n"), 1):
        fields = line.rstrip(b"\r").split(b":")
        if len(fields) >= 2 and fields[0]:
            row = Row(fields[0], b"line %d" % number)
            row.account.password = fields[1]
            rows.append(row)
    return rows


def table_rows(text: bytes, kept: bool) -> list[Row]:
    """The rows of a table. Raises Stop: it is none of ours."""
    import csv
    import io

    decoded = text.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    reader = csv.reader(io.StringIO(decoded, newline=""), strict=True)
    rows: list[Row] = []
    try:
        columns = [column.strip().lower() for column in next(reader, [])]
        odd = [column for column in columns if column not in READ]
        if odd or "address" not in columns or len(set(columns)) != len(columns):
            raise Stop(b"Error: the first line is to name the columns, with address among them: " + _bytes(str(odd)))
        for fields in reader:
            if any(field.strip() for field in fields):
                rows.append(_row(dict(zip(columns, map(_bytes, fields), strict=False)), reader.line_num, kept))
                if len(fields) > len(columns):
                    rows[-1].wrong = b"more fields than columns"
    except csv.Error as e:
        raise Stop(b"Error: line %d: %s" % (reader.line_num, _bytes(str(e))))
    return rows


def _row(fields: dict[str, bytes], number: int, kept: bool) -> Row:
    row = Row(fields["address"].strip(), b"line %d" % number)
    account = row.account
    account.gecos = fields.get("gecos", b"")
    try:
        account.uid = _number(fields.get("uid", b""), POP)
        account.gid = _number(fields.get("gid", b""), 0)
        account.password = fields.get("crypt", b"")
        account.clear = fields.get("clear") or None
        if not account.password and fields.get("password"):
            administration.set_password(account, bytearray(fields["password"]), kept)
        account.quota = administration.quota(fields["quota"]) if fields.get("quota") else b""
    except ValueError:
        row.wrong = b"uid and gid are numbers"
    except vpopmail.Invalid as invalid:
        row.wrong = invalid.text
    except Stop as stop:
        row.wrong = stop.text.removeprefix(b"Error: ")
    return row


def _number(text: bytes, default: int) -> int:
    if text and not text.isdigit():
        raise ValueError
    return int(text[:10]) if text else default


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def table(found: list[tuple[Domain, Account]]) -> bytes:
    """The table that has these accounts."""
    import csv
    import io

    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(WRITTEN)
    for domain, account in found:
        fields = (
            account.name + b"@" + domain.name, account.password, b"%d" % account.uid, b"%d" % account.gid,
            account.gecos, account.dir, account.quota, account.clear or b"",
        )  # fmt: skip
        writer.writerow([field.decode("utf-8", "surrogateescape") for field in fields])
    return _bytes(file.getvalue())


class Import:
    """One run into domains."""

    __slots__ = ("_code", "_debug", "_default", "_dry", "_env", "_vhome")

    def __init__(self, vhome: Vhome, env: Env, default: bytes, dry: bool, debug: bool) -> None:
        self._vhome = vhome
        self._env = env
        self._default = default
        self._dry = dry
        self._debug = debug
        self._code = 0

    def run(self, rows: list[Row]) -> int:
        by_domain: dict[bytes, tuple[Domain, list[Row]]] = {}
        for row in rows:
            try:
                domain = self._place(row)
            except vpopmail.Invalid as invalid:
                self._refuse(row, invalid.text)
            else:
                by_domain.setdefault(domain.name, (domain, []))[1].append(row)
        for domain, wanted in by_domain.values():
            self._into(domain, wanted)
        return self._code

    def _place(self, row: Row) -> Domain:
        """The domain that a row is for; its name becomes that of the user. Raises Invalid."""
        user, name = vpopmail.split(row.name)
        if self._default and name not in (b"", self._default):
            raise vpopmail.Invalid(vpopmail.NO_DOMAIN)
        domain = domains.find(self._vhome, name or self._default)
        if domain is None:
            raise vpopmail.Invalid(vpopmail.NO_DOMAIN)
        row.account.name = vpopmail.user(user)
        return domain

    def _into(self, domain: Domain, wanted: list[Row]) -> None:
        if self._dry:
            self._select(domain, wanted, {account.name for account in every(domain)})
            return
        with accounts.Change(domain) as change:
            added = self._select(domain, wanted, {account.name for account in change.every()})
            change.add([row.account for row in added])
        administration.say(b"converting %s done" % domain.name)

    def _select(self, domain: Domain, wanted: list[Row], known: set[bytes]) -> list[Row]:
        """Those that can be added; says so, and of the others why not."""
        quota = limits.default_quota(limits.read(self._vhome, domain))
        added = []
        for row in wanted:
            account = row.account
            account.gecos = account.gecos or account.name
            account.quota = account.quota or quota
            try:
                if row.wrong:
                    self._refuse(row, row.wrong)
                    continue
                if account.name in known:
                    raise vpopmail.Invalid(vpopmail.USERNAME_EXISTS)
                administration.comment(account.gecos)
                administration.crypt_of(account.password)
                accounts.check(domain, account)
            except vpopmail.Invalid as invalid:
                self._refuse(row, invalid.text)
                continue
            known.add(account.name)
            added.append(row)
            if self._dry or self._debug:
                what = b"%s %s@%s" % (b"would add" if self._dry else b"adding", account.name, domain.name)
                method = hashes.method(account.password) or (b"DES" if account.password else b"none")
                told = (what, visible(account.gecos), account.quota, method)
                administration.say(b"%s, comment %s, quota %s, hash %s" % told)
        return added

    def _refuse(self, row: Row, why: bytes) -> None:
        place = row.place + b": " if row.place else b""
        administration.say(b"%suser %s did not add: %s" % (place, visible(row.name), why))
        self._code = administration.MISUSE


def text_of(file: bytes) -> bytes:
    """The whole file; `-` is descriptor 0. Raises OSError."""
    if file == b"-":
        return fds.read_all(administration.STDIN, LARGEST)
    with open(file, "rb") as opened:
        return opened.read(LARGEST)


def every(domain: Domain) -> list[Account]:
    """All accounts, as the domain's owner may see them. Raises OSError."""
    with ids.Acting(domain.uid, domain.gid):
        return list(accounts.every(domain))


def export(home: Vhome, names: list[bytes], file: bytes) -> int:
    """Write a table of all accounts of these domains, or of all domains. Raises OSError, Invalid."""
    if names:
        found = [administration.domain_of(home, name) for name in names]
    else:
        found = [domain for domain in domains.every(home) if not domain.is_alias]
    text = table([(domain, account) for domain in found for account in every(domain)])
    if file == b"-":
        fds.write_all(administration.STDOUT, text)
    else:
        temporary = b"%s.%s.tmp" % (file, os.urandom(8).hex().encode())  # in /tmp, others would take it first
        safeio.replace(file, temporary, (text,), 0o600)
    return 0


def run(argv: list[bytes], env: Env) -> int:
    """Raises whatever administration.end tells."""
    options, words = administration.options(PROGRAM, argv, LETTERS, HELP)
    chosen = dict(options)
    formats = [(letter, word) for letter, word in options if letter in FORMATS]
    home = vhome.vhome(env)
    if b"S" in chosen or len(formats) != 2:
        raise Stop(UNKNOWN + b"\n" + HELP if b"S" in chosen else HELP)
    (source, file), (target, target_file) = formats
    if (source, target) == (CDB, TABLE):
        return export(home, words, target_file)
    if target != CDB or source not in (SYSTEM, LINES, TABLE):
        raise Stop(UNKNOWN)
    if len(words) > 1 or (not words and source != TABLE):
        raise Stop(HELP)
    default = words[0].lower() if words else b""
    if default:
        administration.domain_of(home, default)
    if source == TABLE:
        rows = table_rows(text_of(file), administration.keeps_clear(home))
    elif source == LINES:
        rows = line_rows(text_of(file))
    else:
        first = scan(chosen.get(b"u", b"%d" % FIRST))[0]
        rows, skipped = passwd_rows(text_of(chosen.get(b"f", PASSWD)), text_of(chosen.get(b"s", SHADOW)), first)
        for name in skipped:
            administration.say(b"skipping " + name)
    return Import(home, env, default, b"N" in chosen, b"d" in chosen).run(rows)


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o077)
    return administration.end(PROGRAM, lambda: run(argv, env))
