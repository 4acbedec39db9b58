"""rblsmtpd: whose mail it lets pass, what it says to the others; beside the C original."""

import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import dnsserver
from tests.helpers import BIN, environment, needs, run

OURS = str(BIN / "rblsmtpd")
ACCEPTING = ["echo", "220 welcome"]
DIALOGUE = b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<you>\r\nDATA\r\nNOOP\r\nRSET\r\nwhat\r\n\r\nquit now\r\nNOOP\r\n"

RECORDS: dnsserver.Records = {
    ("2.0.0.127.list.example", "TXT"): ['"listed" ", sorry\\009\\200"'],
    ("2.0.0.127.list.example", "A"): ["127.0.0.2"],
    ("3.0.0.127.list.example", "TXT"): [f'"{"long " * 50}"'],
    ("2.0.0.127.good.example", "A"): ["127.0.0.2"],
    ("9.0.0.127.alias.example", "CNAME"): ["2.0.0.127.list.example"],
    ("1." + "0." * 31 + "list.example", "TXT"): ['"listed by IPv6"'],
    ("1." + "0." * 31 + "good.example", "A"): ["127.0.0.2"],
}


@pytest.fixture(scope="module")
def port53() -> Iterator[dnsserver.Server]:
    """A DNS server where the original looks for it. The zone broken.example has none that works."""
    ip = f"127.84.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    try:
        server = dnsserver.Server(ip, 53, RECORDS, None)
    except PermissionError:
        pytest.skip("the original asks port 53: run this test as root to compare")
    yield server
    server.close()


@pytest.fixture(scope="module")
def names() -> Iterator[dnsserver.Server]:
    with dnsserver.running(RECORDS) as server:
        yield server


def called(
    program: str, argv: list[str], variables: dict[str, str], dialogue: bytes = DIALOGUE
) -> tuple[int, bytes, bytes]:
    """Exit code, stdout, and stderr with the process id taken out."""
    with subprocess.Popen(
        [program, *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**variables),
    ) as process:
        out, err = process.communicate(dialogue, timeout=20)
    return process.returncode, out, err.replace(b" pid %d:" % process.pid, b" pid PID:")


def asking(server: dnsserver.Server, ip: str = "127.0.0.2", **changes: str) -> dict[str, str]:
    return {**server.environment, "TCPREMOTEIP": ip, **changes}


@pytest.mark.parametrize(
    ("argv", "variables"),
    [
        ([], {}),
        (["-Z", "true"], {}),
        (["-R", "true"], {}),
        (["-t"], {}),
        (["-t", "5"], {}),
        (ACCEPTING, {}),
        (ACCEPTING, {"RBLSMTPD": ""}),
        (ACCEPTING, {"RBLSMTPD": "go away"}),
        (ACCEPTING, {"RBLSMTPD": "-go away"}),
        (ACCEPTING, {"RBLSMTPD": "-"}),
        (ACCEPTING, {"RBLSMTPD": "--"}),
        (ACCEPTING, {"RBLSMTPD": "a\tb\u00e9" + "x" * 300}),
        (["-b", *ACCEPTING], {"RBLSMTPD": "go away"}),
        (["-B", *ACCEPTING], {"RBLSMTPD": "-go away"}),
        (["-t0", *ACCEPTING], {"RBLSMTPD": "go away"}),
        (["-tx", *ACCEPTING], {"RBLSMTPD": "-go away"}),
        (["-t0", "-t9", *ACCEPTING], {"RBLSMTPD": "go away"}),
        (["-t", "9", "--", *ACCEPTING], {"RBLSMTPD": "go away", "TCPREMOTEIP": "10.0.0.1"}),
        (["-t", "99999999999", *ACCEPTING], {"RBLSMTPD": "go away", "TCPREMOTEIP": "::1"}),
        (["no-such-program"], {}),
        (["./no-such-program", "x"], {}),
        (["sh", "-c", "exit 5"], {}),
    ],
    ids=str,
)
def test_dialogue_messages_and_exit_code_are_the_originals(argv: list[str], variables: dict[str, str]) -> None:
    assert called(OURS, argv, variables) == called(needs("rblsmtpd"), argv, variables)


@pytest.mark.parametrize("ip", ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.9", "nonsense", "1..2"])
@pytest.mark.parametrize(
    "options",
    [
        ["-rlist.example"],
        ["-b", "-rlist.example"],
        ["-rlist.example", "-b"],
        ["-b", "-rnone.example", "-B", "-rlist.example"],
        ["-agood.example", "-rlist.example"],
        ["-rlist.example", "-agood.example"],
        ["-c", "-ralias.example", "-anone.example"],
        ["-C", "-a", "list.example", "-t0"],
    ],
    ids=" ".join,
)
def test_lists_decide_as_for_the_original(port53: dnsserver.Server, options: list[str], ip: str) -> None:
    argv = [*options, *ACCEPTING]
    found = called(OURS, argv, asking(port53, ip))
    assert found == called(needs("rblsmtpd"), argv, asking(port53, ip))


def test_a_listed_client_is_refused_with_the_lists_text(names: dnsserver.Server) -> None:
    code, out, err = called(OURS, ["-r", "list.example", *ACCEPTING], asking(names))
    reason = b"451 listed, sorry??\r\n"
    accepted = b"250 rblsmtpd.local\r\n"
    assert code == 0
    assert err == b"rblsmtpd: 127.0.0.2 pid PID: 451 listed, sorry??\n"
    assert out == b"220 rblsmtpd.local\r\n" + accepted * 2 + reason * 2 + accepted * 2 + reason * 2 + (
        b"221 rblsmtpd.local\r\n"
    )


def test_an_ipv6_client_is_looked_up_by_its_digits(names: dnsserver.Server) -> None:
    listed = called(OURS, ["-r", "list.example", "-t0", *ACCEPTING], asking(names, "::1"))
    assert listed == (0, b"451 listed by IPv6\r\n", b"rblsmtpd: ::1 pid PID: 451 listed by IPv6\n")
    excepted = called(OURS, ["-a", "good.example", "-r", "list.example", *ACCEPTING], asking(names, "::1"))
    assert excepted == (0, b"220 welcome\n", b"")
    mapped = called(OURS, ["-r", "list.example", "-t0", *ACCEPTING], asking(names, "::ffff:127.0.0.2"))
    assert mapped[1] == b"451 listed, sorry??\r\n"


BROKEN = "x" * 64 + ".example"  # a name that cannot be asked: fails at once, and for the same reason each time


@pytest.mark.parametrize(
    ("options", "out"),
    [
        (["-r", BROKEN], b"220 welcome\n"),
        (["-C", "-r", BROKEN], b"220 welcome\n"),
        (["-c", "-r", BROKEN], b"451 temporary RBL lookup error\r\n"),
        (["-c", "-b", "-r", BROKEN], b"451 temporary RBL lookup error\r\n"),
        (["-b", "-r", BROKEN, "-r", "list.example"], b"451 listed, sorry??\r\n"),
        (["-a", BROKEN, "-r", "list.example"], b"220 welcome\n"),
        (["-c", "-b", "-a", BROKEN, "-r", "list.example"], b"451 listed, sorry??\r\n"),
        (["-c", "-C", "-b", "-r", "list.example", "-r", BROKEN], b"553 listed, sorry??\r\n"),
    ],
    ids=lambda value: " ".join(value).replace("x" * 64, "x") if isinstance(value, list) else "",
)
def test_a_list_that_cannot_be_asked_fails_open_or_closed(
    port53: dnsserver.Server, options: list[str], out: bytes
) -> None:
    argv = ["-t0", *options, *ACCEPTING]
    found = called(OURS, argv, asking(port53))
    assert found[:2] == (0, out)
    assert found == called(needs("rblsmtpd"), argv, asking(port53))


def test_no_list_is_asked_when_none_is_named_or_the_environment_decides(names: dnsserver.Server) -> None:
    names.asked.clear()
    assert called(OURS, ACCEPTING, asking(names)) == (0, b"220 welcome\n", b"")
    assert called(OURS, ["-rlist.example", *ACCEPTING], asking(names, RBLSMTPD="")) == (0, b"220 welcome\n", b"")
    assert names.asked == []


def test_a_client_who_says_nothing_or_never_reads_is_left_in_time() -> None:
    with contextlib.ExitStack() as stack:
        silent, deaf = (
            stack.enter_context(
                subprocess.Popen(
                    [OURS, "-t1", "true"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=environment(RBLSMTPD="x" * 200),
                )
            )
            for _ in range(2)
        )
        assert silent.stdout is not None and deaf.stdin is not None
        deaf.stdin.write(b"\n" * 2000)
        deaf.stdin.flush()
        assert silent.stdout.read() == b"220 rblsmtpd.local\r\n"
        assert (silent.wait(), deaf.wait()) == (0, 0)


@settings(max_examples=15)
@given(st.lists(st.sampled_from([b"HELO", b"Quit", b" ", b"x", b"\0", b"\r", b"\n", b"\r\n", b"\xff"]), max_size=30))
def test_any_dialogue_gets_the_originals_replies(pieces: list[bytes]) -> None:
    line = b"".join(pieces)
    refused = {"RBLSMTPD": "no"}
    assert called(OURS, ["true"], refused, line) == called(needs("rblsmtpd"), ["true"], refused, line)


def test_the_program_gets_the_environment_unchanged(names: dnsserver.Server) -> None:
    env = environment(**asking(names), RBLSMTPD="")
    done = run([OURS, "env"], env=env)
    assert sorted(done.stdout.decode().splitlines()) == sorted(f"{name}={value}" for name, value in env.items())
