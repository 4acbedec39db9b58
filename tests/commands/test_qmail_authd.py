"""qmail-authd: what it answers, whom, how it runs checkers, and what becomes of who guesses, hangs or stays silent."""

import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from qmailpy.formats import authd
from tests.accounts import SystemAccounts, system_accounts
from tests.authd import FLATFILE, LATER, NO, YES, Authd, answer, unprivileged
from tests.helpers import BIN, environment, eventually, run
from tests.servers import TIMEOUT

__all__ = ["system_accounts"]

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users: run the tests as root")

DAEMON = 1  # a uid that is neither root's nor nobody's


def foreign(code: str) -> list[str]:
    """A checker that is nobody's of this toolkit; "$@" is the program."""
    return ["sh", "-c", code, "sh"]


HEARD = "cat <&3 >/dev/null; "  # what accepts without reading the password is no checker

# Answers


def test_yes_is_the_checkers_user_and_no_is_no() -> None:
    with Authd() as service:
        assert service.ask(b"secret") == YES
        assert service.ask(b"wrong") == NO
        assert service.ask(b"secret", b"eve") == NO
        service.log.line("qmail-authd: refused 192.0.2.1 max")
        service.log.line("qmail-authd: refused 192.0.2.1 eve")


@pytest.mark.parametrize("words", [[FLATFILE], ["envdir", ".", FLATFILE], foreign(f'exec {FLATFILE} "$@"')])
def test_a_checker_may_be_a_chain_and_of_anybody(words: list[str], tmp_path: Path) -> None:
    words = [str(tmp_path) if word == "." else word for word in words]
    with Authd(words) as service:
        assert service.ask(b"secret") == YES
        assert service.ask(b"wrong") == NO


def test_every_step_may_be_cold() -> None:
    with Authd(env={"QMAILPY_COLD": "1"}) as service:
        assert service.ask(b"secret") == YES
        assert service.ask(b"wrong") == NO


@pytest.mark.parametrize("code", [1, 3, 12, 13, 15, 20, 21, 22, 23])
def test_codes_of_refusal_are_no(code: int) -> None:
    with Authd(foreign(f"exit {code}")) as service:
        assert service.ask(b"secret") == NO


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("exit 2", "exit 2"),
        ("exit 100", "exit 100"),
        ("exit 111", "exit 111"),
        ("kill -KILL $$", "killed by signal 9"),
        ("exit 0", "exit 0 without a report"),
        ("echo max >&4", "exit 0 without a report"),
        (r"printf '=a\0b' >&4", "exit 0 without a report"),
        ('exec 4>&-; "$@"', "exit 111"),
    ],
)
def test_whatever_else_happens_is_later(code: str, why: str) -> None:
    """A checker that closes 4 must not look as if it had refused."""
    with Authd(foreign(code)) as service:
        assert service.ask(b"secret") == LATER
        service.log.line(f"qmail-authd: later 192.0.2.1 max: {why}")


@pytest.mark.parametrize("words", [["-T", "env"], ["env"], ["setuidgid", "root"], ["-T", "sh", "-c", "exit 0"]])
def test_a_forgotten_checker_lets_nobody_in(words: list[str]) -> None:
    if "setuidgid" in words and os.geteuid() != 0:
        pytest.skip("only root can be several users: run the tests as root")
    with Authd(words) as service:
        assert service.ask(b"secret") == LATER
        service.log.line("qmail-authd: later 192.0.2.1 max: does not read descriptor 3")


@pytest.mark.parametrize("words", [["true"], ["-T", "/bin/true", "x"]])
def test_true_is_no_checker(words: list[str]) -> None:
    done = run([BIN / "qmail-authd", "-s", "/nonexistent/run/socket", *words])
    assert done.returncode == 100
    assert done.stderr.endswith(b"true cannot be the checker: it lets everybody in\n")


def test_others_find_the_socket_whatever_the_umask() -> None:
    with Authd(prefix=["sh", "-c", 'umask 077; exec "$@"', "sh"]) as service:
        assert stat.S_IMODE(os.stat(service.socket.parent).st_mode) == 0o755


def test_a_checker_that_cannot_be_run_is_later() -> None:
    with Authd(["no-such-checker"]) as service:
        assert service.ask(b"secret") == LATER
        service.log.line("qmail-authd: fatal: unable to run no-such-checker: file does not exist")
        service.log.line("qmail-authd: later 192.0.2.1 max: exit 111")


def test_the_checker_may_name_another_user_or_none() -> None:
    with Authd(foreign(HEARD + 'USER="Max, himself"; export USER; exec "$@"')) as service:
        assert service.ask(b"secret") == (b"K", b"Max, himself")
    with Authd(foreign(HEARD + 'exec "$@"'), env={"USER": "root"}) as service:
        assert service.ask(b"secret", b"asked") == (b"K", b"asked")


def test_with_T_the_checker_runs_true_and_the_user_is_who_was_asked_about() -> None:
    with Authd(["-T", *foreign(HEARD + 'test "$*" = true && USER=other exec "$@"')]) as service:
        assert service.ask(b"secret") == YES


def test_the_checker_finds_the_packet_and_the_address_and_nothing_else() -> None:
    code = "cat <&3 >$QMAILHOME/packet; env >$QMAILHOME/env; ls -l /proc/self/fd >$QMAILHOME/fds; cat; exit 1"
    with Authd(foreign(code), env={"USER": "root", "KEPT": "kept", "TCPREMOTEIP": "192.0.2.99"}) as service:
        with service.call() as caller:
            caller.sendall(authd.build(b"2001:db8::1", b"a b\xff", bytearray(b"pass"), b"<1@h>"))
            assert caller.recv(100) == b"1:D,"
        assert (service.home / "packet").read_bytes() == b"a b\xff\0pass\0<1@h>\0"
        env = (service.home / "env").read_text().splitlines()
        found = {line for line in env if line.startswith(("TCPREMOTEIP=", "KEPT=", "USER="))}
        assert found == {"TCPREMOTEIP=2001:db8::1", "KEPT=kept"}
        links = [line.split()[-3:] for line in (service.home / "fds").read_text().splitlines() if "->" in line]
        kinds = {number: target.partition(":")[0] for number, _, target in links}
        assert {"0": "/dev/null", "3": "pipe", "4": "pipe"}.items() <= kinds.items()
        assert set(kinds) <= {"0", "1", "2", "3", "4", "5"}  # 5: that of ls


def test_no_address_is_no_variable_and_the_callers_uid_in_the_log() -> None:
    with Authd(foreign('test -z "${TCPREMOTEIP+set}" && exit 1; exit 111')) as service:
        assert service.ask(b"secret", address=b"") == NO
        service.log.line(f"qmail-authd: refused uid:{os.geteuid()} max")


def test_a_log_line_cannot_be_forged_and_has_no_password() -> None:
    with Authd() as service:
        service.ask(b"geheim", b"a\nqmail-authd: refused 10.0.0.1 b\x1b[2J" + b"x" * 200, b"1 2")
        service.log.line(r"qmail-authd: refused 1\?2 a\?qmail-authd:\?refused\?10\.0\.0\.1\?b\?\[2Jx+\.\.\.")
        assert b"geheim" not in service.log.text


def test_a_512_byte_packet_without_a_last_nul_is_accepted() -> None:
    with Authd() as service, service.call() as caller:
        caller.sendall(authd.build(b"", b"max", bytearray(b"secret"), b"x" * (512 - len(b"max\0secret\0"))))
        assert answer(caller) == YES


# Who may ask


@root_only
@pytest.mark.parametrize(
    ("options", "mode", "owner"),
    [
        (["-u", "65534"], 0o600, (65534, 0)),
        (["-u", "nobody,daemon"], 0o666, (0, 0)),
        (["-g", "65534"], 0o660, (0, 65534)),
    ],
)
def test_only_those_who_may_are_answered(options: list[str], mode: int, owner: tuple[int, int]) -> None:
    asks = [str(BIN / "checkpassword-authd"), "true"]
    with Authd([*options, FLATFILE]) as service:
        status = os.stat(service.socket)
        assert (stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)) == (mode, owner)
        assert stat.S_IMODE(os.stat(service.socket.parent).st_mode) == 0o755
        codes = {}
        for uid in (0, 65534, 2):
            words = ["sh", "-c", 'exec 3<&0 </dev/null; exec "$@"', "sh", *asks]
            done = run([*(unprivileged(uid) if uid else []), *words], b"max\0secret\0", service.env)
            codes[uid] = done.returncode
        assert codes == {0: 0, 65534: 0, 2: 111}
        if mode == 0o666:
            service.log.line("qmail-authd: warning: uid 2 may not ask")


@root_only
def test_members_of_the_group_may_ask_by_any_of_their_groups() -> None:
    with Authd(["-g", "1", FLATFILE]) as service:
        prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--groups", "1"]
        words = ["sh", "-c", "exec 3<&0 </dev/null; exec checkpassword-authd true"]
        assert run([*prefix, *words], b"max\0secret\0", service.env).returncode == 0


def test_without_an_account_qmaild_the_socket_is_its_owners_alone() -> None:
    with Authd() as service:
        assert stat.S_IMODE(os.stat(service.socket).st_mode) == 0o600


# Callers


@pytest.mark.parametrize("said", [b"", b"2", b"27:192.0.2.1\0max\0sec"])
def test_a_caller_who_falls_silent_is_left(said: bytes) -> None:
    with Authd(changed="READING=0.2") as service, service.call() as caller:
        caller.sendall(said)
        assert caller.recv(100) == b""
        assert service.ask(b"secret") == YES


@pytest.mark.parametrize("said", [b"GET / HTTP/1.0\r\n\r\n", b"999:", b"4:\0\0\0\0x", b"3:abc,", b"\0" * 600])
def test_a_caller_who_does_not_speak_the_protocol_is_left(said: bytes) -> None:
    with Authd() as service:
        with service.call() as caller:
            caller.sendall(said)
            try:
                assert caller.recv(100) == b""
            except ConnectionResetError:
                pass
        assert service.ask(b"secret") == YES


def test_a_question_may_come_byte_by_byte() -> None:
    with Authd() as service:
        caller = service.call()
        for byte in authd.build(b"192.0.2.1", b"max", bytearray(b"secret"), b""):
            caller.sendall(bytes([byte]))
        assert answer(caller) == YES


def test_a_caller_may_leave_at_any_time_and_his_failure_counts() -> None:
    with Authd(["-n", "0", "-a", "1", FLATFILE]) as service:
        service.call().close()
        service.send(b"wrong").close()
        service.log.line("qmail-authd: refused 192.0.2.1 max")
        began = time.monotonic()
        assert service.ask(b"secret") == YES
        assert time.monotonic() - began > 0.5


def test_a_full_house_waits_in_the_kernel() -> None:
    with Authd(changed="CALLERS=3,READING=0.5") as service:
        silent = [service.call() for _ in range(3)]
        assert service.ask(b"secret") == YES
        for caller in silent:
            caller.close()


# Checkers that hang


def test_a_hanging_checker_is_killed_with_all_that_it_has_started() -> None:
    code = 'sh -c "echo \\$\\$ >$QMAILHOME/inner; exec sleep 1000" & echo $$ >$QMAILHOME/outer; wait'
    with Authd(["-t", "1", *foreign(code)]) as service:
        assert service.ask(b"secret") == LATER
        service.log.line("qmail-authd: later 192.0.2.1 max: timed out")
        for name in ("inner", "outer"):
            pid = int((service.home / name).read_text())
            assert eventually(lambda pid=pid: not alive(pid))  # type: ignore[misc]


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_what_a_checker_leaves_behind_keeps_nobody_waiting() -> None:
    with Authd(foreign(HEARD + 'sleep 30 & echo $! >$QMAILHOME/left; exec "$@"')) as service:
        began = time.monotonic()
        assert service.ask(b"secret") == YES
        assert time.monotonic() - began < 10
        os.kill(int((service.home / "left").read_text()), signal.SIGKILL)


def test_no_more_than_the_limit_run_at_a_time() -> None:
    """Each checker counts those that run beside it."""
    code = HEARD + 'cd $QMAILHOME/run; mkdir $$; ls -d [0-9]* | wc -l >>$QMAILHOME/seen; rmdir $$; exec "$@"'
    with Authd(["-c", "4", *foreign(code)]) as service:
        callers = [service.send(b"secret", b"u%d" % n, b"10.0.0.%d" % n) for n in range(20)]
        assert {answer(caller)[0] for caller in callers} == {b"K"}  # type: ignore[index]
        assert max(map(int, (service.home / "seen").read_text().split())) <= 3  # the fourth is for known pairs


# Throttling


def test_an_address_with_failures_waits_and_others_do_not() -> None:
    with Authd(["-a", "2", "-n", "0", FLATFILE]) as service:
        for name in (b"one", b"two"):
            assert service.ask(b"wrong", name) == NO
        began = time.monotonic()
        assert service.ask(b"secret", address=b"198.51.100.1") == YES
        assert time.monotonic() - began < 0.9
        assert service.ask(b"wrong", b"three") == NO
        assert time.monotonic() - began > 0.5


def test_a_pause_that_is_too_long_is_answered_at_once_without_the_checker() -> None:
    with Authd(["-a", "1", "-n", "0", *foreign("echo >>$QMAILHOME/runs; exit 1")], changed="PATIENCE=0.5") as service:
        assert service.ask(b"wrong") == NO
        for _ in range(20):
            assert service.ask(b"wrong") == LATER
        service.log.line("qmail-authd: later 192.0.2.1 max: throttled")
        assert (service.home / "runs").read_text() == "\n"


def test_only_some_questions_about_an_account_are_held_in_its_pauses() -> None:
    with Authd(["-n", "1", FLATFILE]) as service:
        assert service.ask(b"wrong") == NO
        callers = [service.send(b"wrong", address=b"10.0.0.%d" % n) for n in range(15)]
        assert [answer(caller) for caller in callers[10:]] == [LATER] * 5
        for caller in callers:
            caller.close()


def test_other_spellings_of_an_account_are_held_no_more_than_one() -> None:
    with Authd(["-n", "1", FLATFILE]) as service:
        assert service.ask(b"wrong") == NO
        began = time.monotonic()
        spellings = [b"max", b"Max", b"mAx", b"maX", b" max"] * 3
        callers = [service.send(b"wrong", name, b"10.0.0.%d" % n) for n, name in enumerate(spellings)]
        assert [answer(caller) for caller in callers[10:]] == [LATER] * 5
        assert time.monotonic() - began < 5
        for caller in callers:
            caller.close()


def test_an_owner_at_a_new_address_comes_before_those_who_have_failed() -> None:
    with Authd(["-n", "1", FLATFILE]) as service:
        guessers = [b"10.0.0.%d" % n for n in range(12)]
        for n, address in enumerate(guessers):
            assert service.ask(b"wrong", b"u%d" % n, address) == NO
        assert service.ask(b"wrong", address=b"10.0.1.1") == NO
        callers = [service.send(b"wrong", b"max", address) for address in guessers]
        assert [answer(caller) for caller in callers[10:]] == [LATER] * 2
        began = time.monotonic()
        assert service.ask(b"secret", address=b"2001:db8::1") == YES
        assert time.monotonic() - began < 5
        for caller in callers:
            caller.close()


def test_one_network_has_one_fresh_question_held() -> None:
    with Authd(["-n", "1", FLATFILE]) as service:
        assert service.ask(b"wrong") == NO
        callers = [service.send(b"wrong", address=b"2001:db8::%d" % n) for n in range(12)]
        assert answer(callers[11]) == LATER
        assert service.ask(b"secret", address=b"198.51.100.1") == YES
        for caller in callers:
            caller.close()


def test_an_owner_is_not_shut_out_by_those_who_guess_elsewhere() -> None:
    with Authd(["-n", "1", FLATFILE], changed="PATIENCE=0.5") as service:
        assert service.ask(b"secret") == YES
        assert service.ask(b"wrong", address=b"198.51.100.1") == NO
        assert service.ask(b"secret", address=b"198.51.100.2") == LATER
        assert service.ask(b"secret") == YES


def test_a_webmails_address_is_not_counted() -> None:
    with Authd(["-a", "1", "-w", "127.0.0.1,::1", FLATFILE], changed="PATIENCE=0.5") as service:
        for n in range(3):
            assert service.ask(b"wrong", b"u%d" % n, b"127.0.0.1") == NO
        assert service.ask(b"secret", address=b"127.0.0.1") == YES


def test_many_wrong_passwords_at_once_do_not_block_a_right_one_from_another_address() -> None:
    with Authd(foreign(HEARD + 'case "$TCPREMOTEIP" in 10.*) sleep 0.3; exit 1;; esac; exec "$@"')) as service:
        guesses = [service.send(b"wrong", b"max", b"10.0.0.1") for _ in range(300)]
        guesses += [service.send(b"wrong", b"u%d" % n, b"10.0.0.2") for n in range(300)]
        began = time.monotonic()
        assert service.ask(b"secret", b"eve") == (b"K", b"eve")
        assert time.monotonic() - began < 5
        for caller in guesses:
            caller.close()


def test_100_questions_at_the_same_time_are_answered() -> None:
    with Authd() as service:
        callers = [service.send(b"secret") for _ in range(100)]
        assert {answer(caller) for caller in callers} == {YES}


# Start and end


def test_at_the_end_running_checks_are_answered_and_held_ones_too() -> None:
    code = HEARD + 'echo >$QMAILHOME/running; while ! test -e $QMAILHOME/go; do sleep 0.05; done; exec "$@"'
    with Authd(["-a", "1", *foreign(code)]) as service:
        running = service.send(b"secret")
        assert eventually(lambda: (service.home / "running").exists())
        held = service.send(b"secret", b"eve")
        silent = service.call()
        assert eventually(lambda: waiting(service.process.pid) >= 3)
        service.process.send_signal(signal.SIGTERM)
        assert answer(held) == LATER
        assert answer(silent) is None
        assert eventually(lambda: not service.socket.exists())
        (service.home / "go").touch()
        assert answer(running) == YES
        assert service.process.wait(TIMEOUT) == 0


def waiting(pid: int) -> int:
    """How many callers a service has taken."""
    return sum("socket" in os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")) - 1


def test_at_the_end_a_checker_that_hangs_is_not_waited_for() -> None:
    with Authd(foreign("echo >$QMAILHOME/running; exec sleep 1000"), changed="ENDING=0.2") as service:
        running = service.send(b"secret")
        assert eventually(lambda: (service.home / "running").exists())
        service.process.send_signal(signal.SIGTERM)
        assert answer(running) == LATER
        assert service.process.wait(TIMEOUT) == 0


def test_one_that_was_killed_is_replaced_and_one_that_runs_is_not() -> None:
    with Authd() as service:
        second = run(service.argv, env=service.env)
        assert second.returncode == 111
        assert second.stderr == b"qmail-authd: fatal: unable to lock %s: temporary failure\n" % bytes(service.socket)
        assert service.ask(b"secret") == YES
        service.process.kill()
        service.process.wait()
        assert service.socket.exists()
        service.process = subprocess.Popen(service.argv, env=service.env)
        assert eventually(service.connects)
        assert service.ask(b"secret") == YES


@pytest.mark.parametrize(
    "words",
    [[], ["-s", "x"], ["-c", "0", "true"], ["-t", "x", "true"], ["-f", "0", "true"], ["-u", "0", "-g", "0", "true"]],
)
def test_wrong_usage_is_100(words: list[str]) -> None:
    done = run([BIN / "qmail-authd", *words])
    assert done.returncode == 100
    assert done.stderr.startswith(b"qmail-authd: usage: qmail-authd [ -T ]")


def test_unknown_users_and_unusable_places_are_said() -> None:
    done = run([BIN / "qmail-authd", "-u", "no-such-user", FLATFILE])
    assert (done.stderr, done.returncode) == (b"qmail-authd: fatal: unknown user no-such-user\n", 111)
    done = run([BIN / "qmail-authd", "-s", "/nonexistent/run/socket", FLATFILE])
    assert done.stderr == b"qmail-authd: fatal: unable to use /nonexistent/run/socket: file does not exist\n"
    assert done.returncode == 111


def test_reporting_needs_descriptor_4() -> None:
    done = run(["sh", "-c", "exec 4>&-; exec qmail-authd -r"], env=environment(USER="max"))
    assert (done.stderr, done.returncode) == (b"qmail-authd: fatal: unable to report: file descriptor not open\n", 111)


# Accounts of the system


def test_accounts_of_the_system_are_checked(system_accounts: SystemAccounts) -> None:
    with Authd(["checkpassword"], prefix=system_accounts.prefix) as service:
        assert service.ask(b"secret", b"q-right") == (b"K", b"q-right")
        assert service.ask(b"wrong", b"q-right") == NO
        assert service.ask(b"secret", b"q-bang") == NO
        assert service.ask(b"secret", b"q-homeless") == LATER


@root_only
def test_passwords_do_not_stay_in_the_memory_of_the_service() -> None:
    password = b"Passwort-%d" % os.getpid() + b"-im-Speicher"
    with Authd(foreign("exit 1")) as service:
        for n in range(5):
            assert service.ask(password, b"u%d" % n) == NO
        assert service.ask(b"not-a-secret-name", b"Name-%d" % os.getpid()) == NO
        assert password not in memory(service.process.pid)


def memory(pid: int) -> bytes:
    """All that a process can write."""
    found = b""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as mem:
        for line in maps:
            place, rights = line.split()[:2]
            if rights.startswith("rw") and "[vvar" not in line:
                start, end = (int(word, 16) for word in place.split("-"))
                mem.seek(start)
                found += mem.read(end - start)
    return found


def test_a_socket_is_no_way_to_the_next_service() -> None:
    """Nothing but the socket and its lock is in the folder."""
    with Authd() as service:
        assert sorted(os.listdir(service.socket.parent)) == ["qmail-authd", "qmail-authd.lock"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, pytest.raises(OSError):
            other.connect(str(service.socket))
