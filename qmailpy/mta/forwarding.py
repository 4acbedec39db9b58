"""forwarding - which programs run and which addresses get a message whose recipient is in an aliases database; and what
the exit code of a program means for the message. Pure: whoever calls looks up, reads and runs."""

from qmailpy.formats.forwardcdb import ADDRESS, LISTS, OWNER, PROGRAMS, TARGET, is_address, items
from qmailpy.mta.dotqmail import HARD, NOT_REPLACED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NEVER = 100
LATER = 111


def verdict(code: int) -> int:
    """The exit code of whoever ran a program, by the program's: 0, NEVER or LATER; 99 is LATER, as in qmail-command(8)
    it belongs to .qmail files alone."""
    if code == 0:
        return 0
    return NEVER if code in HARD else LATER


class Forwarding:
    """One message.

    look(key): the data of a record of the database, or None; read(name): the content of a list; run(command): runs a
    program, at once. What they raise goes through. sender, and forwards in the order in which they are to be told, are
    known after deliver.
    """

    __slots__ = ("_done", "_look", "_read", "_run", "_todo", "forwards", "sender")

    def __init__(
        self,
        sender: bytes,
        look: "Callable[[bytes], bytes | None]",
        read: "Callable[[bytes], bytes]",
        run: "Callable[[bytes], None]",
    ) -> None:
        self._look = look
        self._read = read
        self._run = run
        self._todo: list[bytes] = []
        self._done: set[bytes] = set()
        self.forwards: list[bytes] = []
        self.sender = sender

    def deliver(self, recipient: bytes) -> bool:
        """Follow the instructions for a recipient. False if there are none, and nothing was done."""
        if self.sender not in NOT_REPLACED:
            owner = self._find(OWNER, recipient)
            if owner is not None:
                self.sender = owner.partition(b"\0")[0]
        data = self._find(TARGET, recipient)
        if data is None:
            return False
        self._done.add(recipient)
        self._follow(data, programs=True)
        while self._todo:
            item = self._todo.pop()
            if item in self._done:
                continue
            self._done.add(item)
            if item[:1] in LISTS:
                self._follow(self._read(item), programs=False)
            else:
                self._expand(item.removeprefix(ADDRESS))
        self.forwards.reverse()
        return True

    def _find(self, kind: bytes, recipient: bytes) -> bytes | None:
        """The data for a recipient: of user@host, or @host, or user@."""
        data = self._look(kind + recipient.lower())
        box, at, host = recipient.rpartition(b"@")
        if data is None and at:
            data = self._look(kind + at + host.lower())
        if data is None and at:
            data = self._look(kind + box.lower() + at)
        return data

    def _follow(self, data: bytes, programs: bool) -> None:
        for item in items(data):
            if item[:1] in LISTS or is_address(item):
                self._todo.append(item)
            elif programs and item[:1] in PROGRAMS:
                self._run(item)

    def _expand(self, address: bytes) -> None:
        """An address with an owner of its own is forwarded to: its bounces go there."""
        if self._look(OWNER + address.lower()) is None:
            data = self._look(TARGET + address.lower())
            if data is not None:
                self._follow(data, programs=True)
                return
        self.forwards.append(address)
