"""sslcat: what a server sends under TLS, untouched."""

from pathlib import Path

from tests.commands.oneshot import says_that_it_cannot_connect, secured
from tests.helpers import BIN, run

OURS = str(BIN / "sslcat")
EVERYTHING = bytes(range(256)) * 2000 + b"\r\nno newline\r"


def test_it_prints_the_bytes_as_they_come_and_leaves_its_input_alone(tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(EVERYTHING)
    with secured("cat", tmp_path / "sent") as (port, roots):
        script = '"$0" 127.0.0.1 "$1" -a "$2"; cat'
        done = run(["sh", "-c", script, OURS, port, roots], b"unread\n")
        assert (done.returncode, done.stdout, done.stderr) == (0, EVERYTHING + b"unread\n", b"")


def test_a_server_that_cannot_prove_its_name_is_not_heard_unless_x_says_so() -> None:
    with secured("echo", "hello") as (port, _):
        done = run([OURS, "127.0.0.1", port])
        assert (done.returncode, done.stdout) == (111, b"")
        assert b"certificate verify failed" in done.stderr
        assert run([OURS, "127.0.0.1", port, "-X"]).stdout == b"hello\n"


def test_sslclient_says_that_it_cannot_connect() -> None:
    assert says_that_it_cannot_connect("sslcat") == 111


def test_a_host_that_looks_like_an_option_is_a_host_and_the_port_is_443() -> None:
    done = run([OURS, "-v", "x"])
    assert (done.returncode, done.stderr) == (111, b"sslclient: fatal: unable to figure out port number for x\n")
    assert b"127.0.0.0 port 443: " in run([OURS, "127.0.0.0"]).stderr
