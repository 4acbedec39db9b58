"""NAME
    qmail-showctl - analyze the configuration files of the mail system

SYNOPSIS
    qmail-showctl [-j]

DESCRIPTION
    qmail-showctl says what the control files of the mail system come to:

        smtpgreeting: (Default.) SMTP greeting: 220 mail.example.

    First come the settings that are no control files: the home, the users and groups. Then come the control files
    of qmail, in order of their names, those that this toolkit adds to them, and at last the files in control/ that
    no program knows: a misspelt name is found here. `(Default.)` stands where there is no file.

    A control file that cannot be read is named, and keeps the programs that use it from working. Of files with keys
    it is only said whether they are there.

OPTIONS
    -j    print one JSON object instead

JSON
    home, delimiter, paternalism, concurrency, split, users and groups are the settings that are no control files; a
    user or group that does not exist is null. control is a list of the files, in the same order as in the text, each
    an object with

    name        of the file
    kind        line, option (a line without a default), number, list, file (not shown), or unknown
    default     whether there is no file
    readable    false if the file is there and cannot be read
    value       what holds, for a line, option or number; null if nothing does
    lines       what holds, for a list
    meaning     the sentences of the text

    A byte that is not UTF-8 is shown as \\xNN in a string, and the password of a route, here and in the text, as `...`.

CONTROL FILES
    all of them

ENVIRONMENT
    QMAILHOME    the home of the mail system, /var/qmail unless set

EXIT STATUS
    0      done; also if a control file cannot be read
    100    wrong usage
    111    there is no home or no control directory, or the output could not be written

BUGS
    Whether a value makes sense is not looked at, nor what is in morercpthosts.cdb. A user or group that does not
    exist is shown as - in the text.

SEE ALSO
    qmail-smtpd(8), qmail-qmtpd(8), qmail-qmqpc(8), qmail-inject(8), qmail-newmrh(8), qmail-queue(8)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import options, smtproutes
from qmailpy.stores import home, queue
from qmailpy.stores.control import Control, Unreadable
from qmailpy.unix import fds, ids

PROGRAM = b"qmail-showctl"
USAGE = b"qmail-showctl [ -j ]"

STDOUT = 1

# What the originals are compiled with, and this toolkit has too.
DELIMITER = b"-"
PATERNALISM = 2
CONCURRENCY = 120
SPLIT = 23  # where there is no queue to look at
USERS = (b"alias", b"qmaild", b"qmaill", b"root", b"qmailp", b"qmailq", b"qmailr", b"qmails")
GROUPS = (b"nofiles", b"qmail")

PRINTABLE = bytes(byte if 32 <= byte <= 126 else ord("?") for byte in range(256))

TROUBLE = b"Oops! Trouble reading this file."
UNKNOWN_FILE = b"I have no idea what this file does."

# Kinds of files
LINE, OPTION, NUMBER, LIST, FILE, UNKNOWN = "line", "option", "number", "list", "file", "unknown"

# A row of a table: name, kind, default, and what is said before and behind a value. The default of a line or number is
# a value, None for that of me; that of the others a sentence. An option is a line that need not be there; what is in a
# file is not shown.
Row = tuple[bytes, str, bytes | None, bytes, bytes]

QMAIL: tuple[Row, ...] = (
    (b"badmailfrom", LIST, b"Any MAIL FROM is allowed.", b"", b" not accepted in MAIL FROM."),
    (b"bouncefrom", LINE, b"MAILER-DAEMON", b"Bounce user name is ", b"."),
    (b"bouncehost", LINE, None, b"Bounce host name is ", b"."),
    (b"concurrencylocal", NUMBER, b"10", b"Local concurrency is ", b"."),
    (b"concurrencyremote", NUMBER, b"20", b"Remote concurrency is ", b"."),
    (b"databytes", NUMBER, b"0", b"SMTP DATA limit is ", b" bytes."),
    (b"defaultdomain", LINE, None, b"Default domain name is ", b"."),
    (b"defaulthost", LINE, None, b"Default host name is ", b"."),
    (b"doublebouncehost", LINE, None, b"2B recipient host: ", b"."),
    (b"doublebounceto", LINE, b"postmaster", b"2B recipient user: ", b"."),
    (b"envnoathost", LINE, None, b"Presumed domain name is ", b"."),
    (b"helohost", LINE, None, b"SMTP client HELO host name is ", b"."),
    (b"idhost", LINE, None, b"Message-ID host name is ", b"."),
    (b"localiphost", LINE, None, b"Local IP address becomes ", b"."),
    (b"locals", LIST, b"Messages for me are delivered locally.", b"Messages for ", b" are delivered locally."),
    (b"me", LINE, b"undefined! Uh-oh", b"My name is ", b"."),
    (
        b"percenthack",
        LIST,
        b"The percent hack is not allowed.",
        b"The percent hack is allowed for user%host@",
        b".",
    ),
    (b"plusdomain", LINE, None, b"Plus domain name is ", b"."),
    (b"qmqpservers", LIST, b"No QMQP servers.", b"QMQP server: ", b"."),
    (b"queuelifetime", NUMBER, b"604800", b"Message lifetime in the queue is ", b" seconds."),
    (
        b"rcpthosts",
        LIST,
        b"SMTP clients may send messages to any recipient.",
        b"SMTP clients may send messages to recipients at ",
        b".",
    ),
    (b"morercpthosts", LIST, b"No effect.", b"SMTP clients may send messages to recipients at ", b"."),
    (b"morercpthosts.cdb", FILE, b"No effect.", b"", b""),
    (b"smtpgreeting", LINE, None, b"SMTP greeting: 220 ", b"."),
    (b"smtproutes", LIST, b"No artificial SMTP routes.", b"SMTP route: ", b""),
    (b"timeoutconnect", NUMBER, b"60", b"SMTP client connection timeout is ", b" seconds."),
    (b"timeoutremote", NUMBER, b"1200", b"SMTP client data timeout is ", b" seconds."),
    (b"timeoutsmtpd", NUMBER, b"1200", b"SMTP server data timeout is ", b" seconds."),
    (b"virtualdomains", LIST, b"No virtual domains.", b"Virtual domain: ", b""),
)

# In place of the row for morercpthosts, where there is no rcpthosts.
IRRELEVANT: Row = (
    b"morercpthosts",
    LIST,
    b"No rcpthosts; morercpthosts is irrelevant.",
    b"No rcpthosts; doesn't matter that morercpthosts has ",
    b".",
)

ADDED: tuple[Row, ...] = (
    (b"authsenders", LIST, b"No SMTP routes of senders.", b"SMTP route of a sender: ", b""),
    (b"badhelo", LIST, b"Any HELO name is allowed.", b"", b" not accepted in HELO."),
    (b"badrcptto", LIST, b"Any RCPT TO is allowed.", b"", b" not accepted in RCPT TO."),
    (b"bounceformat", OPTION, b"Bounces are plain text.", b"Format of bounces: ", b"."),
    (b"bouncemaxbytes", NUMBER, b"0", b"Limit on what a bounce has of its message is ", b" bytes; 0 is no limit."),
    (b"brtlimit", NUMBER, b"0", b"SMTP limit of refused recipients in a session is ", b"; 0 is no limit."),
    (
        b"clearauthhosts",
        LIST,
        b"No SMTP relay is sent a password in clear.",
        b"SMTP relay that may be sent a password in clear: ",
        b".",
    ),
    (b"clientcert.pem", FILE, b"No certificate of our own for SMTP servers.", b"There is a certificate.", b""),
    (
        b"dnssecservers",
        LIST,
        b"Name servers on loopback addresses are believed about DNSSEC.",
        b"Name server that is believed about DNSSEC: ",
        b".",
    ),
    (b"maxrcpt", NUMBER, b"0", b"SMTP limit of recipients of a message is ", b"; 0 is no limit."),
    (b"rcptcheck", OPTION, b"No program is asked about SMTP recipients.", b"Asked about SMTP recipients: ", b"."),
    (b"servercert.pem", FILE, b"Services offer no TLS.", b"There is a certificate.", b""),
    (b"tlsclientciphers", OPTION, b"SMTP client ciphers for TLS 1.2 are OpenSSL's.", b"SMTP client ciphers: ", b"."),
    (b"tlsdestinations", LIST, b"No SMTP destination has to have TLS.", b"SMTP destination and its TLS: ", b"."),
    (b"tlsserverciphers", OPTION, b"Server ciphers for TLS 1.2 are OpenSSL's.", b"Server ciphers: ", b"."),
)


ROUTES = frozenset({b"smtproutes", b"authsenders"})  # whose passwords are not shown


class Entry:
    """What is known of one file. value or lines, by its kind; sentences say what it means."""

    __slots__ = ("default", "kind", "lines", "name", "readable", "sentences", "value")

    def __init__(self, name: bytes, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.default = False
        self.readable = True
        self.value: bytes | None = None
        self.lines: list[bytes] = []
        self.sentences: list[bytes] = []

    def text(self) -> bytes:
        start = b"\n%s: " % safe(self.name)
        if self.default:
            start += b"(Default.) "
        elif self.kind == LIST and self.readable:
            start += b"\n"
        return start + b"".join([sentence + b"\n" for sentence in self.sentences])

    def record(self) -> dict[str, object]:
        """For JSON."""
        found: dict[str, object] = {"name": shown(self.name), "kind": self.kind, "default": self.default}
        found["readable"] = self.readable
        if self.kind in (LINE, OPTION):
            found["value"] = None if self.value is None else shown(self.value)
        elif self.kind == NUMBER:
            found["value"] = None if self.value is None else int(self.value)
        elif self.kind == LIST:
            found["lines"] = [shown(line) for line in self.lines]
        found["meaning"] = shown(b"\n".join(self.sentences))
        return found


def safe(text: bytes) -> bytes:
    """text for a terminal."""
    return text.translate(PRINTABLE)


def shown(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


class Files:
    """The control files of a home."""

    __slots__ = ("_control", "_me", "folder", "names")

    def __init__(self, folder: bytes) -> None:
        """Raises OSError if there is no such folder, and Unreadable for me, which others depend on."""
        self.folder = folder + b"/control"
        self.names = sorted(os.listdir(self.folder))
        self._control = Control(folder)
        self._me = self._control.me()

    def entries(self) -> list[Entry]:
        rows = [IRRELEVANT if row[0] == b"morercpthosts" and self._lacks_rcpthosts() else row for row in QMAIL]
        known = [self._entry(row) for row in (*rows, *ADDED)]
        names = {entry.name for entry in known}
        return known + [self._unknown(name) for name in self.names if name not in names]

    def _lacks_rcpthosts(self) -> bool:
        try:
            return self._control.line(b"rcpthosts") is None
        except Unreadable:
            return False

    def _unknown(self, name: bytes) -> Entry:
        entry = Entry(name, UNKNOWN)
        entry.sentences = [UNKNOWN_FILE]
        return entry

    def _entry(self, row: Row) -> Entry:
        name, kind, default, before, behind = row
        entry = Entry(name, kind)
        try:
            if name == b"morercpthosts.cdb":
                self._compiled(entry)
            elif kind == FILE:
                entry.default = name not in self.names
                entry.sentences = [default or b"" if entry.default else before]
            elif kind == LIST:
                self._list(entry, default or b"", before, behind)
            else:
                value = self._number(name) if kind == NUMBER else self._control.line(name)
                entry.default = value is None
                if value is None and kind != OPTION:
                    value = self._default(name, default)
                entry.value = value
                entry.sentences = [default or b"" if value is None else before + safe(value) + behind]
        except Unreadable:
            entry.readable = False
            entry.sentences = [TROUBLE]
        return entry

    def _number(self, name: bytes) -> bytes | None:
        number = self._control.number(name)
        return None if number is None else b"%d" % number

    def _default(self, name: bytes, default: bytes | None) -> bytes:
        if default is not None:
            return default
        return name if self._me is None else self._me

    def _list(self, entry: Entry, default: bytes, before: bytes, behind: bytes) -> None:
        lines = self._control.lines(entry.name)
        if lines is None:
            entry.default = True
            entry.sentences = [default]
        else:
            entry.lines = [smtproutes.without_password(line) for line in lines] if entry.name in ROUTES else lines
            entry.sentences = [before + safe(line) + behind for line in entry.lines]

    def _compiled(self, entry: Entry) -> None:
        """morercpthosts.cdb, which qmail-newmrh makes of morercpthosts."""
        text, compiled = (self._modified(name) for name in (b"morercpthosts", b"morercpthosts.cdb"))
        if compiled is None:
            entry.default = text is None
            said = b"No effect." if text is None else b"Oops! morercpthosts exists but morercpthosts.cdb doesn't."
        elif text is None:
            said = b"Oops! morercpthosts.cdb exists but morercpthosts doesn't."
        elif text > compiled:
            said = b"Oops! morercpthosts.cdb is older than morercpthosts."
        else:
            said = b"Modified recently enough; hopefully up to date."
        entry.sentences = [said]

    def _modified(self, name: bytes) -> int | None:
        try:
            return int(os.stat(self.folder + b"/" + name).st_mtime)
        except OSError:
            return None


def _uid(name: bytes) -> int | None:
    try:
        return ids.user(name)
    except LookupError:
        return None


def _gid(name: bytes) -> int | None:
    try:
        return ids.group(name)
    except LookupError:
        return None


def _numbers(found: dict[bytes, int | None]) -> bytes:
    return b", ".join([b"-" if number is None else b"%d" % number for number in found.values()])


class Build:
    """What is no control file."""

    __slots__ = ("folder", "groups", "split", "users")

    def __init__(self, folder: bytes) -> None:
        self.folder = folder
        self.split = split(folder)
        self.users = {name: _uid(name) for name in USERS}
        self.groups = {name: _gid(name) for name in GROUPS}

    def text(self) -> bytes:
        return (
            b"qmail home directory: %s.\nuser-ext delimiter: %s.\npaternalism (in decimal): %d.\n"
            b"silent concurrency limit: %d.\nsubdirectory split: %d.\nuser ids: %s.\ngroup ids: %s.\n"
        ) % (
            self.folder,
            DELIMITER,
            PATERNALISM,
            CONCURRENCY,
            self.split,
            _numbers(self.users),
            _numbers(self.groups),
        )

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {
            "home": shown(self.folder),
            "delimiter": shown(DELIMITER),
            "paternalism": PATERNALISM,
            "concurrency": CONCURRENCY,
            "split": self.split,
            "users": {shown(name): uid for name, uid in self.users.items()},
            "groups": {shown(name): gid for name, gid in self.groups.items()},
        }


def split(folder: bytes) -> int:
    """Directories in each of queue/mess and its like: as they are, or as qmail-make-queue would make them."""
    try:
        fd = queue.open_queue(folder)
    except queue.Trouble:
        return SPLIT
    try:
        return queue.find_layout(fd).split or SPLIT
    except OSError:
        return SPLIT
    finally:
        os.close(fd)


def complaint(folder: bytes, error: OSError) -> bytes:
    """What the original says when it cannot begin."""
    if isinstance(error, Unreadable):
        return b"Oops! Trouble reading control/me."
    if not os.path.isdir(folder):
        return b"Oops! Unable to chdir to %s.\n" % folder
    if not os.access(folder + b"/control/.", os.X_OK):
        return b"Oops! Unable to chdir to control.\n"
    return b"Oops! Unable to open current directory.\n"


def as_json(build: Build, entries: list[Entry]) -> bytes:
    import json  # heavy, and for people who wait

    record = {**build.record(), "control": [entry.record() for entry in entries]}
    return json.dumps(record, indent=1).encode() + b"\n"


def report(folder: bytes, in_json: bool) -> int:
    """Print it; returns the exit code. Raises OSError if the output cannot be written."""
    build = Build(folder)
    try:
        entries = Files(folder).entries()
    except OSError as e:
        if in_json:
            return strerr.fail(strerr.LATER, PROGRAM, b"unable to read control", error=e)
        fds.write_all(STDOUT, build.text() + complaint(folder, e))
        return strerr.LATER
    if in_json:
        fds.write_all(STDOUT, as_json(build, entries))
    else:
        fds.write_all(STDOUT, build.text() + b"".join([entry.text() for entry in entries]))
    return 0


def main(argv: list[bytes], env: Env) -> int:
    try:
        letters, _ = options.parse(argv, b"j")
    except options.OptionError as e:
        strerr.say(b"%s: %s\n" % (PROGRAM, e.args[0]))
        return strerr.usage(PROGRAM, USAGE)
    try:
        return report(home.home(env), bool(letters))
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to write output", error=e)
