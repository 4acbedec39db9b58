"""subprogram: the answer of a program, and what there is to say without one."""

import os
import signal

import pytest

from qmailpy.loops import subprogram


def ending(status: int) -> int:
    """The pid of a process that ends with an exit code, or by a signal if it is negative."""
    pid = os.fork()
    if pid == 0:
        if status < 0:
            os.kill(os.getpid(), -status)
        os._exit(status)
    return pid


@pytest.mark.parametrize(("code", "yes"), [(0, True), (1, False), (99, False), (100, False), (255, False)])
def test_the_exit_code_is_the_answer(code: int, yes: bool) -> None:
    assert subprogram.says_yes(b"who", lambda: ending(code)) == yes


@pytest.mark.parametrize(
    ("status", "said"), [(111, "temporary child error"), (-signal.SIGKILL, "child crashed")]
)  # fmt: skip
def test_without_an_answer_why_is_said(capfd: pytest.CaptureFixture[str], status: int, said: str) -> None:
    with pytest.raises(subprogram.Unanswered):
        subprogram.says_yes(b"who", lambda: ending(status))
    assert capfd.readouterr().err == f"who: fatal: {said}\n"


def test_a_program_that_does_not_start_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    def spawn() -> int:
        raise BlockingIOError(11, "")

    for start, said in ((spawn, "unable to fork: temporary failure"), (lambda: 1, "wait failed")):
        with pytest.raises(subprogram.Unanswered):
            subprogram.says_yes(b"who", start)
        assert capfd.readouterr().err == f"who: fatal: {said}\n"


@pytest.mark.parametrize(("code", "wanted"), [(0, 0), (3, 3), (111, 111), (-signal.SIGKILL, 111)])
def test_who_has_to_wait_for_success_ends_with_the_code_of_what_comes_first(
    code: int, wanted: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert subprogram.succeeds(b"elq", lambda: ending(code)) == wanted
    assert capfd.readouterr().err == ("elq: fatal: child crashed\n" if code < 0 else "")
