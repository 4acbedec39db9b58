"""NAME
    checkpassword - check a password of the system's accounts

SYNOPSIS
    checkpassword PROGRAM [ARG...]

DESCRIPTION
    checkpassword reads from descriptor 3, to its end, at most 512 bytes:

        NAME, NUL, PASSWORD, NUL, STAMP, NUL

    and possibly more. If PASSWORD is the one of the system account NAME, checkpassword becomes that account
    and then PROGRAM: it sets the groups to the account's primary group alone, gid and uid, changes to the home,
    sets USER, HOME and SHELL, and runs PROGRAM, found along PATH. Descriptor 3 is closed; 0, 1 and 2 and the
    rest of the environment are left as they were. STAMP is not used, and may be missing.

    Accounts and hashes come from passwd(5) and shadow(5), or from wherever nsswitch.conf(5) says. An empty
    stored password never matches. Locked and expired accounts are refused as if the password were wrong:

    locked     the hash begins with ! or *, or is no hash, such as x
    expired    the account's day of expiration has come; or its password must be changed at the next login
               (passwd -e), which cannot be done here; or the password is older than its maximum age and the
               days of inactivity after that. Where no days of inactivity are set, a password beyond its
               maximum age is still accepted, as shadow(5) has it

    To try it by hand:

        printf 'max\\0secret\\0\\0' | checkpassword id 3<&0

ENVIRONMENT
    USER    set to the account's name
    HOME    set to its home
    SHELL   set to its shell

EXIT STATUS
    That of PROGRAM, if the password is right.

    1      the password is not acceptable, or checkpassword may not become the account
    2      misuse: no PROGRAM, or descriptor 3 does not hold two strings
    111    a temporary problem: descriptor 3, the shadow file or the home is not accessible, crypt(3) does not
           know this kind of hash, PROGRAM could not be run

    A wrong password is silent. Anything that an administrator must see to is one line on descriptor 2, without
    name and password. Nothing is ever written to descriptors 0 and 1.

SECURITY
    checkpassword must be run as root. It is a script and cannot be setuid.

    Unknown names, locked and expired accounts are refused after the same work as wrong passwords: a hash of the
    kind that is most common in /etc/shadow, and the same look-ups. Accounts with another kind of hash, or
    another cost, can be told from unknown names by their time.

    The password is overwritten in memory before PROGRAM runs.

BUGS
    Groups other than the primary one are not set. /etc/shells, nologin(5) and PAM are not considered.

SEE ALSO
    checkpassword-flatfile(8), checkpassword-test(8), qmail-popup(8), shadow(5), crypt(5)
"""

import time

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import fd3
from qmailpy.stores.accounts import Refusal, handover, passwd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmailpy.unix.stage import Stage

PROGRAM = b"checkpassword"
USAGE = b"checkpassword program [ arg ... ]"

DAY = 86400  # seconds


def prepare() -> None:
    """Have the name service read its configuration and libcrypt be linked, once for all that are forked."""
    passwd.prepare()


def rehearse(stage: "Stage", word: bytes, env: Env) -> None:
    """A login with the right password, up to where its user would be become."""

    def act() -> None:
        _, password, _ = handover.receive()
        passwd.rehearse(password)
        fd3.wipe(password)

    stage.play(b"", act, packet=b"x\0x\0\0")


def main(argv: list[bytes], env: Env) -> int | Exec:
    if len(argv) < 2:
        strerr.usage(PROGRAM, USAGE)
        return fd3.MISUSE
    try:
        name, password, _ = handover.receive()
        try:
            account = passwd.check(name, password, int(time.time()) // DAY)
        finally:
            fd3.wipe(password)
        handover.become(account)
    except Refusal as refusal:
        return handover.report(PROGRAM, refusal)
    return Exec(argv[1:], {**env, **account.environment()}, who=PROGRAM)
