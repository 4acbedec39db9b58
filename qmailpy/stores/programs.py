"""programs - the programs of a mail system: which file is meant by qmail-queue, qmail-inject and so on.

The originals run their own by one absolute path, HOME/bin/NAME. There an administrator may have put a program of his
own, or the original. A home of ours needs no folder bin: what is not there is looked for along PATH."""

import os

from qmailpy.stores.home import VARIABLE, home

Env = dict[bytes, bytes]


def find(folder: bytes, name: bytes) -> bytes:
    """What to execute for the program name of the home in folder: its path, or the name alone, for PATH.

    A path also if something there cannot be executed: its error is to be seen."""
    path = folder + b"/bin/" + name
    return path if os.path.lexists(path) else name


def enter(env: Env) -> tuple[bytes, Env]:
    """Make the home the working folder. Returns its absolute name, and env with that name if it had a relative one.
    Raises OSError."""
    folder = home(env)
    os.chdir(folder)
    if folder.startswith(b"/"):
        return folder, env
    folder = os.getcwdb()
    return folder, {**env, VARIABLE: folder}
