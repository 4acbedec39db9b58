"""home - where a mail system keeps control, queue, users and the rest."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

HOME = b"/var/qmail"
VARIABLE = b"QMAILHOME"


def home(env: "Mapping[bytes, bytes]") -> bytes:
    """QMAILHOME; unset or empty, the originals' home."""
    return env.get(VARIABLE) or HOME
