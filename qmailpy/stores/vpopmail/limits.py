"""limits - what a domain may have: DOMAIN/.qmailadmin-limits, else VHOME/etc/vlimits.default."""

from qmailpy.formats import maildirsize, vpasswd, vpopmail
from qmailpy.stores.vpopmail.vhome import Etc
from qmailpy.unix import fds, ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmailpy.formats.vpasswd import Account
    from qmailpy.stores.vpopmail.domains import Domain
    from qmailpy.stores.vpopmail.vhome import Vhome

OWN = b"/.qmailadmin-limits"  # below the domain's folder
COMMON = b"vlimits.default"
LARGEST = 65536  # bytes


def read(vhome: "Vhome", domain: "Domain") -> vpopmail.Limits:
    """What the domain's own file says is read as its owner may. Raises OSError."""
    try:
        with ids.Acting(domain.uid, domain.gid):
            return vpopmail.Limits(fds.read_regular(domain.dir + OWN, LARGEST))
    except FileNotFoundError:
        return vpopmail.Limits(Etc(vhome.etc).text(COMMON) or b"")


def default_quota(limits: vpopmail.Limits) -> bytes:
    """Of a new account."""
    size = max(limits.numbers[b"default_quota"], 0)
    count = max(limits.numbers[b"default_maxmsgcount"], 0)
    return maildirsize.Quota(size, count).text()


def flags(account: "Account", limits: vpopmail.Limits) -> int:
    """What holds for an account: its own flags, and those of its domain unless they are not to."""
    return account.gid if account.gid & vpasswd.V_OVERRIDE else account.gid | limits.forbidden
