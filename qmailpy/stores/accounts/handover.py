"""handover - what every checker does before and after it asks its database: take over the packet on descriptor 3,
become the account (checkpassword interface)."""

import os

from qmailpy import strerr
from qmailpy.formats import fd3
from qmailpy.stores.accounts import Account, Refusal
from qmailpy.unix import ids

PACKET = 3  # descriptor

MALFORMED = b"unable to understand descriptor 3: not NAME, NUL, PASSWORD, NUL"


def receive(fd: int = PACKET) -> tuple[bytes, bytearray, bytes]:
    """Read descriptor 3 to its end and close it. (name, password, stamp); raises Refusal.

    The end of the data is the end of file: a producer may still be writing behind the third NUL.
    """
    room = bytearray(fd3.LIMIT + 1)
    packet = bytearray()
    try:
        packet = room[: _read(fd, room)]
        return fd3.parse(packet)
    except fd3.PacketError as e:
        code = e.args[0]
        raise Refusal(code, MALFORMED if code == fd3.MISUSE else b"") from None
    except OSError as e:
        raise Refusal(strerr.LATER, b"unable to read descriptor 3", e) from None
    finally:
        fd3.wipe(packet)
        fd3.wipe(room)


def _read(fd: int, room: bytearray) -> int:
    """Fill room in place, so that no copy of the password is left behind; the number of bytes."""
    length = 0
    try:
        with memoryview(room) as view:
            while length < len(room):
                got = os.readv(fd, [view[length:]])
                if not got:
                    break
                length += got
    finally:
        try:
            os.close(fd)
        except OSError:
            pass
    return length


def become(account: Account) -> None:
    """Groups, gid, uid, and the home as that user. Raises Refusal.

    Without root there is nobody to become but oneself, and nothing to give up.
    """
    try:
        if os.geteuid() == 0 or (account.uid, account.gid) != (os.geteuid(), os.getegid()):
            ids.drop(account.uid, account.gid)
    except OSError as e:
        raise Refusal(fd3.REFUSED, b"unable to set uid", e) from None
    try:
        os.chdir(account.home)
    except OSError as e:
        raise Refusal(strerr.LATER, b"unable to change to the home of uid %d" % account.uid, e) from None


def report(program: bytes, refusal: Refusal) -> int:
    """Say the reason, if it is one that an administrator must see; the exit code."""
    if not refusal.text:
        return refusal.code
    return strerr.fail(refusal.code, program, refusal.text, error=refusal.error)
