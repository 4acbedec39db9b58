"""timezone - local time as the program's environment has it, which need not be the process's: a warm step of a chain
changes the environment that a command is given, not the one that localtime(3) looks at."""

import os
import time

NAME = b"TZ"


def follow(env: dict[bytes, bytes]) -> None:
    """Let time.localtime follow TZ of env from now on. What is executed later gets its own environment anyway."""
    zone = env.get(NAME)
    if zone is None:
        os.unsetenv(NAME)
    else:
        os.putenv(NAME, zone)
    time.tzset()
