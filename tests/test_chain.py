"""A warm step is not to be told from an exec: the contract of qmailpy/chain.py, a line of it per section.

Each test runs `do CODE report ...` (tests/chain_probe.py) three ways: warm; cold, with QMAILPY_COLD; and with a
`report` that is somebody else's. What report finds must be equal. The kernel's own account of the process is
compared with what cat(1) finds, because a program in Python changes its signals when it starts.
"""

import ast
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import chain_probe
from tests.helpers import BIN, PYTHON, ROOT

WARM, COLD, FOREIGN = "warm", "cold", "foreign"
Facts = dict[str, Any]


class Home:
    """A folder with launchers of this toolkit and of the two probes, and one before it on PATH for foreign files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.before = folder / "before"
        self.told = folder / "report"
        self.bin.mkdir(parents=True)
        self.before.mkdir()
        (folder / "qmailpy").symlink_to(ROOT / "qmailpy")
        (folder / "chain_probe.py").symlink_to(ROOT / "tests/chain_probe.py")
        for name in ("argv0", "do", "report"):
            self.launcher(self.bin / name, name)

    def launcher(self, path: Path, name: str) -> None:
        """A launcher as in bin/, but for the probes, and for a first line that does not ask PATH."""
        body = (BIN / "argv0").read_text().split("\n", 1)[1]
        text = body.replace('start("argv0"', f'import chain_probe\nchain_probe.register()\nstart("{name}"')
        executable(path, f"#!{PYTHON} -IS\n{text}")

    def foreign(self, path: Path) -> None:
        """Another's `report`."""
        start = f"import sys\nsys.path.append({str(self.folder)!r})\nimport chain_probe\nchain_probe.foreign()\n"
        executable(path, f"#!{PYTHON} -IS\n{start}")

    def env(self, **more: str) -> dict[bytes, bytes]:
        env = {"PATH": f"{self.before}:{self.bin}:/usr/bin:/bin", "REPORT": str(self.told), **more}
        return {os.fsencode(name): os.fsencode(value) for name, value in env.items()}

    def run(self, *argv: str | bytes, env: Any = None, **how: Any) -> "subprocess.CompletedProcess[bytes]":
        """Run a command of bin/."""
        self.told.unlink(missing_ok=True)
        env = self.env() if env is None else env
        done = subprocess.run([self.bin / os.fsdecode(argv[0]), *argv[1:]], env=env, capture_output=True, **how)
        if env.get(b"REPORT") == b"1":
            self.told.write_bytes(done.stdout)
        return done

    def facts(self) -> Any:
        """What the last command has told."""
        return ast.literal_eval(self.told.read_text())

    def report(self, mode: str, code: str, *args: bytes, env: Any = None, **how: Any) -> Facts:
        """What report finds when do CODE becomes it in one of the modes."""
        env = dict(self.env() if env is None else env)
        if mode == COLD:
            env[b"QMAILPY_COLD"] = b"1"
        if mode == FOREIGN:
            self.foreign(self.before / "report")
        try:
            done = self.run("do", code, b"report", *args, env=env, **how)
        finally:
            (self.before / "report").unlink(missing_ok=True)
        assert (done.returncode, done.stderr) == (0, b"")
        found: Facts = self.facts()
        assert found.pop("started as") == ("do" if mode == WARM else "report")
        found["env"].pop(b"QMAILPY_COLD", None)
        return found

    def same(self, code: str, *args: bytes, env: Any = None, **how: Any) -> Facts:
        """What report finds, which must be the same in all modes."""
        warm, cold, foreign = (self.report(mode, code, *args, env=env, **how) for mode in (WARM, COLD, FOREIGN))
        foreign["status"] = self.status(code, env=env, **how)
        assert warm == cold
        assert warm == foreign
        return warm

    def status(self, code: str, env: Any = None, **how: Any) -> dict[str, str]:
        """What a C program finds in its /proc/self/status after do CODE."""
        done = self.run("do", code, b"cat", b"/proc/self/status", env=env, **how)
        return chain_probe.status(done.stdout.decode())


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def signals_in(field: str) -> set[int]:
    """The numbers in a mask of /proc/PID/status; without 32 and 33, which are the C library's own and which make(1)
    ignores."""
    return {number for number in range(1, 65) if int(field, 16) >> number - 1 & 1} - {32, 33}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """For tests that leave bin/ as it is."""
    return Home(tmp_path_factory.mktemp("chain") / "home")


@pytest.fixture
def own_home(tmp_path: Path) -> Home:
    """For tests that do not."""
    return Home(tmp_path / "home")


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can change its ids: run the tests as root")

# argv and environment


def test_a_warm_step_gives_all_arguments_to_the_next_program(home: Home) -> None:
    args = (b"", b" ", b"-", b"--", b"-c", b"a=b", b"\xff\x80\xed\xb2\x80", "\u00e4\U0001f4ee".encode(), b"\n", b"*")
    assert home.same("", *args)["argv"] == list(args)


def test_a_warm_step_replaces_the_environment_whole(home: Home) -> None:
    code = "result = Exec(argv[2:], {b'REPORT': env[b'REPORT'], b'NEW': b'1'}, who=b'do')"
    found = home.same(code, env=home.env(OLD="1"))
    assert found["env"] == {b"REPORT": os.fsencode(home.told), b"NEW": b"1"}


def test_odd_names_and_values_in_the_environment_reach_the_next_program(home: Home) -> None:
    odd = {b"\xff": b"\xfe", b" ": b" ", b"A B": b"", b"a-b.c": b"=", b"N": b"\n", "\u00e4".encode(): b"x" * 5000}
    found = home.same("", env={**home.env(), **odd})
    assert found["env"] == {**home.env(), **odd}


def test_python_leaves_no_locale_in_an_empty_environment(home: Home) -> None:
    assert home.same("")["env"] == home.env()


@pytest.mark.parametrize("name", ["LC_CTYPE", "LANG", "LC_ALL"])
@pytest.mark.parametrize("value", ["C.UTF-8", "C.utf8", "C", "POSIX", "", "xx_XX"])
def test_the_locale_of_the_environment_is_handed_on_as_it_came(home: Home, name: str, value: str) -> None:
    env = home.env(**{name: value})
    assert home.same("", env=env)["env"] == env


def test_an_entry_that_execve_cannot_carry_is_dropped_in_both_modes(home: Home) -> None:
    home.same("result = Exec(argv[2:], {**env, b'': b'x', b'A=B': b'c'}, who=b'do')")


@pytest.mark.parametrize("step", ["[b'report', b'a\\0b'], env", "argv[2:], {**env, b'A': b'a\\0b'}", "[b'a\\0b'], env"])
def test_a_nul_in_a_word_is_an_invalid_argument_in_both_modes(home: Home, step: str) -> None:
    code = f"result = Exec({step}, who=b'do')"
    for mode in ("", "1"):
        done = home.run("do", code, "report", env=home.env(QMAILPY_COLD=mode))
        assert (done.returncode, done.stderr[:25]) == (111, b"do: fatal: unable to run ")
        assert done.stderr.endswith(b": invalid argument\n")


def test_a_main_that_changes_its_environment_in_place_does_not_change_where_the_next_program_is_sought(
    home: Home,
) -> None:
    done = home.run("do", "env[b'PATH'] = b'/nowhere'", "report")
    assert (done.returncode, done.stderr) == (0, b"")


@settings(max_examples=15)
@given(
    args=st.lists(st.binary(max_size=40).map(lambda word: word.replace(b"\0", b"")), max_size=5),
    entries=st.dictionaries(
        st.binary(min_size=1, max_size=10).map(lambda name: b"X" + name.translate(None, b"\0=")),
        st.binary(max_size=40).map(lambda value: value.replace(b"\0", b"")),
        max_size=8,
    ),
)
def test_any_arguments_and_environment_come_out_of_warm_and_cold_steps_alike(
    home: Home, args: list[bytes], entries: dict[bytes, bytes]
) -> None:
    code = f"step = lambda: Exec([b'report', *{args!r}], {{**{entries!r}, b'REPORT': report}})\n"
    code += "for mode in b'', b'1':\n report = env[b'REPORT'] + mode\n"
    code += " os.waitpid(chain.spawn(step, {**env, b'QMAILPY_COLD': mode}, 'do'), 0)\n"
    done = home.run("do", code + "result = 0")
    assert (done.returncode, done.stderr) == (0, b"")
    for mode, started_as in ("", "do"), ("1", "report"):
        found = ast.literal_eval(home.told.with_name("report" + mode).read_text())
        assert found["started as"] == started_as
        assert found["argv"] == args
        found["env"].pop(b"REPORT")
        assert found["env"] == entries


# descriptors


def test_a_step_closes_what_is_close_on_exec_and_keeps_the_rest(home: Home) -> None:
    code = "os.open('/dev/null', 0); r, w = os.pipe(); fds.share(w); fds.copy(r, 30); os.dup2(0, 40, False)"
    found = home.same(code)["descriptors"]
    assert found == {0: found[0], 1: found[1], 2: found[2], 5: ("pipe:", True), 30: ("pipe:", True)}


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_a_closed_standard_descriptor_stays_closed(home: Home, closed: tuple[int, ...]) -> None:
    for mode in (WARM, COLD, FOREIGN):
        found = home.report(mode, f"for fd in {closed}: os.close(fd)")["descriptors"]
        assert sorted(found) == [fd for fd in (0, 1, 2) if fd not in closed]


def test_the_read_position_of_a_file_is_kept(home: Home, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"first second")
    code = f"os.dup2(os.open({str(tmp_path / 'text')!r}, 0), 0); os.read(0, 6)"
    for argv in ([b"cat"], [b"do", b"os.write(1, os.read(0, 99)); result = 0"]):
        assert home.run("do", code, *argv).stdout == b"second"


def test_a_step_closes_descriptors_above_a_limit_that_was_lowered(home: Home) -> None:
    code = "os.dup2(0, 40, False); resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6))"
    done = home.run("do", code, "do", "tell(sorted(descriptors())); result = 0")
    assert (done.returncode, done.stderr) == (0, b"")
    assert home.facts() == [0, 1, 2]


def test_a_step_works_without_proc(home: Home) -> None:
    code = "os.listdir = lambda path: os.open('/nowhere', 0); fds.remember(); os.pipe()"
    done = home.run("do", code, "do", "tell(sorted(descriptors())); result = 0")
    assert (done.returncode, done.stderr) == (0, b"")
    assert home.facts() == [0, 1, 2]


def source_with(pattern: str, *but: str) -> list[str]:
    """The lines of the toolkit, outside the files named, that hold pattern."""
    files = (path for path in sorted((ROOT / "qmailpy").rglob("*.py")) if path.name not in but)
    lines = ((path, line) for path in files for line in path.read_text().splitlines())
    return [f"{path.name}: {line}" for path, line in lines if re.search(pattern, line)]


def test_only_one_module_makes_descriptors_inheritable_because_a_step_closes_all_others() -> None:
    assert source_with(r"\bdup2\(|\bset_inheritable\(|F_DUPFD\b|inheritable=True", "fds.py", "chain.py") == []


def test_only_one_module_installs_signal_handlers_because_a_step_forgets_no_others() -> None:
    assert source_with(r"\bsignal\.signal\(", "signals.py") == []


# signals, timers, mask


def test_caught_signals_go_back_to_default_and_ignored_ones_stay_ignored(home: Home) -> None:
    code = (
        "for n in (signals.TERM, signals.CHLD, signals.INT, signals.ALRM, 64): signals.catch(n, print)\n"
        "for n in (signals.HUP, _signal.SIGUSR1): signals.ignore(n)\n"
    )
    found = home.same(code)["status"]
    assert signals_in(found["SigCgt"]) == set()
    assert signals_in(found["SigIgn"]) == {signal.SIGHUP, signal.SIGUSR1}


def test_a_signal_that_was_caught_and_then_ignored_stays_ignored(home: Home) -> None:
    found = home.same("signals.catch(signals.HUP, print); signals.ignore(signals.HUP)")["status"]
    assert signals_in(found["SigIgn"]) == {signal.SIGHUP}


def test_the_next_program_finds_no_trace_of_python_in_its_signals(home: Home) -> None:
    found = home.same("")["status"]
    assert signals_in(found["SigCgt"]) == signals_in(found["SigIgn"]) == signals_in(found["SigBlk"]) == set()


def test_an_ignored_sigint_stays_ignored(home: Home) -> None:
    done = subprocess.run(
        ["sh", "-c", "trap '' INT; exec do '' cat /proc/self/status"], env=home.env(), capture_output=True
    )
    assert signals_in(chain_probe.status(done.stdout.decode())["SigIgn"]) == {signal.SIGINT}
    done = subprocess.run(["sh", "-c", "trap '' INT; exec do '' report"], env=home.env(), capture_output=True)
    assert signals_in(home.facts()["status"]["SigIgn"]) == {signal.SIGINT}


def test_a_sigpipe_that_a_main_ignores_is_ignored_by_the_next_program(home: Home) -> None:
    code = "signals.ignore(signals.PIPE)"
    warm = home.report(WARM, code)["status"]
    assert warm["SigIgn"] == home.status(code)["SigIgn"]
    assert signals_in(warm["SigIgn"]) == {signal.SIGPIPE}


def test_blocked_and_pending_signals_stay_so(home: Home) -> None:
    code = "_signal.pthread_sigmask(0, {10, 12, 64}); os.kill(os.getpid(), 12); signals.catch(12, print)"
    found = home.same(code)["status"]
    assert signals_in(found["SigBlk"]) == {10, 12, 64}
    assert signals_in(found["ShdPnd"]) == {12}


def test_a_signal_no_longer_wakes_the_pipe_of_an_earlier_main(home: Home) -> None:
    code = "r, w = os.pipe(); os.set_blocking(w, False); fds.share(w); signals.wake(w)"
    there = "tell(_signal.set_wakeup_fd(-1)); result = 0"
    home.run("do", code, "do", there)
    assert home.facts() == -1


def test_alarms_and_timers_go_on(home: Home) -> None:
    assert home.same("signals.alarm(9000); _signal.setitimer(_signal.ITIMER_VIRTUAL, 500)")["timers"] == [9000, 500, 0]


# umask, folder, limits, ids


def test_umask_folder_and_limits_are_kept(home: Home, tmp_path: Path) -> None:
    code = f"os.umask(0o27); os.chdir({str(tmp_path)!r})\n"
    code += (
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 4096)); resource.setrlimit(resource.RLIMIT_FSIZE, (99999, -1))"
    )
    found = home.same(code)
    assert found["status"]["Umask"] == "0027"
    assert found["cwd"] == os.fsencode(tmp_path)
    assert found["limits"]["RLIMIT_CORE"] == (0, 4096)


IDS = {
    "a main that becomes a user": "os.setgroups([5, 6]); os.setgid(60001); os.setuid(60001)",
    "the effective uid only": "os.setegid(60001); os.seteuid(60001)",
    "a saved uid left behind": "os.setresgid(60001, 60001, 0); os.setresuid(60001, 60001, 0)",
    "three different ids": "os.setresuid(60001, 0, 60002)",
}


@needs_root
@pytest.mark.parametrize("code", IDS.values(), ids=IDS.keys())
def test_ids_groups_and_capabilities_are_those_after_an_exec(home: Home, code: str) -> None:
    env = home.env(REPORT="1", PATH=".:/usr/bin:/bin")  # another user may not pass the folders above
    assert home.report(WARM, code, env=env, cwd=home.bin)["status"] == home.status(code)


# finishing the earlier main


@pytest.mark.parametrize("mode", ["", "1"])
def test_an_earlier_main_has_finished_before_the_step_and_its_cleanups_never_run(home: Home, mode: str) -> None:
    code = "import atexit; atexit.register(os.write, 2, b'atexit\\n')\n"
    code += "def main():\n try: return Exec(argv[2:], env)\n finally: os.write(2, b'finally\\n')\nresult = main()"
    done = home.run("do", code, "do", "os.write(2, b'next\\n'); result = 7", env=home.env(QMAILPY_COLD=mode))
    assert (done.returncode, done.stderr) == (7, b"finally\nnext\n")


@pytest.mark.parametrize("mode", ["", "1"])
@pytest.mark.parametrize("code", [0, 1, 100, 111, 255, 256, -1])
def test_the_exit_code_is_the_last_mains(home: Home, mode: str, code: int) -> None:
    done = home.run("do", "", "do", f"result = {code}", env=home.env(QMAILPY_COLD=mode))
    assert (done.returncode, done.stderr) == (code & 255, b"")


# failure


@pytest.mark.parametrize("mode", ["", "1"])
@pytest.mark.parametrize(
    "raising",
    ["1 // 0", "sys.exit(3)", "raise KeyboardInterrupt", "os.open('/nowhere', 0)", "raise Exception('secret')"],
)
def test_an_exception_ends_the_program_with_111_and_its_text_stays_inside(home: Home, mode: str, raising: str) -> None:
    done = home.run("do", "", "do", raising, env=home.env(QMAILPY_COLD=mode))
    assert done.returncode == 111
    assert done.stderr.startswith(b"do: fatal: bug: ") and done.stderr.count(b"\n") == 1
    assert b"secret" not in done.stderr


@pytest.mark.parametrize("mode", ["", "1"])
@pytest.mark.parametrize(
    "result", ["None", "b'0'", "Exec(['str'], env)", "Exec([b'report', 'str'], env)", "Exec([], env)"]
)
def test_a_main_that_returns_neither_a_code_nor_a_program_is_a_bug(home: Home, mode: str, result: str) -> None:
    done = home.run("do", f"result = {result}", env=home.env(QMAILPY_COLD=mode))
    assert done.returncode == 111
    assert done.stderr.startswith(b"do: fatal: bug: ") and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("result", ["None", "1 // 0"])
def test_a_spawned_child_never_comes_back_into_its_parents_code(home: Home, result: str) -> None:
    code = f"pid = chain.spawn(lambda: {result}, env, 'do'); s = os.waitpid(pid, 0)[1]; os.write(1, b'back %d' % s)"
    done = home.run("do", code + "; result = 0")
    assert done.stdout == b"back %d" % (111 << 8)
    assert done.stderr.startswith(b"do: fatal: bug: ")


UNABLE = {
    "nowhere": ("nowhere", b"file does not exist"),
    "not executable": ("text", b"access denied"),
    "a folder": ("folder", b"access denied"),
    "a broken interpreter": ("broken", b"file does not exist"),
    "no format": ("empty", b"exec format error"),
    "a loop of links": ("loop", b"symbolic link loop"),
    "too long a name": ("x" * 300, b"file name too long"),
    "an empty name": ("", b"access denied"),
}


@pytest.mark.parametrize("how", ["run", "cold", "attempt"])
@pytest.mark.parametrize(("name", "reason"), UNABLE.values(), ids=UNABLE.keys())
def test_who_could_not_run_the_next_program_says_so_and_ends_with_111(
    own_home: Home, how: str, name: str, reason: bytes
) -> None:
    home = own_home
    (home.before / "text").write_text("")
    (home.before / "folder").mkdir()
    executable(home.before / "broken", "#!/nowhere/python\n")
    executable(home.before / "empty", "")
    (home.before / "loop").symlink_to("loop")
    env = home.env(QMAILPY_COLD="1" if how == "cold" else "")
    env[b"PATH"] = os.fsencode(home.before)
    if how == "attempt":
        code = "status = chain.attempt(Exec(argv[2:], env, who=b'argv0', file=argv[2]), env); result = status >> 8"
        code = code.replace("argv[2:]", "argv[3:]")
        done = home.run("do", code, name, "x", env=env)
    else:
        done = home.run("argv0", name, "x", env=env)
    assert (done.returncode, done.stderr) == (111, b"argv0: fatal: unable to run %s: %s\n" % (name.encode(), reason))


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("[b'nowhere'], env", 7),
        ("[b'/nowhere/x'], env", 7),
        ("[b''], env", 7),
        ("[b'/'], env", 7),
        ("[b'/etc/passwd'], env", 7),
        ("[b'no-python'], env", 3),
        ("[b'no-program'], env", 3),
        ("[b'x\\0'], env", 3),
    ],
)
def test_what_is_not_there_has_a_code_of_its_own(own_home: Home, step: str, code: int) -> None:
    executable(own_home.before / "no-python", "#!/nowhere/python3\n")
    executable(own_home.before / "no-program", "\0")
    assert own_home.run("do", f"result = Exec({step}, code=3, absent=7)").returncode == code


def test_a_program_can_be_run_if_there_is_a_file_to_execute(own_home: Home) -> None:
    executable(own_home.before / "program", "#!/bin/sh\n")
    (own_home.before / "text").touch()
    (own_home.before / "folder").mkdir()
    names = ("program", "text", "folder", "missing", str(own_home.before / "program"), "/nowhere/program")
    own_home.run("do", f"tell([chain.can_run(name.encode(), env) for name in {names}]); result = 0")
    assert own_home.facts() == [True, False, False, False, True, False]


def test_a_command_that_is_ours_is_imported_before_it_is_run(own_home: Home) -> None:
    """What is not is known to be none."""
    loaded = "'qmailpy.commands.argv0' in sys.modules"
    own_home.run("do", f"tell([{loaded}, chain.load(b'cat', env), chain.load(b'argv0', env), {loaded}]); result = 0")
    assert own_home.facts() == [False, False, True, True]


def test_who_says_nothing_when_it_has_no_name_and_uses_its_own_code_and_complaint(home: Home) -> None:
    done = home.run("do", "result = Exec([b'nowhere'], env, code=3)")
    assert (done.returncode, done.stderr) == (3, b"")
    done = home.run("do", "result = Exec([b'x'], env, who=b'do', complaint=b'warning: unable to start', shown=b'it')")
    assert (done.returncode, done.stderr) == (111, b"do: warning: unable to start it: file does not exist\n")


# PATH


def started_as(home: Home, env: Any = None, program: str = "report", **how: Any) -> str:
    """The launcher that the process of report was started from: `do` after a warm step."""
    done = home.run("do", "", program, env=env, **how)
    assert (done.returncode, done.stderr) == (0, b"")
    return str(home.facts()["started as"])


def test_a_foreign_program_of_our_name_wins_if_it_is_earlier_on_path(own_home: Home) -> None:
    executable(own_home.before / "qmail-pop3d", "#!/bin/sh\necho foreign\n")
    own_home.launcher(own_home.bin / "qmail-pop3d", "report")
    done = own_home.run("do", "", "qmail-pop3d", "Maildir")
    assert done.stdout == b"foreign\n"


def test_our_launcher_wins_over_a_foreign_program_later_on_path(home: Home) -> None:
    later = home.folder / "later"
    later.mkdir(exist_ok=True)
    executable(later / "report", "#!/bin/sh\necho foreign\n")
    assert started_as(home, home.env() | {b"PATH": os.fsencode(f"{home.bin}:{later}")}) == "do"


def test_a_copy_of_our_launcher_is_foreign_is_executed_and_works(own_home: Home) -> None:
    other = Home(own_home.folder / "other")
    assert started_as(own_home, own_home.env() | {b"PATH": os.fsencode(other.bin)}) == "report"


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_to_our_launcher_is_ours_under_any_name(own_home: Home, link: Any) -> None:
    link(own_home.bin / "report", own_home.before / "another-name")
    assert started_as(own_home, program="another-name") == "do"


def test_a_link_to_a_foreign_program_is_foreign(own_home: Home) -> None:
    own_home.foreign(own_home.folder / "foreign")
    (own_home.before / "report").symlink_to(own_home.folder / "foreign")
    assert started_as(own_home) == "report"


def test_a_foreign_program_in_our_own_folder_is_foreign(own_home: Home) -> None:
    (own_home.bin / "report").unlink()
    own_home.foreign(own_home.bin / "report")
    assert started_as(own_home) == "report"


def test_a_link_in_our_own_folder_to_a_foreign_program_is_foreign(own_home: Home) -> None:
    own_home.foreign(own_home.folder / "foreign")
    (own_home.bin / "report").unlink()
    (own_home.bin / "report").symlink_to(own_home.folder / "foreign")
    assert started_as(own_home) == "report"


def test_a_file_that_may_not_be_executed_is_skipped(own_home: Home) -> None:
    (own_home.before / "report").write_text("")
    assert started_as(own_home) == "do"


def test_our_launcher_is_skipped_too_if_it_may_not_be_executed(own_home: Home) -> None:
    later = own_home.folder / "later"
    later.mkdir()
    own_home.foreign(later / "report")
    (own_home.bin / "report").chmod(0o644)
    assert started_as(own_home, own_home.env() | {b"PATH": os.fsencode(f"{own_home.bin}:{later}")}) == "report"


def test_a_folder_and_what_is_no_folder_on_path_are_skipped(own_home: Home) -> None:
    (own_home.before / "report").mkdir()
    (own_home.folder / "file").write_text("")
    path = f"/nowhere:{own_home.folder / 'file'}:{own_home.before}:{own_home.bin}"
    assert started_as(own_home, own_home.env() | {b"PATH": os.fsencode(path)}) == "do"


@pytest.mark.parametrize("path", [b"", b":", b"/nowhere:", b":/nowhere", b"/nowhere::/nowhere", b"."])
def test_an_empty_part_of_path_is_the_working_folder(home: Home, path: bytes) -> None:
    assert started_as(home, home.env() | {b"PATH": path}, cwd=home.bin) == "do"


@pytest.mark.parametrize("mode", ["", "1"])
def test_without_path_programs_are_sought_in_bin_and_usr_bin(home: Home, mode: str) -> None:
    env = home.env(QMAILPY_COLD=mode)
    del env[b"PATH"]
    assert home.run("do", "", "cat", env=env, input=b"x").stdout == b"x"
    assert home.run("do", "", "report", env=env, cwd=home.bin).returncode == 111


@pytest.mark.parametrize("name", ["./report", "../bin/report", "{bin}/report"])
def test_a_name_with_a_slash_is_not_sought(home: Home, name: str) -> None:
    home.foreign(home.before / "report")
    try:
        env = home.env() | {b"PATH": os.fsencode(home.before)}
        assert started_as(home, env, name.format(bin=home.bin), cwd=home.bin) == "do"
    finally:
        (home.before / "report").unlink()


def test_the_path_is_that_of_the_program_that_makes_the_step(home: Home) -> None:
    code = "result = Exec(argv[2:], {**env, b'PATH': b'/nowhere'})"
    assert home.run("do", code, "report").returncode == 0
    assert home.facts()["env"][b"PATH"] == b"/nowhere"


REPLACED = {
    "another file moved over it": "os.rename('{new}', '{own}')",
    "removed and written anew": "text = open('{own}').read(); os.unlink('{own}'); open('{own}', 'w').write(text); "
    "os.chmod('{own}', 0o755)",
    "written in place": "open('{own}', 'w').write(open('{new}').read())",
}


@pytest.mark.parametrize("change", REPLACED.values(), ids=REPLACED.keys())
@pytest.mark.parametrize("known", ["chain.preload([b'report'], env)", ""], ids=["preloaded", "at once"])
def test_a_launcher_that_is_replaced_while_a_program_runs_is_executed(own_home: Home, known: str, change: str) -> None:
    own_home.launcher(own_home.folder / "new", "report")
    change = change.format(new=own_home.folder / "new", own=own_home.bin / "report")
    done = own_home.run("do", f"{known}\n{change}", "report")
    assert (done.returncode, done.stderr) == (0, b"")
    assert own_home.facts()["started as"] == "report"


@pytest.mark.parametrize(("value", "mode"), [(None, "do"), ("", "do"), ("0", "report"), ("1", "report")])
def test_qmailpy_cold_turns_warm_steps_off_unless_it_is_empty(home: Home, value: str | None, mode: str) -> None:
    assert started_as(home, home.env() if value is None else home.env(QMAILPY_COLD=value)) == mode


def test_a_main_can_turn_warm_steps_off_for_those_behind_it(home: Home) -> None:
    done = home.run("do", "result = Exec(argv[2:], {**env, b'QMAILPY_COLD': b'1'})", "do", "", "argv0", "report", "x")
    assert done.returncode == 0
    assert home.facts()["started as"] == "report"


# attempt: the status is what fork, exec and waitpid give

ATTEMPT = "tell(chain.attempt(Exec(argv[2:], env, who=b'do'), env)); result = 0"
FORK = """
pid = os.fork()
if pid == 0:
    try: os.execvpe(argv[2], argv[2:], env)
    finally: os._exit(111)
tell(os.waitpid(pid, 0)[1]); result = 0
"""

ENDINGS = {
    "exit 0": ("do", "result = 0"),
    "exit 3": ("do", "result = 3"),
    "exit 257": ("do", "result = 257"),
    "an exception": ("do", "1 // 0"),
    "a foreign program": ("sh", "-c", "exit 5"),
    "a foreign program killed": ("sh", "-c", "kill -9 $$"),
    "a foreign program dumped": ("sh", "-c", "ulimit -c 0; kill -ABRT $$"),
    "warm, then killed": ("do", "", "sh", "-c", "kill -9 $$"),
    "twice warm, then exit 7": ("argv0", "do", "x", "", "sh", "-c", "exit 7"),
    "warm, then cold, then our own": ("do", "", "env", "do", "result = 9"),
    "cold by switch": ("do", "env = {**env, b'QMAILPY_COLD': b'1'}; result = Exec(argv[2:], env)", "do", "result = 8"),
    "nowhere": ("nowhere",),
    "warm, then nowhere": ("do", "", "nowhere"),
    "no format": ("{before}/empty",),
}


@pytest.mark.parametrize("argv", ENDINGS.values(), ids=ENDINGS.keys())
def test_an_attempt_has_the_status_of_a_waiting_parent(home: Home, argv: tuple[str, ...]) -> None:
    executable(home.before / "empty", "")
    argv = tuple(word.format(before=home.before) if "{before}" in word else word for word in argv)
    home.run("do", FORK, *argv)
    expected = home.facts()
    done = home.run("do", ATTEMPT, *argv)
    assert (done.returncode, home.facts()) == (0, expected)


def test_an_attempt_has_the_status_of_every_exit_code(home: Home) -> None:
    code = "tell([chain.attempt(Exec([b'do', b'result = %d' % n], env), env) for n in range(256)]); result = 0"
    assert home.run("do", code).returncode == 0
    assert [os.waitstatus_to_exitcode(status) for status in home.facts()] == list(range(256))


def test_after_an_attempt_1_and_2_are_what_they_were(home: Home, tmp_path: Path) -> None:
    there = f"os.dup2(os.open({str(tmp_path / 'out')!r}, os.O_WRONLY | os.O_CREAT), 1); os.close(2); result = 4"
    done = home.run("do", ATTEMPT + "; os.write(1, b'one'); os.write(2, b'two')", "do", there)
    assert (done.stdout, done.stderr) == (b"one", b"two")


@pytest.mark.parametrize("limit", [12, 8, 6])
def test_after_an_attempt_with_few_descriptors_1_and_2_are_what_they_were(home: Home, limit: int) -> None:
    code = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n" + ATTEMPT
    done = home.run(
        "do", code + "; os.write(1, b'one'); os.write(2, b'two')", "do", "os.close(1); os.close(2); result = 4"
    )
    assert (home.facts(), done.stdout, done.stderr) == (1024, b"one", b"two")


def test_a_descriptor_closed_before_an_attempt_is_closed_after_it(home: Home) -> None:
    there = "os.dup2(1, 2); result = 0"
    code = "os.close(2); chain.attempt(Exec(argv[2:], env), env); tell(sorted(descriptors())); result = 0"
    home.run("do", code, "do", there)
    assert home.facts() == [0, 1]


def test_an_attempt_survives_a_step_that_closes_every_descriptor(home: Home) -> None:
    done = home.run("do", ATTEMPT, "do", "os.closerange(3, 200); result = 4")
    assert (done.returncode, done.stderr) == (0, b"")
    assert home.facts() == 1024


def test_an_attempt_within_an_attempt_leaves_1_and_2_to_the_outer_one(home: Home) -> None:
    inner = "result = chain.attempt(Exec(argv[2:], env), env) >> 8; os.close(1)"
    done = home.run("do", ATTEMPT + "; os.write(1, b'one')", "do", inner, "do", "os.close(1); result = 4")
    assert (home.facts(), done.stdout, done.stderr) == (1024, b"one", b"")


def test_a_program_in_an_attempt_finds_the_alarms_of_a_new_process(home: Home) -> None:
    code = "signals.alarm(9000); chain.attempt(Exec(argv[2:], env), env); result = 0"
    home.run("do", code, "report")
    assert home.facts()["timers"] == [0, 0, 0]


def test_an_alarm_of_an_attempted_program_ends_with_it(home: Home) -> None:
    home.run(
        "do", ATTEMPT.replace("tell(", "(") + "; tell(_signal.getitimer(0)[0])", "do", "signals.alarm(9000); result = 0"
    )
    assert home.facts() == 0


def test_a_program_in_an_attempt_finds_what_exec_leaves(home: Home) -> None:
    code = "signals.catch(10, print); os.pipe(); chain.attempt(Exec(argv[2:], env), env); result = 0"
    home.run("do", code, "report", "a")
    found = home.facts()
    assert (found["argv"], found["env"]) == ([b"a"], home.env())
    assert signals_in(found["status"]["SigCgt"]) == set()
    kept = {fd: mode for fd, mode in found["descriptors"].items() if fd > 2}
    assert all(fd >= 100 and not inheritable for fd, (_, inheritable) in kept.items())


def test_a_foreign_program_in_an_attempt_finds_no_copies_of_1_and_2(home: Home) -> None:
    home.foreign(home.before / "report")
    try:
        home.run("do", ATTEMPT.replace("tell(", "("), "report")
    finally:
        (home.before / "report").unlink()
    assert sorted(home.facts()["descriptors"]) == [0, 1, 2]


# spawn and preload


def test_a_spawned_child_ends_with_the_code_of_its_chain(home: Home) -> None:
    code = "steps = [lambda: 0, lambda: 3, lambda: 256 + 7, lambda: 1 // 0, lambda: Exec([b'do', b'result = 9'], env),"
    code += " lambda: Exec([b'sh', b'-c', b'exit 5'], env), lambda: Exec([b'sh', b'-c', b'kill -9 $$'], env)]\n"
    code += "tell([os.waitpid(chain.spawn(s, env, 'do'), 0)[1] for s in steps]); result = 0"
    done = home.run("do", code)
    assert [os.waitstatus_to_exitcode(status) for status in home.facts()] == [0, 3, 7, 111, 9, 5, -9]
    assert done.stderr.startswith(b"do: fatal: bug: ZeroDivisionError at ")


def test_one_who_serves_makes_one_task_after_another_with_its_descriptor_and_little_else(home: Home) -> None:
    """An exception in one ends only that; the last code is the process's."""
    code = """
from qmailpy.unix import signals
reading, writing = os.pipe()
other = os.open('/dev/null', os.O_RDONLY)
tasks = [lambda: 1 // 0, lambda: Exec([b'report'], {**env, b'REPORT': b'facts'})]
tasks.append(lambda: Exec([b'do', b'result = 4'], env))
codes = []
def first():
    signals.catch(signals.TERM, print); signals.alarm(1000); os.umask(0o123)
    return Exec([b'do', b'result = 300'], env)
def then(code):
    codes.append((code, os.umask(0o22), signals._caught, len(os.listdir('/proc/self/fd'))))
    if tasks:
        return tasks.pop(0)
    os.write(writing, repr(codes).encode())
    return 9
os.umask(0o22)
pid = chain.serve(first, then, env, 'do', writing)
os.close(writing)
tell([os.read(reading, 4096).decode(), os.waitpid(pid, 0)[1]])
result = 0
"""
    done = home.run("do", code, cwd=home.folder)
    text, status = home.facts()
    assert os.waitstatus_to_exitcode(status) == 9
    codes = ast.literal_eval(text.replace("set()", "0"))
    assert [code for code, *_ in codes] == [300 & 255, 111, 0, 4]
    assert [rest for _, *rest in codes] == [[0o22, 0, 5]] * 4  # 0, 1, 2, the pipe, and that of the listing
    assert done.stderr.startswith(b"do: fatal: bug: ZeroDivisionError at ")
    found = ast.literal_eval((home.folder / "facts").read_text())
    assert found["timers"] == [0, 0, 0]
    assert found["status"]["SigCgt"] == "0" * 16


def test_preload_imports_the_commands_named_and_nothing_else(home: Home) -> None:
    code = (
        "before = set(sys.modules); chain.preload([b'x', b'argv0', b'/nowhere/tcpclient', b'\\xff'], env); import gc\n"
    )
    code += "tell([sorted(set(sys.modules) - before), gc.get_freeze_count() > 0]); result = 0"
    assert home.run("do", code).returncode == 0
    assert home.facts() == [["qmailpy.commands", "qmailpy.commands.argv0", "qmailpy.unix.forking"], True]


def test_preload_imports_nothing_where_steps_are_cold(home: Home) -> None:
    code = "chain.preload([b'argv0'], env); tell('qmailpy.commands.argv0' in sys.modules); result = 0"
    home.run("do", code, env=home.env(QMAILPY_COLD="1"))
    assert home.facts() is False
