"""vpopmail - names of accounts and domains, the texts of errors, and the small files of a domain: the counter that
hashes directories (.dir-control), and limits. Pure.

Names are lowered; only A-Z have lower case. A name is split at the first of the separators @, %, / that occurs in it
anywhere, there at its first occurrence.
"""

from qmailpy.formats import assign, vpasswd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

SEPARATORS = b"@%/"

USER_LENGTH = 64  # bytes
DOMAIN_LENGTH = 96
SHORTEST_DOMAIN = 3
SHORTEST_USER = 2  # one letter may be a hashed directory
TOP_LENGTHS = (2, 63)  # of the last label
SORTED_LABELS = 10  # of a domain
LABEL_LENGTH = 63  # RFC 1035 §2.3.4
DIR_LENGTH = 160
PASSWORD_LENGTH = 128
GECOS_LENGTH = 64
QUOTA_LENGTH = 20
ALIAS_LENGTH = 160

LETTERS = b"abcdefghijklmnopqrstuvwxyz"
DIGITS = b"0123456789"
DOMAIN_CHARACTERS = LETTERS + DIGITS + b"-."
USER_CHARACTERS = LETTERS + DIGITS + b"!#$&'*+-./=?^_`{|}~"
ENVIRONMENT_CHARACTERS = LETTERS + LETTERS.upper() + DIGITS + b"_-.@"  # of $VPOPMAIL_DOMAIN; others become _

# Files of a domain's own that an account of the name would have for its directory.
TAKEN = (b"vpasswd", b"cdb.tmp")

# Codes, as the originals' functions return them; a command exits with code & 255.
ILLEGAL_USERNAME = -1
USERNAME_EXISTS = -2
BAD_DIR = -3
BAD_DOMAINS_DIR = -5
BAD_DOMAIN_DIR = -6
USER_DIR_EXISTS = -7
BAD_USER_DIR = -8
NO_SUBDIRECTORIES = -9
NO_USER = -10
NO_DOMAIN = -11
INVALID_DOMAIN = -12
DOMAIN_EXISTS = -13
NO_DOMAIN_DIR = -14
NO_QMAIL_DEFAULT = -15
NO_DOMAINS_DIR = -16
NOT_UPDATED = -17
CRYPT_FAILED = -18
NO_DOT_QMAIL = -19
BAD_CHARACTER = -20
BAD_UID = -22
NO_DATABASE = -23
NO_MEMORY = -24
USER_TOO_LONG = -25
DOMAIN_TOO_LONG = -26
PASSWORD_TOO_LONG = -27
GECOS_TOO_LONG = -28
QUOTA_TOO_LONG = -29
DIR_TOO_LONG = -30
CLEAR_TOO_LONG = -31
ALIAS_TOO_LONG = -32
NULL_POINTER = -33
INVALID_EMAIL = -34
NO_LIMITS = -36
NO_ASSIGN = -37
CATCHALL_ACCOUNT = -55
PASSWORD_TOO_SHORT = -56

TEXT = {
    0: b"Success",
    ILLEGAL_USERNAME: b"Illegal username",
    USERNAME_EXISTS: b"Username exists",
    BAD_DIR: b"Unable to chdir to vpopmail directory",
    -4: b"Unable to chdir to vpopmail/users directory",
    BAD_DOMAINS_DIR: b"Unable to chdir to vpopmail/domains directory",
    BAD_DOMAIN_DIR: b"Unable to chdir to vpopmail/domains/domain directory",
    USER_DIR_EXISTS: b"User's directory already exists",
    BAD_USER_DIR: b"Unable to chdir to user's directory",
    NO_SUBDIRECTORIES: b"Creation of user's subdirectories failed",
    NO_USER: b"User does not exist",
    NO_DOMAIN: b"Domain does not exist",
    INVALID_DOMAIN: b"Invalid domain name",
    DOMAIN_EXISTS: b"Domain already exists",
    NO_DOMAIN_DIR: b"Could not make domain dir",
    NO_QMAIL_DEFAULT: b"Could not open qmail default",
    NO_DOMAINS_DIR: b"Can not make domains directory",
    NOT_UPDATED: b"Could not update file",
    CRYPT_FAILED: b"Crypt failed",
    NO_DOT_QMAIL: b"Could not open dot qmail file",
    BAD_CHARACTER: b"bad character",
    BAD_UID: b"running as invalid uid",
    NO_DATABASE: b"no authentication database connection",
    NO_MEMORY: b"memory allocation error",
    USER_TOO_LONG: b"user name too long (max=64)",
    DOMAIN_TOO_LONG: b"domain name too long (max=96)",
    PASSWORD_TOO_LONG: b"password too long (max=128)",
    GECOS_TOO_LONG: b"gecos too long (max=64)",
    QUOTA_TOO_LONG: b"quota too long (max=20)",
    DIR_TOO_LONG: b"dir too long (max=160)",
    CLEAR_TOO_LONG: b"clear password too long (max=128)",
    ALIAS_TOO_LONG: b"alias line too long (max=160)",
    NULL_POINTER: b"null pointer",
    INVALID_EMAIL: b"invalid email character",
    -35: b"parsing database configuration file",
    NO_LIMITS: b"can't read domain limits",
    NO_ASSIGN: b"can't read users/assign file",
    CATCHALL_ACCOUNT: b"can't delete catchall account",
    PASSWORD_TOO_SHORT: b"password too short",
}

HASHES = DIGITS + LETTERS.upper() + LETTERS  # the directories of one level, in the order of their use
PER_DIRECTORY = 100  # accounts, or domains
LEVELS = 3
LAST = len(HASHES) - 1
LARGEST_COUNT = 1 << 62

UNLIMITED = -1

# What a domain takes from all its accounts, as flags of vpasswd.
FORBIDDING = {
    b"disable_password_changing": vpasswd.NO_PASSWD_CHNG,
    b"disable_pop": vpasswd.NO_POP,
    b"disable_webmail": vpasswd.NO_WEBMAIL,
    b"disable_imap": vpasswd.NO_IMAP,
    b"disable_external_relay": vpasswd.NO_RELAY,
    b"disable_dialup": vpasswd.NO_DIALUP,
    b"disable_smtp": vpasswd.NO_SMTP,
    b"disable_spamassassin": vpasswd.NO_SPAMASSASSIN,
    b"delete_spam": vpasswd.DELETE_SPAM,
    b"disable_maildrop": vpasswd.NO_MAILDROP,
}

# Limits with a number, and what they are unless it is said.
LIMITS = {
    b"maxpopaccounts": UNLIMITED,
    b"maxaliases": UNLIMITED,
    b"maxforwards": UNLIMITED,
    b"maxautoresponders": UNLIMITED,
    b"maxmailinglists": UNLIMITED,
    b"quota": 0,  # MB
    b"maxmsgcount": 0,
    b"default_quota": 0,  # bytes
    b"default_maxmsgcount": 0,
    b"perm_account": 0,
    b"perm_alias": 0,
    b"perm_forward": 0,
    b"perm_autoresponder": 0,
    b"perm_maillist": 0,
    b"perm_quota": 0,
    b"perm_defaultquota": 0,
}
LIMIT_BLANKS = b" \t:"
LARGEST_LIMIT = (1 << 63) - 1


class Invalid(Exception):
    """A name, or another word, that cannot be. code: one of those above; said: what is said besides, on descriptor 2,
    or nothing."""

    def __init__(self, code: int, said: bytes = b"") -> None:
        super().__init__(code)
        self.code = code
        self.said = said

    @property
    def text(self) -> bytes:
        return text(self.code)


def text(code: int) -> bytes:
    """What the originals say of a code."""
    return TEXT.get(code, b"Unknown error")


def lowered(name: bytes) -> bytes:
    return name.lower()


def split(name: bytes, separators: bytes = SEPARATORS) -> tuple[bytes, bytes]:
    """User and domain of a name, lowered; the domain is empty where none of the separators is, which are tried in this
    order. Raises Invalid: there is a character that has no place there, or one of both is too long.

    The original cuts a name after 156 bytes, so that a longer one stands for another account."""
    lower = name.lower()
    for separator in separators:
        at = lower.find(separator)
        if at >= 0:
            break
    else:
        at = len(lower)
    user, domain = lower[:at], lower[at + 1 :]
    if user.translate(None, USER_CHARACTERS):
        raise Invalid(ILLEGAL_USERNAME, b"user invalid " + user)
    if domain.translate(None, DOMAIN_CHARACTERS):
        raise Invalid(INVALID_DOMAIN, b"domain invalid " + domain)
    if len(user) > USER_LENGTH:
        raise Invalid(USER_TOO_LONG)
    if len(domain) > DOMAIN_LENGTH:
        raise Invalid(DOMAIN_TOO_LONG)
    return user, domain


def user(name: bytes) -> bytes:
    """The lowered name of a new account. Raises Invalid.

    A name becomes that of a directory: the original takes `..` and `a/b`, and names of a domain's own files."""
    lower = name.lower()
    if len(lower) > USER_LENGTH:
        raise Invalid(USER_TOO_LONG)
    if (
        len(lower) < SHORTEST_USER
        or lower.translate(None, USER_CHARACTERS)
        or b"/" in lower
        or lower.startswith(b".")
        or any(lower == taken or lower.startswith(taken + b".") for taken in TAKEN)
    ):
        raise Invalid(ILLEGAL_USERNAME)
    return lower


def domain(name: bytes) -> bytes:
    """The lowered name of a new domain. Raises Invalid."""
    lower = name.lower()
    if len(lower) > DOMAIN_LENGTH:
        raise Invalid(DOMAIN_TOO_LONG)
    labels = lower.split(b".")
    shortest, longest = TOP_LENGTHS
    if (
        len(lower) < SHORTEST_DOMAIN
        or lower.translate(None, DOMAIN_CHARACTERS)
        or lower.startswith(b"-")
        or lower.endswith(b"-")
        or len(labels) < 2
        or any(not 0 < len(label) <= LABEL_LENGTH for label in labels)
        or not shortest <= len(labels[-1]) <= longest
    ):
        raise Invalid(INVALID_DOMAIN)
    return lower


def alias(name: bytes) -> bytes:
    """The lowered name of a new alias domain: as a domain's, but one without dot will do. Raises Invalid."""
    lower = name.lower()
    if b"." in lower:
        return domain(lower)
    if len(lower) > DOMAIN_LENGTH:
        raise Invalid(DOMAIN_TOO_LONG)
    if not lower or lower.translate(None, DOMAIN_CHARACTERS) or lower.startswith(b"-") or lower.endswith(b"-"):
        raise Invalid(INVALID_DOMAIN)
    return lower


def from_environment(word: bytes) -> bytes:
    """A domain out of the environment: whatever else there is becomes _."""
    odd = word.translate(None, ENVIRONMENT_CHARACTERS)
    return word.translate(bytes.maketrans(odd, b"_" * len(odd)))[:DOMAIN_LENGTH].lower()


def sort_key(line: bytes, is_assign: bool = False) -> bytes:
    """What the lines of control files and of users/assign are ordered by: for a domain b.example.com it is
    example.com.b. A name in users/assign is without its first character, + or =, and its last, the break.

    Of what stands before the last two labels the originals take the first and the second by turns, and no more than
    ten labels of all; files that both sides edit are to stay in one order."""
    name = line.partition(b":")[0]
    if is_assign:
        name = name[1:-1]
    labels = [label for label in name.split(b".") if label][:SORTED_LABELS]
    if len(labels) < 2:
        return name
    return b".".join(labels[-2:] + [labels[number % 2] for number in range(len(labels) - 2)])


def inserted(text: bytes, line: bytes, is_assign: bool = False) -> tuple[bytes, bool]:
    """text with line before the first one that is to be behind it; and whether the lines were out of order: then all
    are sorted. In users/assign, what begins with a dot stays the end. A line that is there is not added again."""
    lines, end = _lines(text, is_assign)
    keys = [sort_key(each, is_assign) for each in lines]
    disordered = keys != sorted(keys)
    if line not in lines:
        key = sort_key(line, is_assign)
        at = next((number for number, each in enumerate(keys) if each > key), len(lines))
        lines.insert(at, line)
        if disordered:
            lines.sort(key=lambda each: sort_key(each, is_assign))
    return b"".join(each + b"\n" for each in lines) + end, disordered


def without(text: bytes, lines: "Collection[bytes]", is_assign: bool = False) -> bytes:
    """text without each of these lines, which are in lower case: case and blanks at the end do not count. Of a line in
    users/assign only what is before the first colon counts."""
    found, end = _lines(text, is_assign)
    words = [(each.partition(b":")[0] if is_assign else each.rstrip()).lower() for each in found]
    kept = [each for each, word in zip(found, words, strict=True) if word not in lines]
    return text if len(kept) == len(found) else b"".join(each + b"\n" for each in kept) + end


def assigned(text: bytes, name: bytes) -> list[bytes]:
    """The lines that users/assign has for a domain."""
    lines, _ = _lines(text, True)
    word = b"+%s-" % name
    return [line for line in lines if line.partition(b":")[0].lower() == word]


def assign_line(name: bytes, real: bytes, uid: int, gid: int, folder: bytes) -> bytes:
    """The line of a domain, or alias domain, in users/assign."""
    return b"+%s-:%s:%d:%d:%s:-::" % (name, real, uid, gid, folder)


def _lines(text: bytes, is_assign: bool) -> tuple[list[bytes], bytes]:
    """The lines, and the end of users/assign with what is ignored behind it."""
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if not is_assign:
        return lines, b""
    for number, line in enumerate(lines):
        if line.startswith(assign.END):
            return lines[:number], b"".join(each + b"\n" for each in lines[number:])
    return lines, assign.END + b"\n"


class DirControl:
    """The counter of accounts, or of domains, by which directories are hashed: the first 99 have none, then each
    hundred has the next one of 0 to z, of 0/0 to z/z, of 0/0/0 to z/z/z.

    Its file has a line for each of: accounts; level now; levels; and, with a number for each level, first and last
    hash, where its character stands in the directory, which hash it is; and the directory. C programs read the
    third of three numbers wrong, as the second; so this does not go by it. Whatever else is wrong is taken for what
    it is in the beginning: the file is the domain's owner's, and the directory is made by root."""

    __slots__ = ("folder", "index", "level", "users")

    def __init__(self, data: bytes = b"") -> None:
        lines = data.split(b"\n")
        lines += [b""] * (2 * LEVELS + 2 - len(lines))
        self.users = min(_number(lines[0]), LARGEST_COUNT)
        self.level = 0
        self.folder = b""
        self.index = [0] * LEVELS
        parts = lines[7].rstrip(b"/").split(b"/")
        if len(parts) <= LEVELS and all(len(part) == 1 and part in HASHES for part in parts):
            self.folder = b"/".join(parts)
            self.level = len(parts) - 1
            words = lines[6].split()
            self.index = [
                min(_number(words[level]), LAST + 1) if level < min(len(words), 2) else HASHES.index(part)
                for level, part in enumerate(parts)
            ] + [0] * (LEVELS - len(parts))

    def build(self) -> bytes:
        first, last = b" ".join([b"0"] * LEVELS), b" ".join([b"%d" % LAST] * LEVELS)
        where = b" ".join(b"%d" % (2 * level) for level in range(LEVELS))
        index = b" ".join(b"%d" % number for number in self.index)
        head = b"%d\n%d\n%d\n" % (self.users, self.level, LEVELS)
        return head + b"".join(line + b"\n" for line in (first, last, where, index, self.folder))

    def add(self) -> bytes:
        """Count one more; the directory for it, empty for none."""
        self.users = min(self.users + 1, LARGEST_COUNT)
        if self.users % PER_DIRECTORY == 0:
            self._advance()
        return self.folder

    def remove(self) -> None:
        """Count one less. Its place is not used again."""
        self.users = max(self.users - 1, 0)

    def _advance(self) -> None:
        if not self.folder:
            self.folder = HASHES[:1]
            return
        characters = bytearray(self.folder)
        at_end = characters == HASHES[-1:] + b"/".join([b""] + [HASHES[-1:]] * self.level)
        level = self.level
        while level >= 0:  # as digits of a number
            where = HASHES.index(characters[2 * level]) + 1
            self.index[level] = min(self.index[level] + 1, LAST + 1)
            if where <= LAST:
                characters[2 * level] = HASHES[where]
                break
            characters[2 * level] = HASHES[0]
            self.index[level] = 0
            level -= 1
        if at_end and self.level < LEVELS - 1:
            self.level += 1
            self.index[self.level] = 1  # as C counts
            characters += b"/" + HASHES[:1]
        self.folder = bytes(characters)


class Limits:
    """What a domain may have. numbers: those of LIMITS; forbidden: flags of vpasswd."""

    __slots__ = ("forbidden", "numbers")

    def __init__(self, data: bytes = b"") -> None:
        self.numbers = dict(LIMITS)
        self.forbidden = 0
        for line in data.replace(b"\r", b"\n").split(b"\n"):
            words = line.translate(bytes.maketrans(LIMIT_BLANKS, b" " * len(LIMIT_BLANKS))).split(None, 1)
            if not words or line.startswith((b"#", b" ", b"\t", b":")):
                continue
            self.forbidden |= FORBIDDING.get(words[0], 0)
            if words[0] in LIMITS and len(words) == 2:
                self.numbers[words[0]] = _signed(words[1])


def _number(text: bytes) -> int:
    """As atoi(3), but never below 0."""
    return max(_signed(text), 0)


def _signed(text: bytes) -> int:
    """As strtoll(3)."""
    text = text.lstrip()
    sign = -1 if text.startswith(b"-") else 1
    digits = text[1:] if text[:1] in (b"-", b"+") else text
    digits = digits[: len(digits) - len(digits.lstrip(DIGITS))]
    return sign * min(int(digits[:20] or b"0"), LARGEST_LIMIT)
