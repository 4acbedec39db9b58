"""nss - getpwnam(3) and getspnam(3), through ctypes: files, LDAP, whatever nsswitch.conf(5) names.

Python's pwd takes a failed look-up for an unknown name, and its spwd is gone since 3.13. Here None is an
unknown name, and OSError a database that could not be asked.
"""

import ctypes
import errno
import os

_libc = ctypes.CDLL(None)

SHADOW = b"/etc/shadow"
LARGEST = 1 << 20  # bytes of buffer for one entry

SOMEBODY = b"root"

# What the _r functions return for a name that nobody has. getpwnam_r(3) has ENOENT among these; but with glibc it is a
# database that could not be asked, such as LDAP without its daemon: its users must not be taken for nobody.
UNKNOWN = frozenset({0, errno.ESRCH})
UNKNOWN_SHADOW = UNKNOWN | {errno.ENOENT}  # there may be no shadow file


class _Passwd(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("password", ctypes.c_char_p),
        ("uid", ctypes.c_uint),
        ("gid", ctypes.c_uint),
        ("gecos", ctypes.c_char_p),
        ("home", ctypes.c_char_p),
        ("shell", ctypes.c_char_p),
    )


class _Shadow(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("password", ctypes.c_char_p),
        ("changed", ctypes.c_long),
        ("minimum", ctypes.c_long),
        ("maximum", ctypes.c_long),
        ("warning", ctypes.c_long),
        ("inactive", ctypes.c_long),
        ("expires", ctypes.c_long),
        ("flag", ctypes.c_ulong),
    )


def _declared(function: "ctypes._NamedFuncPointer") -> "ctypes._NamedFuncPointer":
    function.argtypes = (
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_void_p),
    )
    return function


# Declared once: at each call that would cost more than the call.
_getpwnam_r = _declared(_libc.getpwnam_r)
_getspnam_r = _declared(_libc.getspnam_r)


def _ask(function, name: bytes, entry, unknown: frozenset[int]):  # type: ignore[no-untyped-def]
    """The fields of the entry for name, in order; None: unknown."""
    size = 4096
    while True:
        strings = ctypes.create_string_buffer(size)
        found = ctypes.c_void_p()
        code = function(name, ctypes.byref(entry), strings, size, ctypes.byref(found))
        if code == errno.ERANGE and size < LARGEST:
            size *= 4
            continue
        fields = tuple(getattr(entry, field[0]) for field in entry._fields_) if found else None
        ctypes.memset(strings, 0, size)
        if fields is None and code not in unknown:
            raise OSError(code, "")
        return fields


def prepare() -> None:
    """What the first look-up of a process does besides: read nsswitch.conf, load what that names."""
    try:
        passwd(SOMEBODY)
    except OSError:
        pass


def passwd(name: bytes):  # type: ignore[no-untyped-def]
    """(name, password, uid, gid, gecos, home, shell) of passwd(5), or None. Raises OSError."""
    return _ask(_getpwnam_r, name, _Passwd(), UNKNOWN)


def shadow(name: bytes):  # type: ignore[no-untyped-def]
    """(name, password, changed, minimum, maximum, warning, inactive, expires, flag) of shadow(5), days since
    1970 and -1 for an empty field; or None. Raises OSError.

    An unprivileged caller may be told of no entry, or of one made up by a service: where the shadow file is
    not for us to read, that is EACCES.
    """
    if not os.access(SHADOW, os.R_OK, effective_ids=True) and os.path.exists(SHADOW):
        raise OSError(errno.EACCES, "")
    return _ask(_getspnam_r, name, _Shadow(), UNKNOWN_SHADOW)
