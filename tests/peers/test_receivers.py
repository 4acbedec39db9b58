"""qmail-remote sends to Debian's postfix and exim4, each with a configuration and queue of its own: what arrives is
what was sent."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postfix
from tests.commands.netstringd import in_home, programs
from tests.helpers import BIN, environment, eventually, run
from tests.peers.test_mtas import BODY, EXIM, HEADER, OWN_ETC, missing
from tests.ports import free_port
from tests.queuehomes import nobody
from tests.servers import OURS as TCPSERVER
from tests.servers import serve

OURS = str(BIN / "qmail-remote")
SENDER, RECIPIENT = "me@here.example", "you+ext@there.example"
MESSAGE = HEADER + BODY

EXIM_CONFIGURATION = """\
exim_path = {exim}
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
primary_hostname = exim.example
tls_advertise_hosts =
keep_environment =
accept_8bitmime = true
smtputf8_advertise_hosts = *
queue_only
acl_smtp_rcpt = check
acl_smtp_data = take
begin acl
take:
  accept
check:
  deny message = no such person
       local_parts = nobody
  defer message = not now
       local_parts = later
  accept
"""


@pytest.fixture(
    params=programs("qmail-remote"), ids=lambda path: "ours" if Path(path).parent == BIN else "the original"
)
def remote(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder() -> Iterator[Path]:
    nobody()
    made = Path(tempfile.mkdtemp(prefix="qmailpy-mta-"))  # tmp_path is closed to others
    made.chmod(0o755)
    try:
        (made / "control").mkdir()
        (made / "control" / "me").write_text("here.example\n")
        yield made
    finally:
        shutil.rmtree(made)


@pytest.fixture
def receiving_postfix(folder: Path) -> Iterator[postfix.Postfix]:
    if not postfix.is_there():
        missing("postfix is missing: apt-get install postfix")
    port = free_port()
    settings = (
        "smtputf8_enable = yes\nsmtpd_data_restrictions = check_client_access static:HOLD\n"
        "smtpd_recipient_restrictions = check_recipient_access inline:{nobody@there.example=REJECT}, permit\n"
        "message_size_limit = 2000000\n"
    )
    with postfix.Postfix(folder / "postfix", settings, port) as running:
        (folder / "control" / "smtproutes").write_text(f":127.0.0.1:{port}\n")
        assert eventually(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        yield running


def send(program: str, folder: Path, *recipients: str, sender: str = SENDER, message: bytes = MESSAGE) -> list[bytes]:
    (folder / "message").write_bytes(message)
    with open(folder / "message", "rb") as file:
        done = subprocess.run(
            [*in_home(program, folder), "there.example", sender, *(recipients or [RECIPIENT])], stdin=file,
            capture_output=True, env=environment(QMAILHOME=str(folder)), timeout=60, check=True,
        )  # fmt: skip
    return done.stdout.split(b"\0")[:-1]


def held(running: postfix.Postfix) -> bytes:
    """The one message that postfix has, as text."""
    assert eventually(lambda: len(running.files("hold")) == 1)
    (file,) = running.files("hold")
    return run(["postcat", "-c", running.configuration, "-bh", file]).stdout


def test_postfix_has_what_was_sent(remote: str, folder: Path, receiving_postfix: postfix.Postfix) -> None:
    reports = send(remote, folder)
    assert [report[:1] for report in reports] == [b"r", b"K"]
    assert b"Remote host said: 250 2.0.0 Ok: queued as " in reports[1]
    text = held(receiving_postfix)
    assert text.endswith(b"\n\n" + BODY)
    assert HEADER.rstrip(b"\n") in text


def test_postfix_says_what_it_has_against_a_recipient(
    remote: str, folder: Path, receiving_postfix: postfix.Postfix
) -> None:
    reports = send(remote, folder, "nobody@there.example", RECIPIENT)
    assert [report[:1] for report in reports] == [b"h", b"r", b"K"]
    assert reports[0].startswith(b"h127.0.0.1 does not like recipient.\nRemote host said: 554 5.7.1 <nobody@")
    assert held(receiving_postfix).endswith(BODY)
    (only,) = send(remote, folder, "nobody@there.example")[:-1]
    assert only == reports[0]


def test_postfix_takes_addresses_in_utf8(folder: Path, receiving_postfix: postfix.Postfix) -> None:
    reports = send(OURS, folder, "jöran@bücher.example", sender="me@bücher.example")
    assert [report[:1] for report in reports] == [b"r", b"K"]
    assert (
        "jöran@bücher.example".encode()
        in run(["postcat", "-c", receiving_postfix.configuration, *receiving_postfix.files("hold")]).stdout
    )


def test_postfix_refuses_what_is_too_large_before_it_has_it(folder: Path, receiving_postfix: postfix.Postfix) -> None:
    (report,) = send(OURS, folder, message=b"Subject: large\n\n" + b"line\n" * 500_000)
    assert report.startswith(b"DConnected to 127.0.0.1 but sender was rejected.\nRemote host said: 552 5.3.4 ")


@contextlib.contextmanager
def exim(folder: Path, text: str = EXIM_CONFIGURATION) -> Iterator[int]:
    """Its port."""
    if not EXIM.exists():
        missing("exim4 is missing: run tools/peers.sh")
    for path in (folder / "exim", folder / "exim" / "spool"):
        path.mkdir()
        os.chown(path, 54330, 54330)
    assert run(["cp", "-a", "/etc", folder / "exim" / "etc"]).returncode == 0
    for name, line in (("passwd", "Debian-exim:x:54330:54330::/:/bin/false\n"), ("group", "Debian-exim:x:54330:\n")):
        with open(folder / "exim" / "etc" / name, "a") as file:
            file.write(line)
    configuration = folder / "exim" / "etc" / "exim4" / "exim4.conf"
    configuration.parent.mkdir(exist_ok=True)
    configuration.write_text(text.format(exim=EXIM, folder=folder / "exim"))
    argv: list[str | Path] = ["unshare", "-m", "sh", "-c", OWN_ETC, folder / "exim", EXIM, "-bs"]
    with serve(TCPSERVER, *argv) as server:
        yield server.port


@pytest.fixture
def receiving_exim(folder: Path) -> Iterator[Path]:
    """Its spool."""
    with exim(folder) as port:
        (folder / "control" / "smtproutes").write_text(f":127.0.0.1:{port}\n")
        yield folder / "exim" / "spool"


def test_exim_has_what_was_sent(remote: str, folder: Path, receiving_exim: Path) -> None:
    reports = send(remote, folder)
    assert [report[:1] for report in reports] == [b"r", b"K"]
    (body,) = receiving_exim.rglob("*-D")
    assert body.read_bytes().partition(b"\n")[2] == BODY


def test_exim_says_what_it_has_against_a_recipient(remote: str, folder: Path, receiving_exim: Path) -> None:
    reports = send(remote, folder, "nobody@there.example", "later@there.example", RECIPIENT)
    assert [report[:1] for report in reports] == [b"h", b"s", b"r", b"K"]
    assert reports[0] == b"h127.0.0.1 does not like recipient.\nRemote host said: 550 no such person\n"
    assert reports[1] == b"s127.0.0.1 does not like recipient.\nRemote host said: 451 not now\n"


def test_exim_takes_addresses_in_utf8(folder: Path, receiving_exim: Path) -> None:
    reports = send(OURS, folder, "jöran@bücher.example")
    assert [report[:1] for report in reports] == [b"r", b"K"]
