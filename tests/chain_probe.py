"""Two commands for tests/test_chain.py: `do` arranges something, `report` says what it finds.

    do CODE PROGRAM [ARG...]    run CODE, Python; then become PROGRAM, unless CODE has set `result`
    report [ARG...]             write everything a program can know about its own start to the file $REPORT

register() makes them commands of this toolkit, foreign() runs report as a program of somebody else.
"""

import _signal
import os
import resource
import sys
from types import SimpleNamespace
from typing import Any

REPORT = b"REPORT"
SHOWN = ("Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Sig", "ShdPnd", "Cap")  # the rest of status is counters
TIMERS = (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF)
HIGHEST = 256  # descriptors of the tests are below


def status(text: str) -> dict[str, str]:
    """The fields of /proc/PID/status that a program hands on, or loses, at exec."""
    rows = (row.partition(":") for row in text.splitlines())
    return {name: value.strip() for name, _, value in rows if name.startswith(SHOWN) and name != "SigQ"}


def descriptors() -> dict[int, tuple[str, bool]]:
    """Number: what it is (pipes and sockets without their number), and whether an exec would keep it."""
    found = {}
    for fd in range(HIGHEST):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}").partition("[")[0], os.get_inheritable(fd)
        except OSError:
            continue
    return found


def write(facts: Any, env: dict[bytes, bytes]) -> None:
    """$REPORT is a file, or 1 for a process that may not write it any more."""
    with open(1 if env[REPORT] == b"1" else env[REPORT], "w") as f:
        f.write(repr(facts))


def report(argv: list[bytes], env: dict[bytes, bytes]) -> int:
    found = descriptors()  # before the files below
    names = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))
    with open("/proc/self/status") as f:
        text = f.read()
    facts = {
        "argv": argv[1:],
        "env": dict(env),
        "descriptors": found,
        "status": status(text),
        "timers": [round(_signal.getitimer(timer)[0], -2) for timer in TIMERS],  # in steps of 100 seconds
        "cwd": os.getcwdb(),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in names},
        "started as": os.path.basename(sys.argv[0]),
    }
    write(facts, env)
    return 0


def do(argv: list[bytes], env: dict[bytes, bytes]) -> Any:
    from qmailpy import chain
    from qmailpy.unix import fds, signals

    scope: dict[str, Any] = {
        "Exec": chain.Exec, "argv": argv, "chain": chain, "env": env, "fds": fds, "os": os, "resource": resource,
        "signals": signals, "_signal": _signal, "sys": sys, "tell": lambda facts: write(facts, env),
        "descriptors": descriptors,
    }  # fmt: skip
    exec(argv[1], scope)
    return scope["result"] if "result" in scope else chain.Exec(argv[2:], env, who=b"do")


def register() -> None:
    from qmailpy import registry

    for main in (do, report):
        registry.COMMANDS[main.__name__] = registry.Command(main.__name__, 1, "tests")
        sys.modules["qmailpy.commands." + main.__name__] = SimpleNamespace(main=main)  # type: ignore[assignment]


def foreign() -> None:
    with open("/proc/self/environ", "rb") as f:  # os.environ has already been changed by Python
        entries = f.read().split(b"\0")[:-1]
    env = dict(entry.split(b"=", 1) for entry in entries)
    os._exit(report([os.fsencode(word) for word in sys.argv], env))
