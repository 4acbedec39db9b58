"""NAME
    relay-ctrl-check - let an SMTP client relay who has logged in elsewhere

SYNOPSIS
    relay-ctrl-check PROGRAM [ARG...]

DESCRIPTION
    relay-ctrl-check stands before an SMTP server. If relay-ctrl-allow(8) has written down the client's address within
    the last RELAY_CTRL_EXPIRY seconds, it sets RELAYCLIENT, and USER and DOMAIN as they were at that login. It runs
    PROGRAM in any case:

        tcpserver 0 25 relay-ctrl-check qmail-smtpd

    If RELAYCLIENT is set already, by a rule of tcpserver's, nothing is looked up. The file of an address whose time is
    over is removed.

    Trouble is told on descriptor 2; the client does not relay then.

ENVIRONMENT
    TCPREMOTEIP               the client's address, IPv4 or IPv6
    RELAY_CTRL_DIR            the directory with the addresses
    RELAY_CTRL_DIR_FD         used in its place if it is set: see relay-ctrl-chdir(8). The descriptor is closed
    RELAY_CTRL_EXPIRY         seconds; default: 900
    RELAY_CTRL_RELAYCLIENT    what RELAYCLIENT is set to; default: nothing
    RELAY_CTRL_LOG_IPS        if set, a line on descriptor 2 says what was found
    RELAY_CTRL_LOG_ENV        if set, lines say which variables are set from the file
    RELAYCLIENT, USER, DOMAIN set, as above

EXIT STATUS
    That of PROGRAM.

    1      wrong usage
    111    PROGRAM cannot be run

SECURITY
    Of a file no variable but USER and DOMAIN is set. In a directory that many may write to, somebody could else choose
    PATH for the server. An address is taken for one only if it is one: it cannot name a file elsewhere. Links are not
    followed.

BUGS
    The original sets every variable that it finds in the file.

SEE ALSO
    relay-ctrl-allow(8), relay-ctrl-chdir(8), relay-ctrl-age(8), qmail-smtpd(8), tcpserver(1)
"""

import os
import time

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.stores import relayctrl

PROGRAM = b"relay-ctrl-check"
USAGE = b"relay-ctrl-check program [ arg ... ]"

MISUSE = 1
RELAYCLIENT = b"RELAYCLIENT"


def log(env: Env, variable: bytes, *parts: bytes) -> None:
    if variable in env:
        strerr.say(b"%s[%d]: %s\n" % (PROGRAM, os.getpid(), b"".join(parts)))


def check(env: Env) -> Env:
    """What is to be set for this client."""
    ip = env.get(b"TCPREMOTEIP")
    name = relayctrl.name_of(ip or b"")
    if name is None:
        why = b"$TCPREMOTEIP not set" if ip is None else b"no address in $TCPREMOTEIP"
        strerr.warn(PROGRAM, why, b", not checking IP")
        return {}
    try:
        folder = relayctrl.opened(env)
    except relayctrl.Unusable as e:
        strerr.warn(PROGRAM, e.text, error=e.error)
        return {}
    try:
        return found(folder, name, int(time.time()) - relayctrl.expiry(env), env)
    except FileNotFoundError:
        log(env, b"RELAY_CTRL_LOG_IPS", b"IP ", name, b" not found")
    except OSError as e:
        strerr.warn(PROGRAM, b"unable to read file ", name, error=e)
    finally:
        folder.close()
    return {}


def found(folder: relayctrl.Folder, name: bytes, oldest: int, env: Env) -> Env:
    """Raises OSError, as relayctrl.look_up."""
    settings = relayctrl.look_up(folder, name, oldest)
    if settings is None:
        log(env, b"RELAY_CTRL_LOG_IPS", b"Expired IP ", name, b" found, removing")
        try:
            relayctrl.forget(folder, name, oldest)
        except OSError:  # gone, or not ours: it has no effect anyway
            pass
        return {}
    log(env, b"RELAY_CTRL_LOG_IPS", b"IP ", name, b" found, setting $RELAYCLIENT")
    for variable, value in settings.items():
        log(env, b"RELAY_CTRL_LOG_ENV", b"Setting ", variable, b"=", value)
    return {RELAYCLIENT: env.get(b"RELAY_CTRL_RELAYCLIENT", b""), **settings}


def main(argv: list[bytes], env: Env) -> int | Exec:
    if len(argv) < 2:
        strerr.usage(PROGRAM, USAGE)
        return MISUSE
    if RELAYCLIENT in env:
        log(env, b"RELAY_CTRL_LOG_IPS", b"$RELAYCLIENT already set, not checking IP")
        return Exec(argv[1:], env, who=PROGRAM)
    return Exec(argv[1:], {**env, **check(env)}, who=PROGRAM)
