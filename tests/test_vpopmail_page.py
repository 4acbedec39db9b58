"""doc/VPOPMAIL.md, followed from top to bottom: each line is run as it stands there, with other places for /var/qmail,
/service and /home, and high ports on loopback."""

import poplib
import re
from collections.abc import Callable, Iterator

import pytest

from tests.helpers import ROOT, eventually, run
from tests.mailsystem import needs_root
from tests.servers import TIMEOUT
from tests.virtualsystem import VirtualSystem

LINES = re.findall(r"^ {4}(.*)$", (ROOT / "doc" / "VPOPMAIL.md").read_text(), re.MULTILINE)

DOMAIN = "klient1.example"
SAMPLES = (
    "svstat",
    "vdominfo",
    "vuserinfo",
    "vapppasswd",
    "ls ",
    "vdeldomain",
)  # they print something; all others are silent


@pytest.fixture
def system() -> Iterator[VirtualSystem]:
    needs_root()
    with VirtualSystem() as made:
        yield made


def typed(system: VirtualSystem, line: str) -> str:
    """What a line prints."""
    places = {"/var/qmail": system.path, "/home": system.folder, "/service": system.services}
    line = re.sub(r"(?<= )/(?:var/qmail|home|service)\b|^/var/qmail", lambda found: str(places[found[0]]), line)
    # A session without a terminal: passwords are asked for on descriptor 2.
    done = run([*system.prefix, "setsid", "-w", "sh", "-euc", line], b"new-secret\nnew-secret\n", system.env())
    asked = b"Please enter password" in done.stderr
    assert (done.returncode, done.stderr == b"" or asked) == (0, True), (line, done)
    return done.stdout.decode()


def pop3(system: VirtualSystem, name: str, password: str) -> int:
    """How many messages POP3 shows. Raises error_proto."""
    client = poplib.POP3("127.0.0.1", system.ports["vpop3d"], TIMEOUT)
    client.user(name)
    client.pass_(password)
    count: int = client.stat()[0]
    client.quit()
    return count


def mail_comes_and_goes(system: VirtualSystem) -> None:
    system.mail("vsmtpd", f"joe@{DOMAIN}", "from elsewhere")
    system.mail("vsmtpd", "Sales@klient1-too.example", "to an alias of an alias")
    assert system.refusal(f"nobody@{DOMAIN}").startswith("550 sorry, no mailbox here by that name")
    assert system.refusal("nobody@far.example").startswith("553 sorry, that domain")
    system.mail("submission", f"ann@{DOMAIN}", "from joe", (f"joe@{DOMAIN}", "joe-secret"))
    assert eventually(lambda: (len(system.maildir("joe", DOMAIN)), len(system.maildir("ann", DOMAIN))) == (2, 1))
    assert b"\nSubject: from joe\n" in system.maildir("ann", DOMAIN)[0]
    assert eventually(lambda: pop3(system, "ann", "ann-secret") == 1)  # when the second of its delivery is over
    assert eventually(lambda: pop3(system, "joe%klient1-too.example", "joe-secret") == 2)


def may_not(system: VirtualSystem, name: str, password: str) -> None:
    with pytest.raises(poplib.error_proto, match="authorization failed"):
        pop3(system, name, password)


def joe_has_another_password(system: VirtualSystem) -> None:
    may_not(system, f"joe@{DOMAIN}", "joe-secret")
    pop3(system, f"joe@{DOMAIN}", "new-secret")


def bob_is_gone(system: VirtualSystem) -> None:
    may_not(system, f"bob@{DOMAIN}", "bob-secret")
    assert system.refusal(f"bob@{DOMAIN}").startswith("550")


def who_reads_may_send(system: VirtualSystem) -> None:
    assert system.refusal("somebody@far.example").startswith("553")
    pop3(system, f"joe@{DOMAIN}", "new-secret")
    assert system.refusal("somebody@far.example") == ""


def the_domain_is_no_more(system: VirtualSystem) -> None:
    assert system.refusal(f"joe@{DOMAIN}", "127.0.0.2").startswith("553")  # 127.0.0.1 may relay
    assert not (system.vhome / "domains" / DOMAIN).exists()
    assert typed(system, "vdominfo -j") == ""


# Behind a line of the page
CHECKS: dict[str, Callable[[VirtualSystem], None]] = {
    "vcheck": mail_comes_and_goes,
    f"vpasswd joe@{DOMAIN}": joe_has_another_password,
    f"vdeluser bob@{DOMAIN}": bob_is_gone,
    "clearopensmtp": who_reads_may_send,
    f"vdeldomain -f {DOMAIN}": the_domain_is_no_more,
}


def test_the_page_leads_from_zero_to_a_domain_and_back(system: VirtualSystem) -> None:
    followed = set()
    for line in LINES:
        if line.startswith(("groupadd", "useradd")):  # the file of passwd is a mount, which these cannot replace
            assert line.endswith((" vchkpw", " vpopmail"))
            continue
        if line.startswith("svstat"):
            system.start("ours")
            assert eventually(system.is_up), system.log.text
        if line.startswith("ls "):
            assert eventually(lambda: len(system.maildir("joe", DOMAIN)) == 3)
        said = typed(system, line.removeprefix("*/10 * * * * "))
        assert line.startswith(SAMPLES) == (said != ""), said
        if line.startswith("svstat"):
            assert said.count(": up (pid ") == 6
        if line in CHECKS:
            CHECKS[line](system)
            followed.add(line)
    assert followed == CHECKS.keys()
