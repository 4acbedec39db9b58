"""utmp - who is logged in, and on which terminal: the file of utmp(5), as glibc on Linux has it. Pure."""

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# ut_type, ut_pid, ut_line, ut_id, ut_user; the rest is not looked at.
RECORD = Struct("=h2xi32s4s32s")
USER_PROCESS = 7
LONGEST_USER = 32  # bytes: such a name has no NUL behind it

USUAL_SIZE = 384  # bytes of a record: times have 32 bits
LONG_SIZE = 400  # where there never was a 32-bit system to share the file with
LONG = frozenset({"aarch64", "riscv64", "loongarch64", "alpha", "ia64"})


def terminals(file: bytes, user: bytes, machine: str) -> "Iterator[bytes]":
    """Names below /dev, as they stand in the file, of the terminals on which a user is logged in. machine is that of
    uname(2)."""
    size = LONG_SIZE if machine in LONG else USUAL_SIZE
    for at in range(0, len(file) - size + 1, size):
        kind, _, line, _, name = RECORD.unpack_from(file, at)
        if kind == USER_PROCESS and name.partition(b"\0")[0] == user:
            yield line.partition(b"\0")[0]
