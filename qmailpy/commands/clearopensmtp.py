"""NAME
    clearopensmtp - close relaying for clients who have logged in long ago

SYNOPSIS
    clearopensmtp

DESCRIPTION
    Where SMTP after POP is on, vchkpw(8) lets the address of whoever has read his mail send mail too. clearopensmtp
    ends that for the addresses whose last login was 180 minutes ago, or as long as is configured: it takes them out of
    VHOME/etc/open-smtp, and makes VHOME/etc/tcp.smtp.cdb again, of VHOME/etc/tcp.smtp and of the addresses that are
    left. cron runs it:

        */40 * * * * clearopensmtp

    So it is also what to run after tcp.smtp was edited. tcpserver(1), with -x VHOME/etc/tcp.smtp.cdb, goes by the new
    rules from the next connection on. If tcp.smtp has a line that is no rule, the old rules stay.

    A login at the same moment waits, and is not lost. What killed programs have left in VHOME/etc is removed.

ENVIRONMENT
    VPOPMAILHOME        VHOME; default: the home of the account vpopmail, or else QMAILHOME
    VPOPMAIL_ROAMING    the minutes; default: the number in the file VHOME/etc/roaming, or else 180
    QMAILHOME           default: /var/qmail

EXIT STATUS
    0      done; also if SMTP after POP is off and never was on, which is said
    100    wrong usage
    111    a file could not be read or written, or tcp.smtp has a line that is no rule

SECURITY
    Run by root, it reads and writes with the rights of whom VHOME/etc belongs to.

SEE ALSO
    vchkpw(8), tcprules(1), tcpserver(1), relay-ctrl-age(8)
"""

import time

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import tcprules
from qmailpy.stores import safeio
from qmailpy.stores.vpopmail import roaming
from qmailpy.stores.vpopmail.settings import Settings
from qmailpy.stores.vpopmail.vhome import vhome
from qmailpy.unix import fds

PROGRAM = b"clearopensmtp"
USAGE = b"clearopensmtp"

STDOUT = 1
MINUTE = 60  # seconds

OFF = b"vpopmail not configure with --enable-roaming-users\n"


def clear(env: Env, now: int) -> int:
    """Raises OSError, tcprules.BadRule."""
    home = vhome(env)
    minutes = roaming.minutes(Settings(home, env))
    if not minutes and not roaming.is_used(home):
        fds.write_all(STDOUT, OFF)
        return 0
    roaming.clear(home, now - (minutes or roaming.MINUTES) * MINUTE)
    return 0


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) > 1:
        return strerr.usage(PROGRAM, USAGE)
    try:
        return clear(env, int(time.time()))
    except tcprules.BadRule as e:
        return strerr.fail(strerr.LATER, PROGRAM, roaming.complaint(e))
    except safeio.Failed as e:
        return strerr.fail(strerr.LATER, PROGRAM, e.complaint, error=e)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to clear addresses", error=e)
