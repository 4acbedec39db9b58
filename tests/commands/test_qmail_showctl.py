"""qmail-showctl: its text, beside that of the C program where QMAIL_BIN names it, and its JSON."""

import ast
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.commands import qmail_showctl
from qmailpy.formats import manpage
from qmailpy.registry import COMMANDS
from tests.commands.netstringd import in_home
from tests.helpers import BIN, ROOT, environment, run
from tests.pop3_original import originals
from tests.queuehomes import QueueHome, queue_home

__all__ = ["queue_home"]

SHOWCTL = BIN / "qmail-showctl"

ADDED = """
authsenders: (Default.) No SMTP routes of senders.

badhelo: (Default.) Any HELO name is allowed.

badrcptto: (Default.) Any RCPT TO is allowed.

bounceformat: (Default.) Bounces are plain text.

bouncemaxbytes: (Default.) Limit on what a bounce has of its message is 0 bytes; 0 is no limit.

brtlimit: (Default.) SMTP limit of refused recipients in a session is 0; 0 is no limit.

clearauthhosts: (Default.) No SMTP relay is sent a password in clear.

clientcert.pem: (Default.) No certificate of our own for SMTP servers.

dnssecservers: (Default.) Name servers on loopback addresses are believed about DNSSEC.

maxrcpt: (Default.) SMTP limit of recipients of a message is 0; 0 is no limit.

rcptcheck: (Default.) No program is asked about SMTP recipients.

servercert.pem: (Default.) Services offer no TLS.

tlsclientciphers: (Default.) SMTP client ciphers for TLS 1.2 are OpenSSL's.

tlsdestinations: (Default.) No SMTP destination has to have TLS.

tlsserverciphers: (Default.) Server ciphers for TLS 1.2 are OpenSSL's.
"""

# What the original prints for a control directory that holds nothing but me, from the second paragraph on.
PLAIN = """
badmailfrom: (Default.) Any MAIL FROM is allowed.

bouncefrom: (Default.) Bounce user name is MAILER-DAEMON.

bouncehost: (Default.) Bounce host name is me.example.

concurrencylocal: (Default.) Local concurrency is 10.

concurrencyremote: (Default.) Remote concurrency is 20.

databytes: (Default.) SMTP DATA limit is 0 bytes.

defaultdomain: (Default.) Default domain name is me.example.

defaulthost: (Default.) Default host name is me.example.

doublebouncehost: (Default.) 2B recipient host: me.example.

doublebounceto: (Default.) 2B recipient user: postmaster.

envnoathost: (Default.) Presumed domain name is me.example.

helohost: (Default.) SMTP client HELO host name is me.example.

idhost: (Default.) Message-ID host name is me.example.

localiphost: (Default.) Local IP address becomes me.example.

locals: (Default.) Messages for me are delivered locally.

me: My name is me.example.

percenthack: (Default.) The percent hack is not allowed.

plusdomain: (Default.) Plus domain name is me.example.

qmqpservers: (Default.) No QMQP servers.

queuelifetime: (Default.) Message lifetime in the queue is 604800 seconds.

rcpthosts: (Default.) SMTP clients may send messages to any recipient.

morercpthosts: (Default.) No rcpthosts; morercpthosts is irrelevant.

morercpthosts.cdb: (Default.) No effect.

smtpgreeting: (Default.) SMTP greeting: 220 me.example.

smtproutes: (Default.) No artificial SMTP routes.

timeoutconnect: (Default.) SMTP client connection timeout is 60 seconds.

timeoutremote: (Default.) SMTP client data timeout is 1200 seconds.

timeoutsmtpd: (Default.) SMTP server data timeout is 1200 seconds.

virtualdomains: (Default.) No virtual domains.
"""


def show(home: Path, *options: str) -> str:
    result = run([SHOWCTL, *options], env=environment(QMAILHOME=str(home)))
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout.decode("latin-1")


def paragraphs(text: str) -> dict[str, str]:
    """What is said of each file."""
    return {name: rest for name, _, rest in (part.partition(":") for part in text.split("\n\n"))}


class Place:
    """A home with control files."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "control"
        self.folder.mkdir()

    def write(self, name: str, text: bytes) -> None:
        (self.folder / name).write_bytes(text)

    def said(self, name: str) -> str:
        return paragraphs(show(self.home))[name].lstrip(" ").rstrip("\n")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.write("me", b"me.example\n")
    return made


def test_without_control_files_all_defaults_are_shown(place: Place) -> None:
    head, _, rest = show(place.home).partition("\n\n")
    assert "\n" + rest == PLAIN + ADDED
    lines = head.splitlines()
    assert lines[:5] == [
        f"qmail home directory: {place.home}.",
        "user-ext delimiter: -.",
        "paternalism (in decimal): 2.",
        "silent concurrency limit: 120.",
        "subdirectory split: 23.",
    ]
    assert re.fullmatch(r"user ids: (?:(?:\d+|-), ){3}0(?:, (?:\d+|-)){4}\.", lines[5])
    assert re.fullmatch(r"group ids: (?:\d+|-), (?:\d+|-)\.", lines[6])


def test_without_me_its_defaults_are_their_own_names(place: Place) -> None:
    (place.folder / "me").unlink()
    text = paragraphs(show(place.home))
    assert text["me"] == " (Default.) My name is undefined! Uh-oh."
    assert text["helohost"] == " (Default.) SMTP client HELO host name is helohost."


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("locals", b"# hosts\n\nhere.example \nthere\x1b\n", "\nMessages for here.example are delivered locally.\n"
         "Messages for there? are delivered locally."),
        ("locals", b"", ""),
        ("smtproutes", b":relay", "\nSMTP route: :relay"),
        ("helohost", b" a b\t \nc\n", "SMTP client HELO host name is  a b."),
        ("helohost", b"", "SMTP client HELO host name is ."),
        ("databytes", b"12x\n", "SMTP DATA limit is 12 bytes."),
        ("databytes", b"x12\n", "(Default.) SMTP DATA limit is 0 bytes."),
        ("databytes", b"3000000000", "SMTP DATA limit is 3000000000 bytes."),
        ("rcptcheck", b"check -x\n", "Asked about SMTP recipients: check -x."),
        ("unheard-of", b"", "I have no idea what this file does."),
    ],
)  # fmt: skip
def test_a_control_file_is_explained(place: Place, name: str, text: bytes, said: str) -> None:
    place.write(name, text)
    assert place.said(name) == said


def test_unknown_files_come_last_in_order(place: Place) -> None:
    for name in ("zz", "a\x1bb", "Me"):
        place.write(name, b"")
    assert list(paragraphs(show(place.home)))[-3:] == ["Me", "a?b", "zz"]


def test_a_file_that_cannot_be_read_is_named(place: Place) -> None:
    for name in ("locals", "databytes", "helohost", "rcpthosts"):
        (place.folder / name).mkdir()
        assert place.said(name) == "Oops! Trouble reading this file."
    assert place.said("morercpthosts") == "(Default.) No effect."


def test_morercpthosts_matters_with_rcpthosts_alone(place: Place) -> None:
    place.write("morercpthosts", b"b.example\n")
    assert place.said("morercpthosts") == "\nNo rcpthosts; doesn't matter that morercpthosts has b.example."
    place.write("rcpthosts", b"a.example\n")
    assert place.said("morercpthosts") == "\nSMTP clients may send messages to recipients at b.example."
    assert place.said("morercpthosts.cdb") == "Oops! morercpthosts exists but morercpthosts.cdb doesn't."
    place.write("morercpthosts.cdb", b"")
    assert place.said("morercpthosts.cdb") == "Modified recently enough; hopefully up to date."
    os.utime(place.folder / "morercpthosts.cdb", (1, 1))
    assert place.said("morercpthosts.cdb") == "Oops! morercpthosts.cdb is older than morercpthosts."
    (place.folder / "morercpthosts").unlink()
    assert place.said("morercpthosts.cdb") == "Oops! morercpthosts.cdb exists but morercpthosts doesn't."


def test_the_split_is_that_of_the_queue(tmp_path: Path) -> None:
    made = QueueHome(tmp_path / "home", split=7)
    assert "\nsubdirectory split: 7.\n" in show(made.path)


def test_without_home_or_control_it_says_so(tmp_path: Path) -> None:
    for home, said in ((tmp_path / "missing", f"to {tmp_path / 'missing'}"), (tmp_path, "to control")):
        env = environment(QMAILHOME=str(home))
        text = run([SHOWCTL], env=env)
        assert text.returncode == 111
        assert text.stdout.decode().endswith(f"\nOops! Unable to chdir {said}.\n")
        in_json = run([SHOWCTL, "-j"], env=env)
        assert (in_json.returncode, in_json.stdout) == (111, b"")
        assert in_json.stderr == b"qmail-showctl: fatal: unable to read control: file does not exist\n"


def test_an_unreadable_me_ends_it(place: Place) -> None:
    (place.folder / "me").unlink()
    (place.folder / "me").mkdir()
    result = run([SHOWCTL], env=environment(QMAILHOME=str(place.home)))
    assert result.returncode == 111
    assert result.stdout.endswith(b"\nOops! Trouble reading control/me.")


def test_other_options_are_wrong_usage() -> None:
    result = run([SHOWCTL, "-x"])
    assert (result.returncode, result.stdout) == (100, b"")
    assert result.stderr.endswith(b"qmail-showctl: usage: qmail-showctl [ -j ]\n")


def test_output_that_cannot_be_written_is_trouble(place: Place) -> None:
    command = ["sh", "-c", '"$0" >/dev/full', str(SHOWCTL)]
    result = run(command, env=environment(QMAILHOME=str(place.home)))
    assert (result.returncode, result.stderr) == (
        111,
        b"qmail-showctl: fatal: unable to write output: out of disk space\n",
    )


def test_json_says_the_same(place: Place) -> None:
    place.write("locals", b"a.example\n\xff\xc3\xbc\n")
    place.write("databytes", b"5\n")
    place.write("smtpgreeting", b"hello\n")
    place.write("rcptcheck", b"x\n")
    place.write("unheard-of", b"")
    (place.folder / "helohost").mkdir()
    shown = json.loads(show(place.home, "-j"))
    assert (shown["home"], shown["split"], shown["delimiter"]) == (str(place.home), 23, "-")
    assert shown["users"]["root"] == 0
    assert set(shown["groups"]) == {"nofiles", "qmail"}
    by_name = {each.pop("name"): each for each in shown["control"]}
    plain = {"default": False, "readable": True}
    assert by_name["locals"] == {
        **plain,
        "kind": "list",
        "lines": ["a.example", "\\xffü"],
        "meaning": "Messages for a.example are delivered locally.\nMessages for ??? are delivered locally.",
    }
    assert by_name["databytes"] == {**plain, "kind": "number", "value": 5, "meaning": "SMTP DATA limit is 5 bytes."}
    assert by_name["smtpgreeting"]["value"] == "hello"
    assert by_name["rcptcheck"] == {
        **plain,
        "kind": "option",
        "value": "x",
        "meaning": "Asked about SMTP recipients: x.",
    }
    assert by_name["helohost"] == {
        "kind": "line",
        "default": False,
        "readable": False,
        "value": None,
        "meaning": "Oops! Trouble reading this file.",
    }
    assert by_name["concurrencylocal"]["value"] == 10
    assert by_name["qmqpservers"] == {
        "kind": "list",
        "default": True,
        "readable": True,
        "lines": [],
        "meaning": "No QMQP servers.",
    }
    assert by_name["unheard-of"] == {**plain, "kind": "unknown", "meaning": "I have no idea what this file does."}
    assert list(by_name) == list(paragraphs(show(place.home)))[1:]


def test_passwords_of_routes_are_not_shown(place: Place) -> None:
    for name in "smtproutes", "authsenders":
        place.write(name, b":relay.example:587|max|my|pass\nb.example:\n")
        assert "relay.example:587|max|..." in place.said(name)
    for words in ((), ("-j",)):
        assert "my" not in show(place.home, *words)


def test_every_control_file_of_a_manual_page_is_known() -> None:
    known = {row[0].decode() for row in (*qmail_showctl.QMAIL, *qmail_showctl.ADDED)}
    for name, command in COMMANDS.items():
        path = ROOT / "qmailpy" / "commands" / f"{command.module}.py"
        if name == "qmail-showctl" or not path.exists():
            continue
        pages = dict(manpage.sections(ast.get_docstring(ast.parse(path.read_bytes()), clean=False) or ""))
        terms = [line.partition("  ")[0] for line in pages.get("CONTROL FILES", []) if line and line[0] != " "]
        words = {word for term in terms for word in re.split(r"[, ]+", term)}
        assert {word for word in words if not word.endswith(".tmp")} <= known, name


@pytest.mark.parametrize("name", ["clientcert.pem", "servercert.pem"])
def test_a_key_is_not_shown_nor_read(place: Place, name: str) -> None:
    place.write(name, b"my key\n")
    assert place.said(name) == "There is a certificate."
    assert "my key" not in show(place.home, "-j")
    (place.folder / name).unlink()
    (place.folder / name).symlink_to("/nonexistent/key")
    assert place.said(name) == "There is a certificate."


# Beside the original


def without_numbers(text: str) -> str:
    """The originals' accounts are compiled in."""
    return re.sub(r"^(qmail home directory|user ids|group ids): .*$", r"\1", text, flags=re.MULTILINE)


def original_order(text: str) -> str:
    """Unknown files in order, where the original has them as they lie in their directory."""
    parts = text.removesuffix("\n").split("\n\n")
    unknown = [part for part in parts if part.endswith(": I have no idea what this file does.")]
    return "\n\n".join([part for part in parts if part not in unknown] + sorted(unknown)) + "\n"


NAMES = st.sampled_from([row[0].decode() for row in qmail_showctl.QMAIL] + ["unheard-of", "rcpthosts~"])
TEXTS = st.lists(
    st.sampled_from([b"a.example", b"#x", b"\n", b"\n", b" ", b"\t", b"7", b"0", b"\x1b\xff\x7f", b":"]), max_size=6
).map(b"".join)

if originals("qmail-showctl"):

    @pytest.mark.parametrize("path", originals("qmail-showctl"))
    @settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(files=st.dictionaries(NAMES, TEXTS, max_size=8))
    def test_the_text_is_the_originals(place: Place, path: str, files: dict[str, bytes]) -> None:
        for old in place.folder.iterdir():
            old.unlink()
        for name, text in files.items():
            place.write(name, text)
        theirs = run(in_home(path, place.home)).stdout.decode("latin-1")
        ours = show(place.home)
        assert ADDED in ours
        assert without_numbers(ours.replace(ADDED, "")) == without_numbers(original_order(theirs))
