"""crypt - passwords and the hashes of crypt(5), by the system's libcrypt through ctypes.

Python's own module is gone since 3.13. Passwords are bytearrays; every copy made here is wiped.
"""

import ctypes
import os
from _operator import _compare_digest

SALT = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
METHODS = (b"$y$", b"$6$")  # for new hashes, the first that libcrypt knows


def _library() -> ctypes.CDLL:
    for name in ("libcrypt.so.1", "libcrypt.so.2", None):  # None: the C library itself, as with musl
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        if hasattr(library, "crypt"):
            return library
    raise ImportError("no libcrypt with crypt on this system")


_libcrypt = _library()

# Not crypt_r: its 32 kB of working memory would be fresh pages in each process, and its caller's to wipe. The
# static ones of crypt are wiped by libxcrypt itself, and there are no threads.
_crypt = _libcrypt.crypt
_crypt.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
_crypt.restype = ctypes.c_char_p


def _address(buffer: bytearray):  # type: ignore[no-untyped-def]
    return ctypes.byref(ctypes.c_char.from_buffer(buffer))


def crypt(password: bytearray, setting: bytes) -> bytes | None:
    """The hash of password by method and salt of setting (a hash does); None if setting is none of crypt(5)."""
    phrase = bytearray(len(password) + 1)
    phrase[:-1] = password
    hashed: bytes | None = _crypt(_address(phrase), setting)
    phrase[:] = bytes(len(phrase))
    return None if hashed is None or hashed.startswith(b"*") else hashed  # *0 and *1 are crypt's words for failure


def lacks_memory(setting: bytes) -> bool:
    """After crypt has returned None: whether libcrypt knows that kind of hash, so that memory must have been short
    (softlimit -m). Without libxcrypt's crypt_checksalt nobody can tell."""
    return hasattr(_libcrypt, "crypt_checksalt") and _libcrypt.crypt_checksalt(setting) == 0


def same(one: bytes | bytearray, other: bytes | bytearray) -> bool:
    """Whether two secrets are equal, in a time that does not depend on where they differ."""
    return _compare_digest(one, other)


def setting() -> bytes:
    """Method, cost and a fresh salt for a new hash: the best of METHODS, at libcrypt's own cost."""
    if hasattr(_libcrypt, "crypt_gensalt_rn"):
        made = ctypes.create_string_buffer(256)
        for method in METHODS:
            if _libcrypt.crypt_gensalt_rn(method, ctypes.c_ulong(0), None, 0, made, len(made)):
                return made.value
    return b"$6$" + bytes(SALT[byte & 63] for byte in os.urandom(16))


def make(password: bytearray) -> bytes:
    """A new hash of password. Raises OSError where libcrypt can make none."""
    hashed = crypt(password, setting())
    if hashed is None:
        raise OSError("crypt")
    return hashed
