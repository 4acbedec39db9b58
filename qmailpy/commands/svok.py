"""NAME
    svok - ask whether a service is supervised

SYNOPSIS
    svok DIR

DESCRIPTION
    svok says by its exit code whether a supervise runs in the service directory DIR. It prints nothing, and does not
    ask whether the service is up. It works with the supervise of this toolkit and with the original.

        if svok /service/smtpd; then svc -t /service/smtpd; fi

EXIT STATUS
    0      supervise is running
    100    it is not running, or never was; or wrong usage
    111    nobody can tell: DIR is missing, or something else failed

SEE ALSO
    supervise(8), svc(8), svstat(8), svscan(8)
"""

import errno
import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.stores import services

PROGRAM = b"svok"
USAGE = b"svok dir"


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) < 2:
        return strerr.usage(PROGRAM, USAGE)
    directory = argv[1]
    try:
        os.chdir(directory)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to chdir to ", directory, error=e)
    try:
        os.close(services.open_write(services.OK))
    except OSError as e:
        if e.errno in (errno.ENOENT, services.NOT_RUNNING):
            return strerr.NEVER
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to open ", directory, b"/", services.OK, error=e)
    return 0
