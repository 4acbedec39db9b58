"""starttls - a program asks for TLS on its connection, from whoever has the key: the program's side of UCSPI-TLS.

It never sees a key, and no library of TLS is loaded here: what is on 0 and 1 afterwards has been decrypted elsewhere.
"""

import errno
import os
import select
import stat
import time

from qmailpy import strerr
from qmailpy.formats import ucspitls
from qmailpy.unix import fds

HANDSHAKE_S = 300  # whoever shakes hands gives up earlier

BLOCK = 4096  # bytes of an answer


class Failed(ConnectionError):
    """The connection is lost."""


class Offer:
    """TLS may be started, once. who is the program, for what it says on descriptor 2."""

    __slots__ = ("_control", "_others", "_who")

    def __init__(self, who: bytes, found: ucspitls.Descriptors) -> None:
        """The next program is not to have them. Raises OSError if they are not what they should be."""
        self._who = who
        self._control = found.control
        self._others = (found.reading, found.writing)
        for fd in (self._control, *self._others):
            if fd <= 2:
                raise OSError(errno.EBADF, "")
            fds.keep(fd)
        if not stat.S_ISSOCK(os.fstat(self._control).st_mode):
            raise OSError(errno.ENOTSOCK, "")

    def holds(self) -> bool:
        """Whether there still is somebody who would do it: to be asked before the client is told to begin."""
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        if not poller.poll(0):
            return True
        strerr.warn(self._who, b"unable to start TLS: nobody is left on SSLCTLFD")
        return False

    def decline(self) -> None:
        """It will not be."""
        for fd in {self._control, *self._others}:
            os.close(fd)

    def start(self) -> dict[bytes, bytes]:
        """Wait for the handshake, and put what is decrypted on 0 and 1. Returns what TLS is like, as variables.

        The client must have been told before, and what it has sent until then must have been thrown away. Raises
        Failed, without a word if it is the handshake that has. The offer is over in any case."""
        try:
            variables = self._ask()
            fds.copy(self._others[0], 0)
            fds.copy(self._others[1], 1)
        except (BrokenPipeError, ConnectionResetError):
            raise Failed
        except (ucspitls.Malformed, OSError) as e:
            text = strerr.reason(e) if isinstance(e, OSError) else b"SSLCTLFD does not speak UCSPI-TLS"
            strerr.warn(self._who, b"unable to start TLS: ", text)
            raise Failed
        finally:
            self.decline()
        return variables

    def _ask(self) -> dict[bytes, bytes]:
        os.write(self._control, ucspitls.TELL)
        answer = ucspitls.Answer()
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        until = time.monotonic() + HANDSHAKE_S
        while answer.variables is None:
            if not poller.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError(errno.ETIMEDOUT, "")
            block = os.read(self._control, BLOCK)
            if not block:
                raise BrokenPipeError(errno.EPIPE, "")
            answer.feed(block)
        return answer.variables


def begun(env: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """env as it should be where TLS has begun before the program. From 0.9 on, ucspi-ssl names the descriptors in any
    case, and SSL_PROTOCOL only with -s; but those for reading and writing have become 0 and 1 then, and are closed."""
    try:
        found = ucspitls.named(env)
        if found is None or not stat.S_ISSOCK(os.fstat(found.control).st_mode):
            return env
        fds.keep(found.control)
    except (ucspitls.Malformed, OSError):  # which offered says
        return env
    for fd in (found.reading, found.writing):
        try:
            os.fstat(fd)
        except OSError:
            continue
        return env
    return {**ucspitls.without(env), b"SSL": b"1"}


def offered(who: bytes, env: dict[bytes, bytes]) -> Offer | None:
    """The offer that env speaks of. One that cannot be used is none, which is said on descriptor 2."""
    try:
        found = ucspitls.named(env)
        return None if found is None else Offer(who, found)
    except (ucspitls.Malformed, OSError) as e:
        text = strerr.reason(e) if isinstance(e, OSError) else b"no number"
        strerr.warn(who, b"unable to use SSLCTLFD: ", text)
        return None
