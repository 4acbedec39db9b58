"""strerr - what a program says on descriptor 2 before it ends, and which code it ends with.

One line, `program: severity: text: reason`, the form of the originals. The reasons are the originals'
own texts and not strerror(3)'s, because log watchers look for them (error_str of ucspi-tcp).

Exit codes: 0 done, 100 never, 111 later.
"""

import errno
import os

NEVER = 100
LATER = 111

STDERR = 2

REASONS = {
    0: b"no error",
    errno.EINTR: b"interrupted system call",
    errno.ENOMEM: b"out of memory",
    errno.ENOENT: b"file does not exist",
    errno.ETXTBSY: b"text busy",
    errno.EIO: b"input/output error",
    errno.EEXIST: b"file already exists",
    errno.ETIMEDOUT: b"timed out",
    errno.EINPROGRESS: b"operation in progress",
    errno.EAGAIN: b"temporary failure",
    errno.EPIPE: b"broken pipe",
    errno.EPERM: b"permission denied",
    errno.EACCES: b"access denied",
    errno.ENXIO: b"device not configured",
    errno.EPROTO: b"protocol error",
    errno.EISDIR: b"is a directory",
    errno.ESRCH: b"no such process",
    errno.E2BIG: b"argument list too long",
    errno.ENOEXEC: b"exec format error",
    errno.EBADF: b"file descriptor not open",
    errno.ECHILD: b"no child processes",
    errno.EDEADLK: b"operation would cause deadlock",
    errno.EFAULT: b"bad address",
    errno.ENOTBLK: b"not a block device",
    errno.EBUSY: b"device busy",
    errno.EXDEV: b"cross-device link",
    errno.ENODEV: b"device does not support operation",
    errno.ENOTDIR: b"not a directory",
    errno.EINVAL: b"invalid argument",
    errno.ENFILE: b"system cannot open more files",
    errno.EMFILE: b"process cannot open more files",
    errno.ENOTTY: b"not a tty",
    errno.EFBIG: b"file too big",
    errno.ENOSPC: b"out of disk space",
    errno.ESPIPE: b"unseekable descriptor",
    errno.EROFS: b"read-only file system",
    errno.EMLINK: b"too many links",
    errno.EDOM: b"input out of range",
    errno.ERANGE: b"output out of range",
    errno.EALREADY: b"operation already in progress",
    errno.ENOTSOCK: b"not a socket",
    errno.EDESTADDRREQ: b"destination address required",
    errno.EMSGSIZE: b"message too long",
    errno.EPROTOTYPE: b"incorrect protocol type",
    errno.ENOPROTOOPT: b"protocol not available",
    errno.EPROTONOSUPPORT: b"protocol not supported",
    errno.ESOCKTNOSUPPORT: b"socket type not supported",
    errno.EOPNOTSUPP: b"operation not supported",
    errno.EPFNOSUPPORT: b"protocol family not supported",
    errno.EAFNOSUPPORT: b"address family not supported",
    errno.EADDRINUSE: b"address already used",
    errno.EADDRNOTAVAIL: b"address not available",
    errno.ENETDOWN: b"network down",
    errno.ENETUNREACH: b"network unreachable",
    errno.ENETRESET: b"network reset",
    errno.ECONNABORTED: b"connection aborted",
    errno.ECONNRESET: b"connection reset",
    errno.ENOBUFS: b"out of buffer space",
    errno.EISCONN: b"already connected",
    errno.ENOTCONN: b"not connected",
    errno.ESHUTDOWN: b"socket shut down",
    errno.ETOOMANYREFS: b"too many references",
    errno.ECONNREFUSED: b"connection refused",
    errno.ELOOP: b"symbolic link loop",
    errno.ENAMETOOLONG: b"file name too long",
    errno.EHOSTDOWN: b"host down",
    errno.EHOSTUNREACH: b"host unreachable",
    errno.ENOTEMPTY: b"directory not empty",
    errno.EUSERS: b"too many users",
    errno.EDQUOT: b"disk quota exceeded",
    errno.ESTALE: b"stale NFS file handle",
    errno.EREMOTE: b"too many levels of remote in path",
    errno.ENOSYS: b"system call not available",
    errno.ENOLCK: b"no locks available",
    errno.ETIME: b"timer expired",
    errno.ENOSR: b"out of stream resources",
    errno.ENOSTR: b"not a stream device",
    errno.ENOMSG: b"no message of desired type",
    errno.EBADMSG: b"bad message type",
    errno.EIDRM: b"identifier removed",
    errno.ENONET: b"machine not on network",
    errno.ENOLINK: b"link severed",
    errno.EADV: b"advertise error",
    errno.ESRMNT: b"srmount error",
    errno.ECOMM: b"communication error",
    errno.EMULTIHOP: b"multihop attempted",
    errno.EREMCHG: b"remote address changed",
}

# error_temp of the originals: trying again may help.
TEMPORARY = frozenset({
    errno.EINTR, errno.ENOMEM, errno.ETXTBSY, errno.EIO, errno.ETIMEDOUT, errno.EAGAIN, errno.EDEADLK,
    errno.EBUSY, errno.ENFILE, errno.EMFILE, errno.EFBIG, errno.ENOSPC, errno.ENETDOWN, errno.ENETUNREACH,
    errno.ENETRESET, errno.ECONNABORTED, errno.ECONNRESET, errno.ENOBUFS, errno.ETOOMANYREFS,
    errno.ECONNREFUSED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EUSERS, errno.EDQUOT, errno.ESTALE,
    errno.ENOLCK,
})  # fmt: skip


def reason(error: OSError) -> bytes:
    """The originals' text for an errno; `unknown error` where they have none."""
    return REASONS.get(error.errno or 0, b"unknown error")


def error_temp(error: OSError) -> bool:
    """Whether trying again may help (error_temp of qmail)."""
    return error.errno in TEMPORARY


def line(program: bytes, severity: bytes, parts: tuple[bytes, ...], error: OSError | None = None) -> bytes:
    """`program: severity: parts` and, with an error, `: reason`; ends in a newline."""
    text = b"%s: %s: %s" % (program, severity, b"".join(parts))
    return text + (b": " + reason(error) if error is not None else b"") + b"\n"


def say(text: bytes) -> None:
    """Write one line on descriptor 2. A descriptor that is closed or full is nobody's reason to fail; one whose reader
    has died ends by SIGPIPE whoever does not ignore that, as in C."""
    try:
        os.write(STDERR, text)
    except OSError:
        pass


def warn(program: bytes, *parts: bytes, error: OSError | None = None) -> None:
    """Say `program: warning: parts[: reason]`."""
    say(line(program, b"warning", parts, error))


def fail(code: int, program: bytes, *parts: bytes, error: OSError | None = None) -> int:
    """Say `program: fatal: parts[: reason]` and return the exit code, for `return strerr.fail(...)`."""
    say(line(program, b"fatal", parts, error))
    return code


def usage(program: bytes, text: bytes) -> int:
    """Say `program: usage: text` and return 100."""
    say(line(program, b"usage", (text,)))
    return NEVER
