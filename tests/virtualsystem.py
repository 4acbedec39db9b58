"""A mail system with the account vpopmail, for virtual domains, and the services that doc/VPOPMAIL.md names."""

import os
import smtplib

from tests.mailsystem import MailSystem
from tests.servers import TIMEOUT

UID, GID = 789, 790
SERVED = ("qmail-queued", "qmail-send", "vpop3d", "vsmtpd", "vauthd", "submission")


class VirtualSystem(MailSystem):
    """vhome: the home of vpopmail, with nothing in it. services: the folder that svscan looks at, not there yet."""

    def __init__(self) -> None:
        super().__init__(deliver=True)
        self.vhome = self.folder / "vpopmail"
        self.vhome.mkdir()
        os.chown(self.vhome, UID, GID)
        for name, line in {
            "passwd": f"vpopmail:x:{UID}:{GID}::{self.vhome}:/bin/false",
            "group": f"vchkpw:x:{GID}:",
        }.items():
            with (self.folder / name).open("a") as file:
                file.write(f"{line}\n")
        self.services = self.folder / "service"
        del self.ports["smtpd"]
        self.ports |= {"vpop3d": self._place("vpop3d", "pop3"), "vsmtpd": self._place("vsmtpd", "smtp")}

    def __enter__(self) -> "VirtualSystem":
        return self

    def link(self) -> None:
        """What the page says of services."""
        self.services.mkdir()
        for name in SERVED:
            (self.path / "service" / name / "down").unlink(missing_ok=True)
            (self.services / name).symlink_to(self.path / "service" / name)

    def refusal(self, recipient: str, source: str = "127.0.0.1") -> str:
        """What vsmtpd says to source of a recipient; "" if it takes mail for it."""
        with smtplib.SMTP("127.0.0.1", self.ports["vsmtpd"], "client", TIMEOUT, (source, 0)) as client:
            client.helo()
            client.mail("max@elsewhere.example")
            code, text = client.rcpt(recipient)
            return "" if code == 250 else f"{code} {text.decode()}"

    def mail(self, service: str, recipient: str, subject: str, login: tuple[str, str] | None = None) -> None:
        with self.client(service) as client:
            if login is not None:
                client.login(*login)
            client.sendmail("max@elsewhere.example", [recipient], f"Subject: {subject}\r\n\r\n{subject}\r\n")

    def maildir(self, user: str, domain: str) -> list[bytes]:
        """The messages of an account that have come, seen or not."""
        folder = self.vhome / "domains" / domain / user / "Maildir"
        return [path.read_bytes() for part in ("new", "cur") for path in (folder / part).iterdir()]
