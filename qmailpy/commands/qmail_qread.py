"""NAME
    qmail-qread - list the messages in the queue

SYNOPSIS
    qmail-qread

DESCRIPTION
    qmail-qread prints each message that qmail-send has taken up, with its sender and recipients:

        5 Nov 2001 09:03:07 GMT  #2220372  1234  <joe@a.example>
        <TAB>local<TAB>alias-x@a.example
          done<TAB>remote<TAB>mary@b.example

    The first line has the time of arrival, the number of the message, its size in bytes and the sender. At its end
    stands ` bouncing` if some recipients have failed and the sender will be told. The others have the channel and the
    address of a recipient; `done` in front of it means that no more is to be done for it. Bytes that cannot be
    printed are shown as _. Messages that wait in todo are not listed.

    A message that cannot be read, as it has gone meanwhile, is a line of its own:

        warning: trouble with #2220372: file does not exist

ENVIRONMENT
    QMAILHOME    the home, /var/qmail if unset

EXIT STATUS
    0      done
    111    the queue could not be read; the reason is printed on descriptor 1, as the original does

SECURITY
    Only root and the owner of the queue may read it.

SEE ALSO
    qmail-qstat(8), qmail-queue(8), qmail-make-queue(8)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import received
from qmailpy.stores import queue
from qmailpy.stores.home import home
from qmailpy.unix import fds

PROGRAM = b"qmail-qread"

STDOUT = 1
_SHOWN = bytes(byte if 32 <= byte <= 126 else ord("_") for byte in range(256))


def _stopped(what: bytes, error: OSError) -> int:
    return _print(b"fatal: unable to " + what + b": " + strerr.reason(error) + b"\n") or strerr.LATER


def _print(text: bytes) -> int:
    try:
        fds.write_all(STDOUT, text)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to write output", error=e)
    return 0


def _trouble(number: int, error: OSError) -> bytes:
    return b"warning: trouble with #%d: %s\n" % (number, strerr.reason(error))


def describe(message: queue.Listed) -> bytes:
    """The lines of one message."""
    date = received.date822(message.birth).removesuffix(b" -0000")
    head = b"%s GMT  #%d  %d  <%s> " % (date, message.number, message.size, message.sender)
    lines = [(head + (b" bouncing" if message.bouncing else b"")).translate(_SHOWN) + b"\n"]
    for recipient in message.recipients:
        if isinstance(recipient, OSError):
            lines.append(_trouble(message.number, recipient))
            continue
        channel, done, address = recipient
        lines.append((b"  done\t" if done else b"\t") + channel + b"\t" + address.translate(_SHOWN) + b"\n")
    return b"".join(lines)


def _list(fd: int) -> int:
    try:
        layout = queue.find_layout(fd)
    except OSError as e:
        return _stopped(b"opendir mess", e)
    try:
        for number in queue.preprocessed(fd, layout):
            try:
                lines = describe(queue.look(fd, layout, number))
            except OSError as e:
                lines = _trouble(number, e)
            if _print(lines):
                return strerr.LATER
    except queue.Unlisted as e:
        return _stopped(b"opendir " + e.name, e)
    return 0


def main(argv: list[bytes], env: Env) -> int:
    try:
        fd = os.open(home(env) + b"/queue/.", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        return _stopped(b"chdir", e)
    try:
        return _list(fd)
    finally:
        os.close(fd)
