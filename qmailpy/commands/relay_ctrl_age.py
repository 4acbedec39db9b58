"""NAME
    relay-ctrl-age - forget clients who have logged in long ago

SYNOPSIS
    relay-ctrl-age

DESCRIPTION
    relay-ctrl-age removes all files from the directory RELAY_CTRL_DIR that were not written in the last
    RELAY_CTRL_EXPIRY seconds. relay-ctrl-check(8) does not need that, as it looks at the time itself; it keeps the
    directory small. cron runs it:

        */15 * * * * RELAY_CTRL_DIR=/var/qmail/relay/ip relay-ctrl-age

    A file that relay-ctrl-allow(8) renews at the same moment is kept.

ENVIRONMENT
    RELAY_CTRL_DIR       the directory
    RELAY_CTRL_EXPIRY    seconds; default: 900

EXIT STATUS
    0    done; also if a file could not be removed
    1    RELAY_CTRL_DIR is not set, or cannot be read

SEE ALSO
    relay-ctrl-allow(8), relay-ctrl-check(8), relay-ctrl-chdir(8)
"""

import time

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.stores import relayctrl

PROGRAM = b"relay-ctrl-age"
USAGE = b"relay-ctrl-age"

FAILED = 1


def main(argv: list[bytes], env: Env) -> int:
    if relayctrl.DIR not in env:
        return strerr.fail(FAILED, PROGRAM, b"$RELAY_CTRL_DIR is not set")
    try:
        folder = relayctrl.opened({relayctrl.DIR: env[relayctrl.DIR]})
    except relayctrl.Unusable as e:
        return strerr.fail(FAILED, PROGRAM, e.text, error=e.error)
    try:
        relayctrl.age(folder, int(time.time()) - relayctrl.expiry(env))
    except OSError as e:
        return strerr.fail(FAILED, PROGRAM, b"unable to read directory ", env[relayctrl.DIR], error=e)
    finally:
        folder.close()
    return 0
