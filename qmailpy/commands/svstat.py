"""NAME
    svstat - say what state services are in

SYNOPSIS
    svstat [-jt] [DIR...]

DESCRIPTION
    svstat prints a line for each service directory DIR: whether the service is up, its process id, and for how many
    seconds it has been up or down.

        $ svstat /service/*
        /service/pop3d: up (pid 20210) 86312 seconds
        /service/qmtpd: down 12 seconds, normally up
        /service/smtpd: up (pid 20300) 2 seconds, want down

    What else there is to say follows:

    normally down    the service is up, but its directory has a file down: supervise would not start it by itself
    normally up      the service is down, and there is no such file
    paused           the service was stopped by `svc -p`
    want up          the service is down, and supervise is told to start it
    want down        the service is up, and supervise is told to end it

    If a DIR cannot be looked at, its line says why, such as `supervise not running`.

    svstat works with the supervise of this toolkit and with the original, and with that of daemontools-encore, of
    whose additions it shows nothing. Each DIR is relative to the directory where svstat was started.

OPTIONS
    -j    print JSON: an array of objects, one in each line. dir is the name; up is true or false, pid a number or
          null; seconds is what the line would have; since, in ISO 8601 and UTC, and tai64n say when the
          service last went up or down; paused is true or false; want is up, down or once, which is what `svc -o`
          leaves; normally is up or down; script is the script that runs, such as run or finish, and null
          for a supervise that does not say that. If DIR cannot be looked at there is nothing but dir and error. What
          is not known, or cannot be, is null. Bytes that are not UTF-8 are the escapes \\udc80 to \\udcff.
    -t    begin each line with the time when the service last went up or down, as a TAI64N label and a space, for
          tai64nlocal; not those lines that say only what failed

EXIT STATUS
    0      done, also if a DIR could not be looked at
    100    wrong usage
    111    the current directory cannot be used, or the output could not be written

BUGS
    A DIR that begins with a hyphen needs ./ before it. The original has no options.

    A process that forks and goes into the background seems to be down: see fghack(8).

    If the clock is set back, the time of the last change may be to come; the seconds are then 0.

SEE ALSO
    supervise(8), svc(8), svok(8), svscan(8), tai64nlocal(8)
"""

import os
import time

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import options, svstatus, tai64n
from qmailpy.stores import services
from qmailpy.stores.services import State
from qmailpy.unix import fds

PROGRAM = b"svstat"
USAGE = b"svstat [ -jt ] [ dir ... ]"

STDOUT = 1
WANTED = {svstatus.UP: "up", svstatus.DOWN: "down", svstatus.ONCE: "once"}
YEAR_10000 = 253_402_300_800  # seconds since 1970; no date of four digits is later


def _line(directory: bytes, start: int, labelled: bool) -> bytes:
    try:
        state = services.look(directory, start)
    except services.Unknown as e:
        return b"%s: %s\n" % (directory, e.text)
    label = b"@%s " % state.stamp.hex().encode() if labelled else b""
    return b"%s%s: %s\n" % (label, directory, state.describe(time.time_ns()))


def _text(outside: bytes) -> str:
    return outside.decode("utf-8", "surrogateescape")


def since(when: int) -> str | None:
    """The second, in ISO 8601; when in nanoseconds since 1970. None for a year that has more than four digits or is
    before 1970: a status file may hold any bytes."""
    seconds = when // tai64n.SECOND
    if not 0 <= seconds < YEAR_10000:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def facts(state: State, now: int) -> dict[str, object]:
    """What -j says of a service, but its name; now in nanoseconds since 1970."""
    status = state.status
    return {
        "up": status.pid != 0,
        "pid": status.pid or None,
        "seconds": svstatus.seconds(status, now),
        "since": since(status.when),
        "tai64n": "@" + state.stamp.hex(),
        "paused": status.pid != 0 and status.paused,
        "want": WANTED.get(status.want),
        "normally": "up" if state.normally_up else "down",
        "script": None if state.script is None else _text(state.script),
    }


def _object(directory: bytes, start: int) -> dict[str, object]:
    try:
        found = facts(services.look(directory, start), time.time_ns())
    except services.Unknown as e:
        found = {"error": _text(e.text)}
    return {"dir": _text(directory), **found}


def _json(directories: list[bytes], start: int) -> bytes:
    import json  # imports re, which is more than all the rest

    return b"[%s]\n" % ",\n ".join(json.dumps(_object(each, start)) for each in directories).encode()


def main(argv: list[bytes], env: Env) -> int:
    try:
        given, directories = options.parse(argv, b"jt")
    except options.OptionError as e:
        strerr.say(b"%s: %s\n" % (PROGRAM, e.args[0]))
        return strerr.usage(PROGRAM, USAGE)
    try:
        start = services.open_start()
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to open current directory", error=e)
    try:
        if (b"j", b"") in given:
            text = _json(directories, start)
        else:
            text = b"".join([_line(each, start, labelled=(b"t", b"") in given) for each in directories])
        fds.write_all(STDOUT, text)
    except services.Lost as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to set directory", error=e.error)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to write output", error=e)
    finally:
        os.close(start)
    return 0
