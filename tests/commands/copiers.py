"""What the tests of recordio and fixcrio share: the program's side of both is the same."""

import os
import re
import subprocess

from tests.helpers import BIN, PYTHON, ROOT, environment, needs, run

LIST_DESCRIPTORS = "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"  # 3 is that of the listing

# Called in the process that would have been a recordio or fixcrio started warm, with a close-on-exec descriptor
# left over from the steps before it.
WARM = """
import os, sys
sys.path.insert(0, sys.argv[1])
os.set_inheritable(int(sys.argv[2]), False)
from qmailpy import chain
from qmailpy.unix import signals
import importlib
signals.undo_python()
main = importlib.import_module("qmailpy.commands." + sys.argv[3]).main
env = dict(os.environb)
os._exit(chain.run(main([sys.argv[3].encode(), b"cat"], env), env))
"""


def anonymous(log: bytes) -> bytes:
    """A log without the numbers of processes."""
    return re.sub(rb"^\d+ ", b"PID ", log, flags=re.MULTILINE)


def same_as_debians(name: str, *words: str | bytes, input: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run ours and Debian's; they must not differ in anything but process ids. Returns ours."""
    ours, debians = run([BIN / name, *words], input), run([needs(name), *words], input)
    assert ours.stdout == debians.stdout
    assert anonymous(ours.stderr) == anonymous(debians.stderr)
    assert ours.returncode == debians.returncode
    return ours


def closed_by_everybody_but_the_program(name: str) -> bool:
    """Whether a descriptor from before is closed in the copier too, while the program still runs."""
    reader, writer = os.pipe()
    argv = [PYTHON, "-ISc", WARM, str(ROOT), str(writer), name]
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
        pass_fds=[writer],
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        os.close(writer)
        end = os.read(reader, 1)  # waits for the last holder
        os.close(reader)
        child.stdin.write(b"alive\n")
        child.stdin.close()
        alive = child.stdout.read().rstrip(b"\r\n")
    return (end, alive, child.returncode) == (b"", b"alive", 0)
