"""ucspitls - UCSPI-TLS: the variables that name its descriptors, and what goes over its control socket. Pure.

A server starts a program on the raw connection with three more descriptors. If the program wants TLS it writes one byte
on the control socket, START or TELL, and is told the SSL_* variables after TELL, once the handshake is done:

    NAME=VALUE NUL NAME=VALUE NUL NUL        or, where there are none:        NUL NUL

From then on what is decrypted is read from the second descriptor, and what is to be encrypted is written on the third.
A control socket that ends without a byte: TLS is not wanted. One that ends before the answer does: there is none.
"""

from _collections_abc import Mapping

from qmailpy.formats import sslenviron

CONTROL, READING, WRITING = NAMES = (b"SSLCTLFD", b"SSLREADFD", b"SSLWRITEFD")

START = b"y"  # bytes that a program writes
TELL = b"Y"

LIMIT = 1 << 17  # bytes of an answer: two chains of certificates, and room

NAME_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

DIGITS = 9  # of a descriptor's number, at most


class Malformed(Exception):
    """The other side does not speak UCSPI-TLS."""


class Descriptors:
    """Their numbers; reading and writing may be the same."""

    __slots__ = ("control", "reading", "writing")

    def __init__(self, control: int, reading: int, writing: int) -> None:
        self.control = control
        self.reading = reading
        self.writing = writing

    def variables(self) -> dict[bytes, bytes]:
        """For the program's environment."""
        numbers = (self.control, self.reading, self.writing)
        return {name: b"%d" % number for name, number in zip(NAMES, numbers, strict=True)}


def named(env: Mapping[bytes, bytes]) -> Descriptors | None:
    """The descriptors that env names; None if it names no control socket. Raises Malformed."""
    if CONTROL not in env:
        return None
    words = [env.get(name, b"") for name in NAMES]
    if not all(word.isdigit() and len(word) <= DIGITS for word in words):
        raise Malformed
    return Descriptors(*map(int, words))


def without(env: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """env as it is for those who are not to know of the descriptors."""
    return {name: value for name, value in env.items() if name not in NAMES}


def build(variables: Mapping[bytes, bytes]) -> bytes:
    """The answer to TELL. Raises ValueError for a variable that cannot be told."""
    for name, value in variables.items():
        if not _is_good(name) or b"\0" in value:
            raise ValueError(name)
    return b"".join([b"%b=%b\0" % pair for pair in variables.items()] or [b"\0"]) + b"\0"


def _is_good(name: bytes) -> bool:
    described = name in sslenviron.NAMES or name.startswith(sslenviron.PREFIXES)
    return described and not name.strip(NAME_BYTES)


class Answer:
    """The answer as it comes. `variables` is set once it is whole."""

    __slots__ = ("_text", "variables")

    def __init__(self) -> None:
        self._text = b""
        self.variables: dict[bytes, bytes] | None = None

    def feed(self, block: bytes) -> None:
        """Raises Malformed: too long, or not made of variables. What comes behind the answer is not looked at."""
        self._text += block
        end = self._text.find(b"\0\0")
        if end < 0:
            if len(self._text) > LIMIT:
                raise Malformed
            return
        self.variables = {}
        for field in self._text[:end].split(b"\0") if end else []:
            name, equals, value = field.partition(b"=")
            if not equals:
                raise Malformed
            if _is_good(name):  # whoever is at the other end may say what TLS is like, and not set RELAYCLIENT
                self.variables[name] = value
