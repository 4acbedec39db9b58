"""launchers - the files in bin/, all alike but for one word: `python3 tools/launchers.py` writes them again.

A launcher finds the package from its own place, without site(7), so that a start costs no more than the
interpreter and no PYTHON* variable of a caller reaches it. The three places:

    checkout      DIR/bin, DIR/qmailpy                              the first python3 on PATH
    environment   DIR/bin, DIR/lib/pythonX.Y/site-packages/qmailpy  the same, if it is an X.Y; else DIR/bin/python3
    qmail home    DIR/bin, DIR/lib/qmailpy                          the one that `make home` ran with

The quotes in the first line keep setuptools from putting an interpreter of its own there, one that would run
site and obey PYTHON* variables. dist-packages is what Debian's pip calls site-packages below /usr/local.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from qmailpy.registry import COMMANDS  # noqa: E402

FIRST_ON_PATH = "/usr/bin/env -S 'python3' -IS"

TEXT = """\
#!@INTERPRETER@
import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
lib = "/../lib/python%d.%d" % sys.version_info[:2]
for place in "/..", lib + "/site-packages", lib + "/dist-packages", "/../lib":
    if sys.version_info >= (3, 10) and os.path.exists(here + place + "/qmailpy/chain.py"):
        sys.path.append(here + place)
        break
else:  # installed for another Python than the first on PATH: that one stands beside this file
    own = here + "/python3"
    found = "%s, Python %d.%d" % (sys.executable, *sys.version_info[:2])
    if sys.executable != own and os.access(own, os.X_OK):
        before = "/proc/self/environ"
        if os.path.exists(before) and b"\\0LC_CTYPE=" not in b"\\0" + open(before, "rb").read():
            os.unsetenv("LC_CTYPE")  # this Python's own addition (PEP 538)
        os.execv(own, [own, "-IS", __file__] + sys.argv[1:])
    problem = "no package qmailpy for %s, beside %s: " % (found, here)
    problem += "it takes Python 3.10 or newer, and links to a command, not copies"
    if os.path.lexists(own) and sys.executable != own:
        problem = "uid %d may not run %s, and the package beside it is not for %s" % (os.geteuid(), own, found)
    os.write(2, ("qmailpy: fatal: " + problem + "\\n").encode("utf-8", "surrogateescape"))
    os._exit(111)

try:
    from qmailpy.chain import start
except (ImportError, SyntaxError):  # while another version takes its place: with exit code 1 mail would bounce
    os.write(2, b"@NAME@: fatal: unable to load the package qmailpy: not whole, is it being upgraded?\\n")
    os._exit(111)

start("@NAME@", here)
"""


def text(name: str, interpreter: str = FIRST_ON_PATH) -> str:
    """The launcher of one command; interpreter is what stands after #!, with its arguments."""
    return TEXT.replace("@INTERPRETER@", interpreter).replace("@NAME@", name)


def write(path: Path, content: str) -> None:
    """Put an executable file there, always a new one: a running tcpserver knows a launcher by its inode."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(content)
    new.chmod(0o755)
    os.replace(new, path)


if __name__ == "__main__":
    for command in COMMANDS:
        file = ROOT / "bin" / command
        if not file.exists() or file.read_text() != text(command):
            write(file, text(command))
