"""Debian's postfix and exim4 as senders of mail to our qmail-smtpd: each with a configuration and queue of its own."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postfix
from tests.helpers import ROOT, eventually, run
from tests.queuehomes import QueueHome, QueueService, nobody
from tests.servers import Server

EXIM = ROOT / "var" / "peers" / "usr" / "sbin" / "exim4"  # unpacked by tools/peers.sh

HERE = "here.example"
SENDER = "sender@elsewhere.example"
RECIPIENTS = [f"one@{HERE}", f"two@{HERE}", f"three+{'x' * 40}@{HERE}"]

HEADER = f"""\
From: Sender <{SENDER}>
To: one@{HERE}
Subject: all that may go wrong
Date: Fri, 27 Nov 2026 12:00:00 +0000
Message-ID: <1@elsewhere.example>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

""".encode()

BODY = "\n".join(
    [
        ".", "..", ". dot", "...", "", "From the beginning", "příliš žluťoučký kůň", "€" * 300, "x" * 990, "\ttab ", "",
        *["a line among many others, of an ordinary length"] * 3000, "", ".", "",
    ]
).encode()  # fmt: skip

REFUSAL = b"sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"

EXIM_CONFIGURATION = """\
exim_path = {exim}
spool_directory = {folder}/spool
deliver_drop_privilege = true
log_file_path = {folder}/%slog
primary_hostname = exim.example
tls_advertise_hosts =
keep_environment =
begin routers
all:
  driver = manualroute
  route_data = 127.0.0.1
  self = send
  transport = out
begin transports
out:
  driver = smtp
  port = {port}
  allow_localhost
  hosts_avoid_tls = *
  hosts_try_fastopen =
begin retry
* * F,1h,1m
"""


OWN_ETC = 'mount --bind "$0/etc" /etc && exec "$@"'


class Host(QueueHome):
    """Our side: the queue belongs to a user of its own, and qmail-smtpd may not write to it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "home")
        self.folder = folder
        self.control(rcpthosts=HERE)
        self.give(8, 8)


@pytest.fixture
def host() -> Iterator[Host]:
    nobody()
    folder = Path(tempfile.mkdtemp(prefix="qmailpy-mta-"))  # tmp_path is closed to others
    folder.chmod(0o755)
    try:
        yield Host(folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def server(host: Host) -> Iterator[Server]:
    uid, gid = map(str, nobody())
    argv = ["tcpserver", "-1RHDl0", "-u", uid, "-g", gid, "127.0.0.1", "0", "qmail-smtpd"]
    with QueueService(host), Server(argv, host.env()) as running:
        yield running


def missing(sentence: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture
def sending_postfix(host: Host, server: Server) -> Iterator[postfix.Postfix]:
    if not postfix.is_there():
        missing("postfix is missing: apt-get install postfix")
    with postfix.Postfix(host.folder / "postfix", f"relayhost = [127.0.0.1]:{server.port}\n") as running:
        yield running


def arrived(host: Host) -> list[str]:
    """All recipients of what is in the queue."""
    return sorted(recipient.decode() for queued in host.messages() for recipient in queued.recipients)


def check(host: Host) -> None:
    assert eventually(lambda: arrived(host) == sorted(RECIPIENTS)), arrived(host)
    for queued in host.messages():
        assert queued.sender == SENDER.encode()
        header, _, body = queued.text.partition(b"\n\n")
        assert body == BODY
        assert header.endswith(HEADER.rstrip(b"\n")) or set(HEADER.rstrip(b"\n").split(b"\n")) <= set(
            header.split(b"\n")
        )
    listed = run(["qmail-qstat"], env=host.env()).stdout
    assert listed.startswith(b"messages in queue: %d\n" % len(host.messages()))


def test_what_postfix_sends_arrives_as_it_was(host: Host, sending_postfix: postfix.Postfix) -> None:
    sending_postfix.send(SENDER, RECIPIENTS, HEADER + BODY)
    check(host)


def test_postfix_tells_its_sender_what_we_have_against_a_recipient(
    host: Host, sending_postfix: postfix.Postfix
) -> None:
    sending_postfix.send(f"sender@{HERE}", [RECIPIENTS[0], "nobody@far.example"], HEADER + BODY)
    assert eventually(lambda: len(host.messages()) == 2)
    (bounce,) = (queued for queued in host.messages() if not queued.sender)
    assert bounce.recipients == [f"sender@{HERE}".encode()]
    assert REFUSAL in b" ".join(bounce.text.split())
    assert arrived(host) == sorted([RECIPIENTS[0], f"sender@{HERE}"])


def exim(host: Host, port: int, sender: str, recipients: list[str], text: bytes) -> None:
    """Send by exim and wait for it. Its user and the place of its configuration are compiled in; both exist in a
    namespace alone."""
    if not EXIM.exists():
        missing("exim4 is missing: run tools/peers.sh")
    folder = host.folder / "exim"
    for path in (folder, folder / "spool"):
        path.mkdir()
        os.chown(path, 54330, 54330)
    assert run(["cp", "-a", "/etc", folder / "etc"]).returncode == 0
    for name, line in (("passwd", "Debian-exim:x:54330:54330::/:/bin/false\n"), ("group", "Debian-exim:x:54330:\n")):
        with open(folder / "etc" / name, "a") as file:
            file.write(line)
    configuration = folder / "etc" / "exim4" / "exim4.conf"
    configuration.parent.mkdir(exist_ok=True)
    configuration.write_text(EXIM_CONFIGURATION.format(exim=EXIM, folder=folder, port=port))
    argv: list[str | Path] = ["unshare", "-m", "sh", "-c", OWN_ETC, folder]
    done = run([*argv, EXIM, "-odf", "-oi", "-f", sender, "--", *recipients], input=text, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_exim_sends_arrives_as_it_was(host: Host, server: Server) -> None:
    exim(host, server.port, SENDER, RECIPIENTS, HEADER + BODY)
    check(host)


def test_exim_tells_its_sender_what_we_have_against_a_recipient(host: Host, server: Server) -> None:
    exim(host, server.port, f"sender@{HERE}", [RECIPIENTS[0], "nobody@far.example"], HEADER + BODY)
    assert eventually(lambda: len(host.messages()) == 2)
    (bounce,) = (queued for queued in host.messages() if not queued.sender)
    assert bounce.recipients == [f"sender@{HERE}".encode()]
    assert REFUSAL in b" ".join(bounce.text.split())
