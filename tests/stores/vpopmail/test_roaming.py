import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmailpy.formats import tcprules
from qmailpy.stores import cdb
from qmailpy.stores.vpopmail import roaming
from qmailpy.stores.vpopmail.settings import Settings
from qmailpy.stores.vpopmail.vhome import Vhome
from tests.helpers import environment, needs, run
from tests.vpopkills import deaths

NOW = 1795000000
LINE = b'%s:allow,RELAYCLIENT="",RBLSMTPD=""\t%d\n'
PEERS = [b"192.0.2.%d" % number for number in range(1, 31)]


class Home:
    """VHOME/etc as roaming has it; tcp.smtp has no newline at its end."""

    def __init__(
        self, path: Path, rules: bytes = b'127.:allow,RELAYCLIENT=""\n198.51.100.:deny\n:allow,GREETING="hi"'
    ) -> None:
        self.etc = path / "etc"
        self.etc.mkdir()
        (self.etc / "tcp.smtp").write_bytes(rules)
        self.value = Vhome(bytes(path), bytes(path))

    def allow(self, peer: bytes, now: int = NOW) -> None:
        roaming.allow(self.value, peer, now)

    @property
    def open(self) -> bytes:
        return (self.etc / "open-smtp").read_bytes()

    def rule(self, peer: bytes) -> tcprules.Rule | None:
        return cdb.find(bytes(self.etc / "tcp.smtp.cdb"), peer)

    def relays(self, peer: bytes) -> bool:
        rule = self.rule(peer)
        return rule is not None and not rule.deny and (b"RELAYCLIENT", b"") in rule.variables

    def inode(self) -> tuple[int, int]:
        status = (self.etc / "tcp.smtp.cdb").stat()
        return status.st_ino, status.st_mtime_ns


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_new_address_gets_a_line_and_a_rule_behind_those_of_the_administrator(home: Home) -> None:
    home.allow(b"192.0.2.1")
    home.allow(b"2001:DB8::1")
    home.allow(b"::ffff:192.0.2.2")
    assert home.open == b"".join(LINE % (ip, NOW) for ip in (b"192.0.2.1", b"2001:db8::1", b"192.0.2.2"))
    assert all(home.relays(ip) for ip in (b"192.0.2.1", b"2001:db8::1", b"192.0.2.2", b"127.0.0.1"))
    rule = home.rule(b"192.0.2.3")
    assert rule is not None and rule.variables == [(b"GREETING", b"hi")]
    for name in ("open-smtp", "tcp.smtp.cdb"):
        assert stat.S_IMODE((home.etc / name).stat().st_mode) == 0o644
    assert sorted(os.listdir(home.etc)) == ["open-smtp", "open-smtp.lock", "tcp.smtp", "tcp.smtp.cdb"]


def test_an_own_rule_for_the_address_holds_and_one_for_its_network_does_not(tmp_path: Path) -> None:
    home = Home(tmp_path, b"192.0.2.1:deny\n192.0.2.:deny\n")
    home.allow(b"192.0.2.1")
    home.allow(b"192.0.2.2")
    assert not home.relays(b"192.0.2.1")
    assert home.relays(b"192.0.2.2")
    before = home.inode()
    home.allow(b"192.0.2.1", NOW + 1)
    assert home.inode() == before


def test_a_known_address_is_renewed_and_nothing_else_is_written(home: Home) -> None:
    for ip in (b"192.0.2.1", b"192.0.2.11", b"92.0.2.1"):
        home.allow(ip)
    before, file = home.inode(), (home.etc / "open-smtp").stat().st_ino
    home.allow(b"192.0.2.1", NOW + 60)
    assert home.open == LINE % (b"192.0.2.1", NOW + 60) + LINE % (b"192.0.2.11", NOW) + LINE % (b"92.0.2.1", NOW)
    assert (home.inode(), (home.etc / "open-smtp").stat().st_ino) == (before, file)


def test_an_address_that_the_rules_have_lost_is_compiled_again(home: Home) -> None:
    """As when somebody has run tcprules by hand, or a login was killed between its two files."""
    home.allow(b"192.0.2.1")
    (home.etc / "tcp.smtp.cdb").write_bytes(b"")
    home.allow(b"192.0.2.1", NOW + 1)
    assert home.relays(b"192.0.2.1") and home.relays(b"127.0.0.1")


def test_lines_of_others_stay_and_bad_ones_close_nobody(home: Home) -> None:
    other = b"nonsense without a time\n192.0.2.9:allow\tx\n10.0.0.0/99:allow\t1\nx:foo\t1\n\n"
    (home.etc / "open-smtp").write_bytes(other + b"192.0.2.8:allow\t1")
    home.allow(b"192.0.2.1")
    assert home.open == other + b"192.0.2.8:allow\t1\n" + LINE % (b"192.0.2.1", NOW)
    assert home.relays(b"192.0.2.1")
    assert home.rule(b"192.0.2.8") is not None
    home.allow(b"192.0.2.9")
    assert home.open.count(b"192.0.2.9:") == 1


def test_a_bad_rule_of_the_administrator_keeps_the_rules_as_they_were(home: Home) -> None:
    home.allow(b"192.0.2.1")
    before = home.inode()
    (home.etc / "tcp.smtp").write_bytes(b"127.:allow\n10.:alow\n")
    with pytest.raises(tcprules.BadRule) as caught:
        home.allow(b"192.0.2.2")
    assert roaming.complaint(caught.value).startswith(b"unable to parse this line of tcp.smtp: 10.:alow (line 2: ")
    assert home.inode() == before
    (home.etc / "tcp.smtp").write_bytes(b"127.:allow\n")
    home.allow(b"192.0.2.2", NOW + 1)
    assert home.relays(b"192.0.2.2")


def test_rules_that_cannot_be_read_are_not_left_out(home: Home) -> None:
    home.allow(b"192.0.2.1")
    before = home.inode()
    (home.etc / "tcp.smtp").unlink()
    (home.etc / "tcp.smtp").symlink_to("tcp.smtp")
    with pytest.raises(OSError, match="symbolic links"):
        home.allow(b"192.0.2.2")
    assert home.inode() == before
    assert sorted(os.listdir(home.etc)) == ["open-smtp", "open-smtp.lock", "tcp.smtp", "tcp.smtp.cdb"]


@given(st.binary(max_size=40))
def test_what_is_no_address_opens_nothing(peer: bytes) -> None:
    home = Vhome(b"/nonexistent", b"/nonexistent")
    try:
        roaming.allow(home, peer, NOW)
    except FileNotFoundError:
        assert peer.strip(b"0123456789abcdefABCDEF.:") == b"" or b"%" in peer


@settings(max_examples=10)
@given(st.lists(st.tuples(st.sampled_from(PEERS[:4]), st.booleans()), max_size=12))
def test_each_address_has_one_line_and_one_rule_whatever_came_before(logins: list[tuple[bytes, bool]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as path:
        home = Home(Path(path))
        for number, (peer, cleared) in enumerate(logins):
            home.allow(peer, NOW + number)
            if cleared:
                roaming.clear(home.value, NOW + number - 3)
        if logins:
            lines = home.open.splitlines()
            assert len(lines) == len({line.partition(b":")[0] for line in lines})
            for peer in PEERS[:4]:
                assert home.relays(peer) == (peer + b":" in home.open)


def test_clearing_takes_out_what_is_old_and_tidies_up(home: Home) -> None:
    home.allow(b"192.0.2.1", NOW)
    home.allow(b"192.0.2.2", NOW + 1)
    for name in ("open-smtp.tmp.4194999", "tcp.smtp.tmp.4194999", f"tcp.smtp.tmp.{os.getppid()}", "tcp.smtp.tmp.x"):
        (home.etc / name).touch()
    (home.etc / "tcp.smtp").write_bytes(b"203.0.113.1:deny\n")
    roaming.clear(home.value, NOW)
    assert home.open == LINE % (b"192.0.2.2", NOW + 1)
    assert home.rule(b"192.0.2.1") is None and home.relays(b"192.0.2.2")
    rule = home.rule(b"203.0.113.1")
    assert rule is not None and rule.deny
    assert f"tcp.smtp.tmp.{os.getppid()}" in os.listdir(home.etc) and "tcp.smtp.tmp.x" in os.listdir(home.etc)
    assert not any(name.endswith("4194999") for name in os.listdir(home.etc))


def test_four_processes_with_a_hundred_logins_lose_nothing(home: Home) -> None:
    """25 each, from addresses of which others use some too, while somebody clears."""
    pids = []
    for process in range(5):
        pid = os.fork()
        if pid == 0:
            try:
                for number in range(25):
                    if process < 4:
                        home.allow(PEERS[(number + 3 * process) % len(PEERS)], NOW + number)
                    elif number % 8 == 0:
                        roaming.clear(home.value, NOW - 10)
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 5
    used = {PEERS[(number + 3 * process) % len(PEERS)] for process in range(4) for number in range(25)}
    assert sorted(line.partition(b":")[0] for line in home.open.splitlines()) == sorted(used)
    assert all(home.relays(peer) for peer in used)
    assert home.relays(b"127.0.0.1")


@pytest.mark.parametrize("known", [False, True])
def test_a_login_that_is_killed_loses_no_rule_and_no_address(home: Home, known: bool) -> None:
    home.allow(b"192.0.2.1")
    if known:
        home.allow(b"192.0.2.2")
        (home.etc / "tcp.smtp.cdb").write_bytes(b"".join([]))  # so that there is something to do
    before = {name: (home.etc / name).read_bytes() for name in os.listdir(home.etc)}
    for _ in deaths(lambda: home.allow(b"192.0.2.2", NOW + 60)):
        assert LINE % (b"192.0.2.1", NOW) in home.open
        if not known:
            assert home.relays(b"192.0.2.1") and home.relays(b"127.0.0.1")
        home.allow(b"192.0.2.2", NOW + 61)  # the next login from there
        assert home.relays(b"192.0.2.1") and home.relays(b"192.0.2.2") and home.relays(b"127.0.0.1")
        assert home.open == LINE % (b"192.0.2.1", NOW) + LINE % (b"192.0.2.2", NOW + 61)
        roaming.clear(home.value, NOW - 1)
        assert sorted(os.listdir(home.etc)) == ["open-smtp", "open-smtp.lock", "tcp.smtp", "tcp.smtp.cdb"]
        for name, text in before.items():
            (home.etc / name).write_bytes(text)


def test_clearing_that_is_killed_opens_nobody_and_closes_nobody(home: Home) -> None:
    home.allow(b"192.0.2.1")
    home.allow(b"192.0.2.2", NOW + 60)
    before = {name: (home.etc / name).read_bytes() for name in os.listdir(home.etc)}
    for _ in deaths(lambda: roaming.clear(home.value, NOW)):
        assert home.relays(b"192.0.2.2") and home.relays(b"127.0.0.1")
        roaming.clear(home.value, NOW)
        assert home.relays(b"192.0.2.2") and not home.relays(b"192.0.2.1")
        for name, text in before.items():
            (home.etc / name).write_bytes(text)


def test_the_originals_find_the_same_rules(home: Home) -> None:
    """Debian's tcprulescheck in our cdb; and its tcprules, given what the originals give it, make the same bytes."""
    for ip in (b"192.0.2.1", b"127.0.0.1", b"198.51.100.9"):
        home.allow(ip)
    merged = b'127.:allow,RELAYCLIENT=""\n198.51.100.:deny\n:allow,GREETING="hi"\n'
    merged += b"".join(line.partition(b"\t")[0] + b"\n" for line in home.open.splitlines())
    made = run([needs("tcprules"), "their.cdb", "their.tmp"], input=merged, cwd=home.etc)
    assert made.returncode == 0
    assert (home.etc / "their.cdb").read_bytes() == (home.etc / "tcp.smtp.cdb").read_bytes()
    for peer in ("192.0.2.1", "192.0.2.2", "127.0.0.1", "127.0.0.2", "198.51.100.9", "198.51.100.8"):
        checks = [
            run([program, "tcp.smtp.cdb"], env=environment(TCPREMOTEIP=peer), cwd=home.etc).stdout
            for program in (needs("tcprulescheck"), "tcprulescheck")
        ]
        assert checks[0] == checks[1]
        assert (b"RELAYCLIENT" in checks[0]) == (peer not in ("192.0.2.2", "198.51.100.8"))


@pytest.mark.parametrize(
    ("word", "file", "minutes"),
    [
        (None, None, 0),
        (b"", None, 180),
        (b"1", None, 1),
        (b"0", "30", 0),
        (b"yes", None, 180),
        (None, "", 180),
        (None, "30\n", 30),
        (None, "0\n", 0),
    ],
)
def test_the_minutes_come_from_the_environment_or_from_a_file(
    home: Home, word: bytes | None, file: str | None, minutes: int
) -> None:
    if file is not None:
        (home.etc / "roaming").write_text(file)
    env = {} if word is None else {b"VPOPMAIL_ROAMING": word}
    assert roaming.minutes(Settings(home.value, env)) == minutes
