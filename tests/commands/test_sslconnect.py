"""sslconnect: a conversation with a server under TLS."""

from tests.commands.oneshot import says_that_it_cannot_connect, secured
from tests.helpers import BIN, environment, run

OURS = str(BIN / "sslconnect")


def test_it_adds_a_cr_to_each_line_it_sends_and_prints_all_it_receives() -> None:
    with secured("sh", "-c", r'printf "220 \r\n"; read -r line; echo "$line"') as (port, roots):
        argv = [OURS, "127.0.0.1", port]
        done = run(argv, b"QUIT\n", env=environment(CAFILE=roots))
        assert (done.returncode, done.stdout, done.stderr) == (0, b"220 \r\nQUIT\r\n", b"")
        done = run(argv, b"QUIT\n")
        assert (done.returncode, done.stdout) == (111, b"")
        assert run([*argv, "-X"], b"QUIT\n").stdout == b"220 \r\nQUIT\r\n"


def test_sslclient_says_that_it_cannot_connect() -> None:
    assert says_that_it_cannot_connect("sslconnect") == 111


def test_it_uses_port_465() -> None:
    assert b"127.0.0.0 port 465: " in run([OURS, "127.0.0.0"]).stderr
