"""NAME
    splogger - pass lines on to the local log service

SYNOPSIS
    splogger [-5j] [-s SOCKET] [TAG [FACILITY]]

DESCRIPTION
    splogger reads lines from descriptor 0 and gives each to syslogd(8), as syslog(3) does, with the name TAG,
    `splogger` if nothing is said, and the facility of the number FACILITY: 2, which is mail, if nothing is said.
    In front of the text it puts the time, as seconds since 1970 and microseconds:

        Nov 27 16:01:36 qmail: 1795795296.102299 new msg 53

    The priority is `warning` for a line that begins with `warning:`, `alert` for one that begins with `alert:`, and
    else `info`. Bytes outside the printable ones of ASCII become question marks. Empty lines are dropped. A line of
    more than 799 bytes is passed on in pieces, with the same time; from the second on a plus sign stands behind
    the time in place of the space.

    A service that is missing, or does not read, holds nobody up: after five seconds a line is lost. splogger says
    so once on descriptor 2, and tries again with each line. When the service is back it says there, and to the
    service, how many lines were lost.

OPTIONS
    -5           send what RFC 5424 describes in place of the traditional form. The time is in a field of its own
                 there, and not in front of the text; pieces of a long line begin with a plus sign
    -j           send to systemd's journal, in its own form. The time is as with -5. Without -j the lines come there
                 too, as a system with systemd makes /dev/log a socket of the journal
    -s SOCKET    send to SOCKET, in place of /dev/log or, with -j, /run/systemd/journal/socket

ENVIRONMENT
    TZ    the time zone of the traditional form

EXIT STATUS
    0      the input has ended
    100    wrong usage

SEE ALSO
    multilog(8), tai64nlocal(8), syslogd(8), syslog(3), systemd-journald(8)
"""

import _socket
import errno
import os
import select
import time

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import numbers, options, syslog
from qmailpy.unix import timezone
from qmailpy.unix.timed import wait

PROGRAM = b"splogger"
USAGE = b"splogger [ -5j ] [ -s socket ] [tag [facility]]"

SYSLOG = b"/dev/log"
JOURNAL = b"/run/systemd/journal/socket"

STDIN = 0
BLOCK = 65536  # bytes
PATIENCE = 5.0  # seconds until a line is given up


class _Service:
    """The socket of the log service, which may go and come back. Its owner closes it."""

    __slots__ = ("_rest", "_socket", "_stream", "path")

    def __init__(self, path: bytes) -> None:
        self.path = path
        self._socket: _socket.socket | None = None
        self._stream = False
        self._rest = b""  # of a packet that is partly sent, on a stream: nothing else may come before it

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._rest = b""

    def send(self, packet: bytes, patience_s: float) -> None:
        """Send one packet, or raise OSError. A service that was restarted has a new socket: a connection of before
        is tried once, as syslog(3) does."""
        deadline = time.monotonic() + patience_s
        while True:
            fresh = self._socket is None
            connected = self._connected()
            try:
                self._send(connected, packet + b"\0" if self._stream else packet, deadline)
                return
            except TimeoutError:
                raise
            except OSError:
                self.close()
                if fresh:
                    raise

    def _connected(self) -> _socket.socket:
        """To a datagram socket, or else to a stream."""
        for kind in (_socket.SOCK_DGRAM, _socket.SOCK_STREAM):
            if self._socket is not None:
                break
            made = _socket.socket(_socket.AF_UNIX, kind)
            try:
                made.setblocking(False)
                made.connect(self.path)
            except OSError as e:
                made.close()
                if e.errno != errno.EPROTOTYPE or kind == _socket.SOCK_STREAM:
                    raise
            else:
                self._socket = made
                self._stream = kind == _socket.SOCK_STREAM
        assert self._socket is not None
        return self._socket

    def _send(self, connected: _socket.socket, packet: bytes, deadline: float) -> None:
        waiting = self._rest + packet
        while waiting:
            try:
                waiting = waiting[connected.send(waiting, _socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                try:
                    wait(connected.fileno(), select.POLLOUT, max(0.0, deadline - time.monotonic()))
                except TimeoutError:
                    if len(waiting) >= len(packet):
                        self._rest = waiting[: -len(packet)]
                        raise
                    break
        self._rest = waiting


class _Splogger:
    """A form, the line that is passed on, and how many were lost."""

    __slots__ = ("facility", "form", "host", "lost", "number", "service", "started", "tag", "vain")

    def __init__(self, form: bytes, service: _Service, tag: bytes, facility: int) -> None:
        self.form = form
        self.service = service
        self.tag = tag
        self.facility = facility
        self.host = os.fsencode(os.uname().nodename)
        self.lost = 0
        self.started = 0  # nanoseconds since 1970, when the first piece of the line was sent; 0: none yet
        self.number = 0  # priority and facility of that line
        self.vain = False  # a piece of that line was lost: so are the others

    def run(self) -> None:
        rest = b""
        while block := self._read():
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                self._end(line)
            rest = self._pieces(rest)
        self._end(rest)
        if self.lost:
            strerr.warn(PROGRAM, b"%d lines are lost" % self.lost)

    def _read(self) -> bytes:
        try:
            return os.read(STDIN, BLOCK)
        except OSError:  # as at its end
            return b""

    def _end(self, line: bytes) -> None:
        last = self._pieces(line)
        if last:
            self._pass_on(last)
        self.started = 0

    def _pieces(self, text: bytes) -> bytes:
        """Pass on all pieces of text but the last, which is returned."""
        last = max(0, len(text) - 1) // syslog.LONGEST * syslog.LONGEST
        for at in range(0, last, syslog.LONGEST):
            self._pass_on(text[at : at + syslog.LONGEST])
        return text[last:]

    def _pass_on(self, text: bytes) -> None:
        mark = b"+"
        if not self.started:
            mark = b" "
            self.started = time.time_ns()
            self.number = syslog.priority(text) | self.facility
            self.vain = False
        if self.vain:
            return
        patience_s = 0.0 if self.lost else PATIENCE
        try:
            if self.lost:
                report = b"warning: %d lines were lost here" % self.lost
                self.service.send(self._packet(syslog.WARNING | self.facility, b" ", report), patience_s)
                strerr.warn(PROGRAM, b"%d lines were lost" % self.lost)
                self.lost = 0
            self.service.send(self._packet(self.number, mark, syslog.printable(text)), patience_s)
        except OSError as e:
            if not self.lost:
                strerr.warn(PROGRAM, b"unable to write to ", self.service.path, b", lines are lost", error=e)
            self.lost += 1
            self.vain = True

    def _packet(self, number: int, mark: bytes, text: bytes) -> bytes:
        seconds, microseconds = divmod(self.started // 1000, 1000000)
        if self.form == b"":
            stamp = b"%d.%06d" % (seconds, microseconds)
            return syslog.bsd(number, time.localtime(), self.tag, stamp + mark + text)
        utc = time.gmtime(seconds)
        if mark == b"+":
            text = mark + text
        if self.form == b"5":
            return syslog.rfc5424(number, utc, microseconds, self.host, self.tag, text)
        return syslog.journal(number, utc, microseconds, self.tag, text)


def main(argv: list[bytes], env: Env) -> int | Exec:
    try:
        letters, words = options.parse(argv, b"5js:")
    except options.OptionError as e:
        strerr.say(b"%s: %s\n" % (PROGRAM, e.args[0]))
        return strerr.usage(PROGRAM, USAGE)
    form, path = b"", b""
    for letter, argument in letters:
        if letter == b"s":
            path = argument
        else:
            form = letter
    tag = words[0] if words else PROGRAM
    facility = syslog.facility(numbers.scan(words[1])[0]) if len(words) > 1 else syslog.MAIL
    timezone.follow(env)
    service = _Service(path or (JOURNAL if form == b"j" else SYSLOG))
    try:
        _Splogger(form, service, tag, facility).run()
    finally:
        service.close()
    return 0
