"""administration - what the commands for accounts have in common: whom a name means, passwords, and how they end.

They say what is wrong on descriptor 1, and end with the code of formats.vpopmail & 255, as the originals."""

import json  # now: whose rights we have later may not be enough for this Python's library
import os

from qmailpy import __version__, strerr
from qmailpy.formats import fd3, getopt, maildirsize, vpopmail
from qmailpy.formats.options import OptionError
from qmailpy.stores.vpopmail import domains, settings
from qmailpy.unix import crypt, fds, recordlocks, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qmailpy.formats.vpasswd import Account
    from qmailpy.stores.vpopmail.domains import Domain
    from qmailpy.stores.vpopmail.vhome import Vhome

Words = tuple[list[tuple[bytes, bytes]], list[bytes]]

STDIN, STDOUT = 0, 1
CLEAR = b"clear-passwords"  # in VHOME/etc

MISUSE = 255  # the originals' -1

RANDOM_LENGTH = 12
RANDOM = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.@!#%*"

CONTROL = bytes(range(32)) + b"\x7f"
HARMLESS = bytes(63 if byte in CONTROL and byte not in b"\t\n" else byte for byte in range(256))  # ? for the others

NO_PASSWORD = b"Error: No password entered"
BOTH_PASSWORDS = b"Error: don't use -r option when giving password on command line"
NO_QUOTA = b"Error: quota not understood: say 10M, 10485760S,1000C or NOQUOTA"
BUSY = b"File busy try again later!\n"


class Stop(Exception):
    """The command ends with `code`; the lines of text, without the last LF, have been said, unless there are none."""

    def __init__(self, text: bytes, code: int = MISUSE) -> None:
        super().__init__(code)
        self.text = text
        self.code = code


def say(text: bytes) -> None:
    """One line, or several, on descriptor 1. What owners of domains have written into their files commands no terminal.
    Raises OSError."""
    fds.write_all(STDOUT, (text.translate(HARMLESS) if os.isatty(STDOUT) else text) + b"\n")


def objects(records: list[dict[str, object]]) -> bytes:
    """JSON: an object for each record, on a line of its own; without the last LF."""
    return b"\n".join([json.dumps(record, default=_string).encode() for record in records])


def _string(text: object) -> str:
    """Of what json does not know."""
    assert isinstance(text, bytes)
    return text.decode("utf-8", "backslashreplace")


def end(program: bytes, act: "Callable[[], int]") -> int:
    """Do act; its exit code, or that of what it ran into, which is said."""
    try:
        return _done(program, act)
    except OSError as e:
        return strerr.fail(strerr.LATER, program, b"unable to write output", error=e)


def _done(program: bytes, act: "Callable[[], int]") -> int:
    try:
        return act()
    except Stop as stop:
        if stop.text:
            say(stop.text)
        return stop.code
    except vpopmail.Invalid as invalid:
        if invalid.said:
            strerr.say(invalid.said + b"\n")
        say(b"Error: " + invalid.text)
        return invalid.code & 255
    except recordlocks.Busy:
        strerr.say(BUSY)
        return strerr.LATER
    except OSError as e:
        what = getattr(e, "complaint", b"") or b"unable to use " + os.fsencode(e.filename or "the domain")
        return strerr.fail(strerr.LATER, program, what, error=e)


def domain_of(vhome: "Vhome", name: bytes) -> "Domain":
    """The domain of a name. Raises Invalid: there is none."""
    domain = domains.find(vhome, name)
    if domain is None:
        raise vpopmail.Invalid(vpopmail.NO_DOMAIN)
    return domain


def account_of(vhome: "Vhome", env: dict[bytes, bytes], name: bytes) -> "tuple[bytes, Domain]":
    """The user that a name means, who may not be there, and the domain. Raises Invalid."""
    user, domain = vhome.split(name, env)
    return user, domain_of(vhome, domain)


def chosen(vhome: "Vhome", env: dict[bytes, bytes], name: bytes) -> "tuple[bytes | None, Domain]":
    """The user that a name means, and the domain; without an @ it is that of a domain, and None stands for all users.
    Raises Invalid."""
    if b"@" in name:
        return account_of(vhome, env, name)
    return None, domain_of(vhome, name)


def options(program: bytes, argv: list[bytes], letters: bytes, help: bytes) -> Words:
    """As getopt.parse, with -v for the version. Raises Stop: they are wrong."""
    try:
        found, words = getopt.parse(argv, letters)
    except OptionError as e:
        strerr.say(program + b": " + e.args[0] + b"\n")
        raise Stop(help)
    if any(letter == b"v" for letter, _ in found):
        say(b"version: " + __version__.encode())
    return [option for option in found if option[0] != b"v"], words


def length(argument: bytes) -> int:
    """Of a random password, as -r has it. Raises Invalid."""
    digits = argument[: len(argument) - len(argument.lstrip(vpopmail.DIGITS))]
    wanted = int(digits[:6] or b"0") if argument else RANDOM_LENGTH
    if wanted > vpopmail.PASSWORD_LENGTH:
        raise vpopmail.Invalid(vpopmail.PASSWORD_TOO_LONG)
    return wanted or RANDOM_LENGTH


def random(length: int) -> bytearray:
    """A new password."""
    password = bytearray()
    while len(password) < length:
        password += bytes(byte for byte in os.urandom(length) if byte < len(RANDOM)).translate(RANDOM.ljust(256))
    return password[:length]


def password(word: bytes | None, address: bytes) -> bytearray:
    """The password that a word of the command line stands for: itself; `-` for a line of descriptor 0, or, as if there
    were no word, an answer on the terminal, asked twice. Raises Stop: it is empty; Invalid; OSError."""
    if word is None or (word == b"-" and os.isatty(STDIN)):
        given = _asked(address)
    elif word == b"-":
        given = terminal.read_line(STDIN) or bytearray()
    else:
        given = bytearray(word)
    if not given:
        raise Stop(NO_PASSWORD)
    return given


def _asked(address: bytes) -> bytearray:
    while True:
        first = terminal.ask(b"Please enter password for %s: " % address)
        second = terminal.ask(b"enter password again: ") if first is not None else None
        if first is None or second is None:
            return bytearray()
        if first == second:
            return first
        say(b"Passwords do not match, try again")


def hashed(password: bytearray) -> bytes:
    """A new hash of password, which is overwritten. Raises Invalid."""
    try:
        if len(password) > vpopmail.PASSWORD_LENGTH:
            raise vpopmail.Invalid(vpopmail.PASSWORD_TOO_LONG)
        if 0 in password:
            raise vpopmail.Invalid(vpopmail.BAD_CHARACTER)
        return crypt.make(password)
    except OSError:
        raise vpopmail.Invalid(vpopmail.CRYPT_FAILED) from None
    finally:
        fd3.wipe(password)


def keeps_clear(vhome: "Vhome") -> bool:
    """Whether new passwords are kept as they are, too: etc/clear-passwords is there, and is not 0. APOP and CRAM-MD5
    need that."""
    return settings.Settings(vhome, {}).is_on(CLEAR)


def set_password(account: "Account", password: bytearray, kept: bool) -> None:
    """Have an account log in with another password, which is overwritten. It is kept as it is, too, if that is wanted,
    or was so before. Raises Invalid."""
    if account.clear or kept:
        account.clear = bytes(password)
    account.password = hashed(password)


def comment(word: bytes) -> bytes:
    """word, for the field gecos, which is shown on terminals. Raises Invalid."""
    if word.translate(None, CONTROL + b":") != word:
        raise vpopmail.Invalid(vpopmail.BAD_CHARACTER)
    return word


def crypt_of(word: bytes) -> bytes:
    """word, that somebody has given as a hash. Raises Invalid."""
    if word.translate(None, CONTROL + b": ") != word or not word.isascii():
        raise vpopmail.Invalid(vpopmail.BAD_CHARACTER)
    return word


def quota(text: bytes) -> bytes:
    """A quota as vpasswd has it. Raises Stop, Invalid."""
    try:
        made = maildirsize.checked(text).text()
    except ValueError:
        raise Stop(NO_QUOTA) from None
    if len(made) > vpopmail.QUOTA_LENGTH:
        raise vpopmail.Invalid(vpopmail.QUOTA_TOO_LONG)
    return made
