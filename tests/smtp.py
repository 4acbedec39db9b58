"""What tests of qmail-smtpd share: a home with control files and a queue that keeps what it gets, and a model of the
whole server around the engine, without descriptors."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qmailpy.formats import smtpaddress
from qmailpy.mta import reception
from qmailpy.protocols import sasl, smtp_server
from tests.dialogues import HOST, NAME, PASSWORD, Dialogue, Home, anonymous
from tests.helpers import BIN

# In the place of qmail-queue: files of the folder of $OUT, first the message, then the envelope.
RECORDER = """#!/bin/sh
number=$(ls "$OUT" | grep -c message)
cat > "$OUT/tmp" || exit 53
cat <&1 > "$OUT/$number.envelope"
[ -s "$OUT/$number.envelope" ] || { rm "$OUT/$number.envelope"; exit 54; }
mv "$OUT/tmp" "$OUT/$number.message"
"""

Queued = list[tuple[bytes, list[bytes], bytes]]

SMTPD = BIN / "qmail-smtpd"
CHECKER = str(BIN / "checkpassword-flatfile")

FOLDER = os.environ.get("QMAIL_BIN")
ORIGINAL = Path(FOLDER, "qmail-smtpd") if FOLDER and Path(FOLDER, "qmail-smtpd").is_file() else None
ORIGINALS = [str(ORIGINAL)] if ORIGINAL else []


class Mailhost(Home):
    """A home with control files, that of a mail system and of its one user."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.out = path / "out"
        self.recorder = path / "recorder"
        self.recorder.write_text(RECORDER)
        self.recorder.chmod(0o755)
        for folder in (self.out, path / "control"):
            folder.mkdir()
            self.own(folder)
        self.control(me=HOST.encode())

    def control(self, **files: bytes) -> None:
        for name, text in files.items():
            (self.path / "control" / name).write_bytes(text)

    def environment(self, **changes: str) -> dict[str, str]:
        defaults = {"QMAILHOME": str(self.path), "QMAILQUEUE": str(self.recorder), "OUT": str(self.out)}
        return super().environment(**{**defaults, "TCPREMOTEIP": "127.0.0.1", **changes})

    def queued(self, received: bool = False) -> Queued:
        """(sender, recipients, text) of what is in the queue; without qmail-smtpd's Received line unless wished."""
        found = []
        for number in range(len(list(self.out.glob("*.message")))):
            text = (self.out / f"{number}.message").read_bytes()
            sender, *recipients = (self.out / f"{number}.envelope").read_bytes().removesuffix(b"\0\0").split(b"\0")
            assert text.startswith(b"Received: from ")
            assert sender.startswith(b"F")
            assert all(recipient.startswith(b"T") for recipient in recipients)
            start = 0 if received else text.index(b"\n", text.index(b"\n") + 1) + 1
            found.append((sender[1:], [recipient[1:] for recipient in recipients], text[start:]))
        return found


@contextmanager
def made() -> Iterator[Mailhost]:
    path = Path(tempfile.mkdtemp(prefix="qmailpy-smtp-"))  # tmp_path is closed to other users
    try:
        yield Mailhost(path)
    finally:
        shutil.rmtree(path)


@pytest.fixture
def mailhost() -> Iterator[Mailhost]:
    with made() as host:
        yield host


@contextmanager
def original_control(host: Mailhost) -> Iterator[None]:
    """The C programs have their home compiled in: put the control files there, and take them away again."""
    assert FOLDER is not None
    there = Path(FOLDER).parent / "control"
    kept = there.with_name("control.kept")
    lock = os.open(there.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        there.rename(kept)
        try:
            shutil.copytree(host.path / "control", there)
            yield
        finally:
            shutil.rmtree(there)
            kept.rename(there)
    finally:
        os.close(lock)


def words(arguments: list[str]) -> list[str]:
    return [CHECKER if word == "CHECKER" else word for word in arguments]


class Engine:
    """The session, and around it in few words what the command does. Its output is anonymous."""

    def __init__(self, dialogue: Dialogue) -> None:
        files, variables = dialogue.files, dialogue.variables
        lists = {
            name: reception.folded([line for line in text.split(b"\n") if line])
            for name, text in files.items()
            if name in (b"rcpthosts", b"badmailfrom", b"badrcptto", b"badhelo")
        }
        self.reception = reception.Reception(
            lists.get(b"rcpthosts"),
            None,
            lists.get(b"badmailfrom"),
            lists.get(b"badrcptto"),
            lists.get(b"badhelo"),
        )
        self.suffix = variables["RELAYCLIENT"].encode() if "RELAYCLIENT" in variables else None
        rules = smtp_server.Rules(files.get(b"smtpgreeting", HOST.encode()).rstrip(b"\n \t"))
        rules.databytes = int(variables.get("DATABYTES", files.get(b"databytes", b"0")))
        rules.max_recipients = int(variables.get("MAXRCPT", files.get(b"maxrcpt", b"0")))
        rules.max_invalid = int(variables.get("BRTLIMIT", files.get(b"brtlimit", b"0")))
        rules.max_errors = int(variables.get("MAXERRORS", "0"))
        rules.max_unknown = int(variables.get("MAXUNKNOWN", "0"))
        rules.max_logins = 3
        if dialogue.arguments:
            rules.knows_auth = True
            rules.mechanisms = (b"LOGIN", b"PLAIN")
            if variables.get("SMTPAUTH") == "+cram":
                rules.mechanisms += (sasl.CRAM_MD5,)
        rules.auth_required = variables.get("SMTPAUTH") == "!"
        rules.withheld = not variables.get("TCPREMOTEIP", "127.0.0.1").startswith("127.")
        rules.stamp = b"<PID.TIME@mail.example>"
        host = files.get(b"localiphost", HOST.encode()).rstrip(b"\n")
        rules.localize = lambda address: smtpaddress.localized(address, host, lambda ip: ip[:1] == b"\x7f")
        self.session = smtp_server.Session(rules)
        self.message: smtp_server.Message | None = None
        self.text = b""
        self.queued: Queued = []
        self.answered = b""
        self._go_on()

    def feed(self, data: bytes) -> None:
        self.session.feed(data)
        self._go_on()

    def _go_on(self) -> None:
        while (event := self.session.step()) is not None:
            self._act(event)
        self.answered += anonymous(bytes(self.session.output))
        self.session.output.clear()

    def _act(self, event: smtp_server.Event) -> None:
        session = self.session
        if isinstance(event, bytes):
            assert event
            self.text += event
        elif isinstance(event, smtp_server.Recipient):
            refusal = self.reception.refusal(session.helo, session.sender, event.address, self.suffix is not None)
            if refusal:
                session.refuse(refusal)
            else:
                session.accept(event.address + (self.suffix or b""))
        elif isinstance(event, smtp_server.Message):
            self.message = event
            self.text = b""
            session.begin()
        elif isinstance(event, smtp_server.End):
            assert self.message is not None
            if not event.failure:
                self.queued.append((self.message.sender, self.message.recipients, self.text))
            session.finish(event, b"Zqq read error (#4.3.0)" if event.failure else b"", 1, 1)
        elif isinstance(event, smtp_server.Secure):
            session.ready()
            session.secured()
        elif (event.credentials.name, bytes(event.credentials.password)) == (NAME, PASSWORD):
            self.suffix = b""
            session.welcome(NAME)
        else:
            session.reject()
