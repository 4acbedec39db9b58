"""NAME
    envdir - run a program with variables from files in its environment

SYNOPSIS
    envdir DIR PROGRAM [ARG...]

DESCRIPTION
    envdir changes the environment as the files in DIR say, and runs PROGRAM, found along PATH. Each file is a
    variable of its name:

    a line of text    the variable is set to the first line of the file, without the spaces and tabs at its end. A NUL
                      in it becomes a newline
    an empty line     the variable is set to the empty string
    nothing at all    the variable is removed: a file of 0 bytes

    Files whose names begin with a dot are skipped. All other variables stay as they are, and so does the working
    folder.

        echo 20000000 >env/DATABYTES
        exec envdir ./env tcpserver ...

    PROGRAM is looked for along the PATH that envdir was started with, not along one from DIR.

EXIT STATUS
    That of PROGRAM.

    111    wrong usage, DIR or a file in it could not be read, or PROGRAM could not be run

SECURITY
    Files can be closed to others; a command line cannot. But PROGRAM, and all that it runs, has the variables.

BUGS
    Anything in DIR is read, so a folder there ends in an error. A name is not checked: a file called A=B sets A,
    to B= and the first line, or to B if it is empty.

SEE ALSO
    envuidgid(8), setuidgid(8), softlimit(8), environ(7)
"""

import os
from _collections_abc import Iterator

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import envdir

PROGRAM = b"envdir"
USAGE = b"envdir dir child"
BLOCK = 4096  # bytes

FOLDER = os.O_DIRECTORY | os.O_CLOEXEC


class Unreadable(Exception):
    """args: bytes, what could not be read, and the OSError."""


def _open(folder: bytes) -> int:
    """A descriptor for folder. Raises Unreadable: as if by chdir(2) and opendir(3), the original's, but the working
    folder is left alone; it need not be readable."""
    what = b"switch to"
    try:
        place = os.open(folder, os.O_PATH | FOLDER)
        try:
            os.stat(b".", dir_fd=place)  # chdir(2) asks for permission to search
            what = b"read"
            return os.open(b".", os.O_RDONLY | FOLDER, dir_fd=place)
        finally:
            os.close(place)
    except OSError as e:
        raise Unreadable(b"%s directory %s" % (what, folder), e) from None


def _read(name: bytes, dir_fd: int) -> bytes:
    """A file, at least to the end of its first line. Raises OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        blocks = [os.read(fd, BLOCK)]
        while blocks[-1] and b"\n" not in blocks[-1]:
            blocks.append(os.read(fd, BLOCK))
        return b"".join(blocks)
    finally:
        os.close(fd)


def _variables(folder: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Each variable that folder has a file for, in its order. Raises Unreadable."""
    fd = _open(folder)
    try:
        try:
            names = [os.fsencode(name) for name in os.listdir(fd)]
        except OSError as e:
            raise Unreadable(b"read directory " + folder, e) from None
        for name in names:
            if name.startswith(b"."):
                continue
            try:
                yield envdir.variable(name, _read(name, fd))
            except FileNotFoundError:  # gone, or a link to nowhere: as if it were not listed
                continue
            except OSError as e:
                raise Unreadable(b"read %s/%s" % (folder, name), e) from None
    finally:
        os.close(fd)


def main(argv: list[bytes], env: Env) -> int | Exec:
    if len(argv) < 3:
        strerr.usage(PROGRAM, USAGE)
        return strerr.LATER  # as the original
    try:
        for name, value in _variables(argv[1]):
            if value is None:
                env.pop(name, None)
            else:
                env[name] = value
    except Unreadable as e:
        what, error = e.args
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to ", what, error=error)
    return Exec(argv[2:], env, who=PROGRAM)
