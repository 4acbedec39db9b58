"""https@: a page from a server under TLS."""

import pytest

from tests.commands.oneshot import says_that_it_cannot_connect, secured
from tests.helpers import BIN, environment, run

OURS = str(BIN / "https@")

# The request, given back as a page.
ANSWER = r"""printf "HTTP/1.0 200 OK\r\n\r\n"; end=$(printf "\r")
while read -r line && [ "$line" != "$end" ]; do echo "$line"; done"""


@pytest.mark.parametrize("front", [[], ["-4"]], ids=str)
def test_it_asks_for_a_page_and_prints_it_without_header_and_cr(front: list[str]) -> None:
    with secured("sh", "-c", ANSWER) as (port, roots):
        done = run([OURS, *front, "127.0.0.1", "dir/page?q", port], b"unread\n", env=environment(CAFILE=roots))
    page = f"GET /dir/page?q HTTP/1.0\nHost: 127.0.0.1:{port}\n"
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, page, b"")


def test_a_server_that_cannot_prove_its_name_is_not_asked_unless_x_says_so() -> None:
    with secured("sh", "-c", ANSWER) as (port, _):
        argv = [OURS, "127.0.0.1", "", port]
        done = run(argv)
        assert (done.returncode, done.stdout) == (0, b"")
        assert done.stderr.startswith(b"sslclient: fatal: unable to SSL connect: certificate verify failed: ")
        assert run([*argv, "-X"]).stdout.startswith(b"GET / HTTP/1.0\n")


def test_sslclient_says_that_it_cannot_connect_and_the_exit_code_is_0() -> None:
    assert says_that_it_cannot_connect("https@", "") == 0


def test_it_uses_port_443() -> None:
    assert b"127.0.0.0 port 443: " in run([OURS, "127.0.0.0"]).stderr
