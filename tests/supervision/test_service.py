"""The state machine of a service: what each control byte and each end leads to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats.svstatus import DOWN, ONCE, UP
from qmailpy.supervision.service import FINISH, KILLED, RUN, START, STOP, Service, failure

ALL = {START, RUN, FINISH, STOP}
PID = 7


def service(scripts: set[bytes], want: bytes = UP) -> Service:
    return Service(want, lambda script: script in scripts)


def go(machine: Service, *steps: str) -> list[str]:
    """What runs after each step: a control byte, or `end CODE`, or `kill`. What is pending is started at once."""
    ran = []
    for step in ("", *steps):
        if step == "kill":
            machine.ended(KILLED, 9)
        elif step.startswith("end"):
            machine.ended(int(step[3:] or 0), 0)
        elif step:
            machine.command(step.encode())
        if machine.pending and not machine.pid:
            machine.started(machine.pending, PID)
        ran.append(machine.script.decode() if machine.pid else "over" if machine.over() else "-")
    return ran


@pytest.mark.parametrize(
    ("scripts", "steps", "ran"),
    [
        # The original: run, and nothing else.
        ({RUN}, ["end", "end 3", "kill"], "run run run run"),
        ({RUN}, ["d", "end", "u", "end"], "run run - run run"),
        ({RUN}, ["d", "u", "end"], "run run run run"),
        ({RUN}, ["o", "end", "o", "end", "u"], "run run - run - run"),
        ({RUN}, ["x", "end"], "run run over"),
        ({RUN}, ["x", "u", "kill"], "run run run over"),
        ({RUN}, ["d", "x", "end"], "run run run over"),
        ({RUN}, ["d", "end", "x"], "run run - over"),
        ({RUN}, ["p", "c", "t", "h", "z", "end"], "run run run run run run run"),
        (set(), ["end 111", "end 111"], "run run run"),
        # What runit and daemontools-encore added.
        ({RUN, FINISH}, ["end 1", "end", "kill", "end"], "run finish run finish run"),
        ({RUN, FINISH}, ["d", "end", "end"], "run run finish -"),
        ({RUN, FINISH}, ["end", "d", "end"], "run finish finish -"),
        ({RUN, FINISH}, ["x", "end", "end"], "run run finish over"),
        ({RUN, STOP}, ["end", "d", "end", "end", "u"], "run run run stop - run"),
        ({RUN, STOP}, ["d", "end", "u", "end"], "run run stop stop run"),
        ({RUN, STOP}, ["o", "end", "end"], "run run stop -"),
        ({RUN, STOP}, ["x", "end", "end"], "run run stop over"),
        (ALL, ["end", "end", "end", "d", "end", "end", "end", "u"], "start run finish run run finish stop - start"),
        ({START, RUN, STOP}, ["end 1", "u", "end", "d"], "start - start run run"),
        ({START, STOP}, ["end", "d", "end", "u", "end"], "start - stop - start -"),
        ({START, STOP}, ["kill", "d", "x"], "start - - over"),
        ({START, RUN}, ["d", "end"], "start start -"),
        ({START, RUN}, ["x", "end"], "start start over"),
        ({START, RUN}, ["o", "end", "end"], "start start run -"),
    ],
)
def test_a_service_that_is_wanted(scripts: set[bytes], steps: list[str], ran: str) -> None:
    assert go(service(scripts), *steps) == ran.split()


@pytest.mark.parametrize("want", [DOWN, ONCE])
def test_a_service_that_is_not_wanted_waits_for_a_word(want: bytes) -> None:
    assert go(service(ALL, want), "t", "d", "x") == ["-", "-", "-", "over"]
    assert go(service(ALL, want), "o", "end", "end", "end", "end") == ["-", "start", "run", "finish", "stop", "-"]


@pytest.mark.parametrize(
    ("byte", "signals"),
    [
        ("d", ["TERM", "CONT"]),
        ("t", ["TERM"]),
        ("p", ["STOP"]),
        ("c", ["CONT"]),
        ("k", ["KILL"]),
        ("u", []),
        ("1", ["USR1"]),
    ],
)
def test_a_byte_sends_its_signals_to_what_runs(byte: str, signals: list[str]) -> None:
    machine = service({RUN})
    assert machine.command(byte.encode()) == []
    machine = service({RUN})
    go(machine)
    assert machine.command(byte.encode()) == signals


@pytest.mark.parametrize("script", [FINISH, STOP])
def test_d_lets_finish_and_stop_do_their_work(script: bytes) -> None:
    machine = service({RUN, script})
    go(machine, "d", "end")
    assert machine.script == script
    assert machine.command(b"d") == []
    assert machine.command(b"t") == ["TERM"]


def test_finish_is_told_how_run_has_ended() -> None:
    machine = service({RUN, FINISH})
    go(machine, "end 3")
    assert machine.finish_arguments() == [b"3", b"0"]
    go(machine, "end", "kill")
    assert machine.finish_arguments() == [b"-1", b"9"]


def test_paused_is_forgotten_with_the_process() -> None:
    machine = service({RUN})
    go(machine, "p")
    assert machine.paused
    go(machine, "end")
    assert not machine.paused


def test_run_that_was_found_running_is_finished_and_stopped_like_any_other() -> None:
    machine = service(ALL, UP)
    machine.started(RUN, PID)
    assert go(machine, "end", "end", "d", "end", "end", "end") == ["run", "finish", "run", "run", "finish", "stop", "-"]


def test_a_failure_is_told_with_all_that_is_known() -> None:
    machine = service({RUN})
    go(machine, "end 111")
    assert failure(b"pop3d", machine, 1, b"no port") == (
        b"pop3d ended at once, with exit code 111, and is started again every second; last line: no port"
    )
    go(machine, "kill")
    assert b"by signal 9, 10 times in a row, and" in failure(b"pop3d", machine, 10, b"")
    machine = service({START})
    go(machine, "end 1")
    assert failure(b"pop3d", machine, 0, b"") == b"pop3d/start has failed, pop3d stays down"


@given(
    st.sets(st.sampled_from(sorted(ALL))),
    st.sampled_from([UP, DOWN, ONCE]),
    st.lists(st.sampled_from([*"udopcxhtkz12q", "end", "end 1", "kill"]), max_size=40),
)
def test_whatever_happens_one_script_runs_at_most_and_x_and_d_lead_to_the_end(
    scripts: set[bytes], want: bytes, steps: list[str]
) -> None:
    machine = service(scripts, want)
    go(machine)
    for step in steps:
        if machine.over():
            break
        if (step == "kill" or step.startswith("end")) and not machine.pid:
            continue
        go(machine, step)
        assert not (machine.pid and machine.pending)
    go(machine, "d", "x")
    for _ in range(3):  # run, finish, stop
        if machine.pid:
            go(machine, "end")
    assert machine.over()
