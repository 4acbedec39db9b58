"""timezone - the C library's idea of local time, where the program's environment is not that of the process.

A warm step of a chain changes the environment that a command is given, not the one that localtime(3) looks at.
"""

import time

NAME = b"TZ"


def _at_start() -> bytes | None:
    """TZ of the environment with which this process was executed, if that can be known."""
    try:
        with open("/proc/self/environ", "rb") as file:
            _, found, rest = (b"\0" + file.read()).partition(b"\0%s=" % NAME)
    except OSError:
        return None
    return rest.partition(b"\0")[0] if found else None


def follow(env: dict[bytes, bytes]) -> None:
    """Let time.localtime follow TZ of env from now on. What is executed later gets its own environment anyway."""
    zone = env.get(NAME)
    if zone == _at_start():
        return
    import ctypes

    library = ctypes.CDLL(None)
    if zone is None:
        library.unsetenv(NAME)
    else:
        library.setenv(NAME, zone, 1)
    time.tzset()
