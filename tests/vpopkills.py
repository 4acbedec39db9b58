"""Changes of virtual domains that are killed: a process dies at any of its calls that change the disk."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

# open only where it makes or empties a file; fsync is for crashes of the machine.
CHANGING = ("open", "write", "pwrite", "ftruncate", "mkdir", "rename", "unlink", "rmdir", "link", "symlink", "utime",
            "chmod", "fchmod", "chown", "fchown")  # fmt: skip
LIMIT = 300  # calls


def killed_at(call: int, act: Callable[[], object]) -> bool:
    """Do act in a child that dies instead of its call number `call`; whether it came so far. To die behind a call is to
    die instead of the next one."""
    pid = os.fork()
    if pid == 0:
        try:
            _arm(call)
            code = act()
            os._exit(code if isinstance(code, int) else 0)
        finally:
            os._exit(99)
    status = os.waitpid(pid, 0)[1]
    assert status == 0 or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL), status
    return status != 0


def _arm(call: int) -> None:
    count = 0
    reading = os.open

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            if real is not reading or arguments[1] & (os.O_CREAT | os.O_TRUNC):
                count += 1
                if count == call:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return called

    for name in CHANGING:
        setattr(os, name, dying(getattr(os, name)))


def deaths(act: Callable[[], object]) -> Iterator[int]:
    """Kill act at every call, until it ends by itself; yields the number of the call each time, for the caller to look
    at what is left, and to begin anew."""
    for call in range(1, LIMIT):
        if not killed_at(call, act):
            assert call > 4, "nothing was killed"
            return
        yield call
    raise AssertionError("it never ends")
