"""uidgid - the numbers of an account, for setuidgid and envuidgid: passwd(5), wherever nsswitch.conf(5) has it."""

from qmailpy import strerr
from qmailpy.stores.accounts import Refusal
from qmailpy.unix import nss


def find(account: bytes) -> tuple[int, int]:
    """(uid, gid) of account. Raises Refusal: it is unknown, or nobody can tell."""
    try:
        entry = nss.passwd(account)
    except OSError as e:
        raise Refusal(strerr.LATER, b"unable to look up account " + account, e) from None
    if entry is None:
        raise Refusal(strerr.LATER, b"unknown account " + account)
    return entry[2], entry[3]
