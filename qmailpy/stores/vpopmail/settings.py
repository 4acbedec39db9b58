"""settings - what an administrator decides about logins, and what vpopmail has when it is compiled: a variable each, or
else the first line of a file in VHOME/etc, VPOPMAIL_ROAMING and etc/roaming."""

import os

from qmailpy.stores.vpopmail.vhome import Etc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmailpy.stores.vpopmail.vhome import Vhome

PREFIX = b"VPOPMAIL_"
NO = b"0"


class Settings:
    """Those of a home and an environment. Most files are not there: that costs no exception."""

    __slots__ = ("_env", "_etc")

    def __init__(self, vhome: "Vhome", env: dict[bytes, bytes]) -> None:
        self._env = env
        self._etc = vhome.etc

    def get(self, name: bytes) -> bytes | None:
        """None if neither is there. Raises OSError."""
        word = self._env.get(PREFIX + name.upper().replace(b"-", b"_"))
        if word is None and os.access(self._etc + b"/" + name, os.F_OK):
            return Etc(self._etc).line(name)
        return word

    def has(self, name: bytes) -> bool:
        """Whether it is there."""
        return PREFIX + name.upper().replace(b"-", b"_") in self._env or self.has_file(name)

    def is_on(self, name: bytes) -> bool:
        """Whether it is there, and is not 0. Raises OSError."""
        return self.get(name) not in (None, NO)

    def has_file(self, name: bytes) -> bool:
        """Whether there is one of that name in VHOME/etc."""
        return os.access(self._etc + b"/" + name, os.F_OK)
