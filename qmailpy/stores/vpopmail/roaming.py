"""roaming - addresses that may relay for a while because somebody has read his mail from there (SMTP after POP).

VHOME/etc/open-smtp has one line for each, with the time of the last login in seconds since 1970:

    IP:allow,RELAYCLIENT="",RBLSMTPD="" TAB TIME

VHOME/etc/tcp.smtp.cdb, by which tcpserver -x goes, is made of the administrator's tcp.smtp and of these, in this order:
of two rules for one address the first counts. It is made again when an address is missing in it, and by clearopensmtp.

All that is written is written under a write lock of fcntl(2) on open-smtp.lock, as the originals do, and with the
rights of whom VHOME/etc belongs to. A known address costs a look into both files and ten bytes written in place. The
time of a killed process is lost, nothing else: an address that got into open-smtp and not into the cdb is seen by the
next login from there.
"""

import errno
import os

from qmailpy.formats import addresses, cdb, numbers, tcprules
from qmailpy.stores import cdb as databases
from qmailpy.stores import safeio
from qmailpy.stores.vpopmail.vhome import Etc
from qmailpy.unix import ids, recordlocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmailpy.stores.vpopmail.settings import Settings
    from qmailpy.stores.vpopmail.vhome import Vhome

ROAMING = b"roaming"  # a setting: the minutes
MINUTES = 180  # RELAY_CLEAR_MINUTES

# In VHOME/etc
OPEN = b"open-smtp"
LOCK = b"open-smtp.lock"
RULES = b"tcp.smtp"
COMPILED = b"tcp.smtp.cdb"
TEMPORARY = b".tmp."  # and the number of the process

ALLOW = b':allow,RELAYCLIENT="",RBLSMTPD=""'
STAMP = b"\t"


def minutes(settings: "Settings") -> int:
    """How long an address stays open; 0: roaming is off. The setting roaming; where it is there without a number, it
    is 180. Raises OSError."""
    word = settings.get(ROAMING)
    if word is None:
        return 0
    number, digits = numbers.scan(word)
    return number if digits else MINUTES


def allow(vhome: "Vhome", peer: bytes, now: int) -> None:
    """Open relaying for the address peer, unless it is none. Raises OSError, with complaint if it is safeio's, and
    tcprules.BadRule for tcp.smtp."""
    packed = addresses.parse_ipv4(peer) or addresses.parse_ipv6(peer.partition(b"%")[0])
    if packed is None:
        return
    ip = addresses.format_ip(addresses.unmap(packed))
    with _owner(vhome), _Locked(vhome.etc):
        text = Etc(vhome.etc).text(OPEN) or b""
        at = _find(text, ip)
        if at is None or not _renew(vhome.etc, text, at, b"%d" % now):
            text = _without(text, ip) + ip + ALLOW + STAMP + b"%d\n" % now
            _replace(vhome.etc, OPEN, OPEN, [text])
        if not _is_compiled(vhome.etc, ip):
            _compile(vhome.etc, text)


def clear(vhome: "Vhome", oldest: int) -> None:
    """Take out what was last used at oldest or before, compile the rules, and remove what killed processes have left.
    Raises as allow."""
    with _owner(vhome), _Locked(vhome.etc):
        text = Etc(vhome.etc).text(OPEN)
        if text is not None:
            kept = b"".join([line + b"\n" for line in text.split(b"\n") if _time(line) > oldest])
            if kept != text:
                _replace(vhome.etc, OPEN, OPEN, [kept])
            text = kept
        _compile(vhome.etc, text or b"")
        _tidy(vhome.etc)


def complaint(error: tcprules.BadRule) -> bytes:
    """About tcp.smtp."""
    return b"unable to parse this line of tcp.smtp: %s (line %d: %s)" % (error.line, error.number, error.reason)


def is_used(vhome: "Vhome") -> bool:
    """Whether any address was ever opened here."""
    return os.path.exists(vhome.etc + b"/" + OPEN)


def _owner(vhome: "Vhome") -> ids.Acting:
    """Raises OSError."""
    status = os.stat(vhome.etc)
    return ids.Acting(status.st_uid, status.st_gid)


class _Locked:
    """The lock of open-smtp, for `with`. Raises OSError."""

    __slots__ = ("_etc", "_fd")

    def __init__(self, etc: bytes) -> None:
        self._etc = etc
        self._fd = -1

    def __enter__(self) -> None:
        self._fd = recordlocks.acquire(self._etc + b"/" + LOCK)

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)


def _find(text: bytes, ip: bytes) -> int | None:
    """Where the line for ip begins."""
    begin = ip + b":allow"
    if text.startswith(begin):
        return 0
    at = text.find(b"\n" + begin)
    return None if at < 0 else at + 1


def _renew(etc: bytes, text: bytes, at: int, stamp: bytes) -> bool:
    """Put another time into the line at `at`. False if there is no time of that length. Raises OSError.

    In place: readers see the old time, or the new one, or digits of both, which are at most minutes apart."""
    start = text.find(STAMP, at) + 1
    end = text.find(b"\n", at)
    if not at < start < end or end - start != len(stamp) or not text[start:end].isdigit():
        return False
    if text[start:end] != stamp:
        fd = os.open(etc + b"/" + OPEN, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(fd, stamp, start)
        finally:
            os.close(fd)
    return True


def _without(text: bytes, ip: bytes) -> bytes:
    """text, each line with its LF, less the lines for ip."""
    if text and not text.endswith(b"\n"):
        text += b"\n"
    while (at := _find(text, ip)) is not None:
        text = text[:at] + text[text.find(b"\n", at) + 1 :]
    return text


def _time(line: bytes) -> int:
    """Of the last login; 0 for a line that has none."""
    return numbers.scan(line.partition(STAMP)[2].lstrip())[0]


def _is_compiled(etc: bytes, ip: bytes) -> bool:
    """Whether the cdb has a rule for ip alone."""
    key = next(iter(tcprules.records([ip + ALLOW])))[0]
    try:
        fd = os.open(etc + b"/" + COMPILED, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return databases.getter(fd)(key) is not None
    except OSError:  # it is no cdb
        return False
    finally:
        os.close(fd)


def _compile(etc: bytes, text: bytes) -> None:
    """Make tcp.smtp.cdb of tcp.smtp and of text, that of open-smtp."""
    rules = (Etc(etc).text(RULES) or b"").split(b"\n")
    opened = [line.partition(STAMP)[0] for line in text.split(b"\n")]
    while True:
        try:
            chunks = list(cdb.make(tcprules.records(rules + opened)))
            break
        except tcprules.BadRule as e:
            if e.number <= len(rules):
                raise
            del opened[e.number - len(rules) - 1]  # whoever has written that: it must not close the others
        except cdb.TooLarge:
            raise OSError(errno.EFBIG, "") from None
    _replace(etc, COMPILED, RULES, chunks)


def _replace(etc: bytes, name: bytes, stem: bytes, chunks: list[bytes]) -> None:
    """As safeio.replace, with a file that all can read, and nothing left behind. Raises OSError."""
    temporary = etc + b"/" + stem + TEMPORARY + b"%d" % os.getpid()
    umask = os.umask(0o022)
    try:
        safeio.replace(etc + b"/" + name, temporary, chunks)
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise
    finally:
        os.umask(umask)


def _tidy(etc: bytes) -> None:
    """Remove the temporary files of processes that are no more."""
    for name in os.listdir(etc):
        for stem in (OPEN, RULES):
            number = name.removeprefix(stem + TEMPORARY)
            if number != name and number.isdigit() and not _lives(int(number[:10])):
                os.unlink(etc + b"/" + name)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True
