"""What the tests of chain-loading commands share: a program that says what it finds, behind every mixture of ours and
Debian's."""

import ast
import re
import subprocess
from collections.abc import Mapping
from typing import Any

from tests.helpers import BIN, environment, needs, run
from tests.servers import reachable_python

# What exec hands on, as the program behind the command finds it.
FACTS = """
import os, resource, sys
def target(fd):
    try: return os.readlink("/proc/self/fd/%d" % fd).partition("[")[0]
    except OSError: return None
with open("/proc/self/environ", "rb") as f:
    env = sorted(f.read().split(b"\\0")[:-1])
print({
    "argv": [os.fsencode(word) for word in sys.argv[1:]],
    "env": [entry for entry in env if not entry.startswith(b"QMAILPY_COLD=")],
    "fds": {fd: target(fd) for fd in range(64) if target(fd)},
    "cwd": os.getcwd(),
    "umask": os.umask(0),
    "ids": (os.getresuid(), os.getresgid(), os.getgroups()),
    "leads its session": os.getsid(0) == os.getpid(),
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name[:4] == "RLIM"
               and name != "RLIM_INFINITY"},
})
"""
WORDS = [b"", b"-x", b"a b", b"\xff\xfe", b"--"]


def chains(name: str, words: list[str]) -> dict[str, list[str]]:
    """The command with words, and what stands before and behind it, which do nothing."""
    ours, debians = str(BIN / name), needs(name)
    argv0, debians_argv0 = str(BIN / "argv0"), needs("argv0")
    behind, behind_debians = [argv0, "python3", "python3"], [debians_argv0, "python3", "python3"]
    return {
        "Debian's alone": [debians, *words, *behind_debians],
        "ours, and ours behind it": [ours, *words, *behind],
        "ours, and Debian's behind it": [ours, *words, *behind_debians],
        "Debian's, and ours behind it": [debians, *words, *behind],
        "ours, behind ours and before it": [argv0, ours, name, *words, *behind],
        "ours, behind Debian's": [debians_argv0, ours, name, *words, *behind],
        "Debian's, behind ours": [argv0, debians, name, *words, *behind_debians],
    }


def same_in_every_chain(name: str, *words: str, env: Mapping[str, str] | None = None, **how: Any) -> dict[str, Any]:
    """Run the command with words before a program that says what it finds, in each chain of ours and Debian's, warm and
    cold. It must find the same in all of them; returns that."""
    found: dict[str, Any] = {}
    for cold in "", "1":
        for chain, argv in chains(name, list(words)).items():
            whole = {**environment(), **reachable_python(), **(env or {}), "QMAILPY_COLD": cold}
            done = run([*argv, "-ISc", FACTS, *WORDS], env=whole, **how)
            assert (done.returncode, done.stderr) == (0, b""), chain
            facts = ast.literal_eval(done.stdout.decode())
            assert facts == (found or facts), chain
            found = facts
    assert found["argv"] == WORDS
    return found


def same_as_debians(
    name: str, *words: str | bytes, before: tuple[str, ...] = (), **how: Any
) -> "subprocess.CompletedProcess[bytes]":
    """Run ours and Debian's, behind the words of before; they must not differ. Returns ours."""
    ours, debians = (run([*before, program, *words], **how) for program in (BIN / name, needs(name)))
    assert (ours.stdout, ours.stderr, ours.returncode) == (debians.stdout, debians.stderr, debians.returncode)
    return ours


def variables(env: list[bytes]) -> dict[bytes, bytes]:
    """Entries of an environment by name."""
    return dict(re.split(rb"=", entry, maxsplit=1) for entry in env)
