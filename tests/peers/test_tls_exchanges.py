"""qmail-remote and what domains say of the TLS of their mail exchangers, DANE and MTA-STS: a small Internet of its own
for each run, as root."""

import os
import re
import time
from pathlib import Path

import pytest

from tests import exchanges
from tests.authority import Authority, Issued
from tests.helpers import BIN, environment, needs
from tests.queuehomes import nobody

OURS = str(BIN / "qmail-remote")
Records = list[tuple[str, str, str]]

ONE, TWO, WEB = "198.51.100.1", "198.51.100.2", "198.51.100.80"
HOST = "there.example"
KINDS: Records = [("m1.there.example", "A", ONE), ("m2.there.example", "A", TWO), ("mta-sts.there.example", "A", WEB)]
MX: Records = [(HOST, "MX", "10 m1.there.example."), (HOST, "MX", "20 m2.there.example.")]

POLICY = "version: STSv1\r\nmode: enforce\r\nmx: *.there.example\r\nmax_age: 86400\r\n"
GOOD = "TLSv1.3 TLS_AES_256_GCM_SHA384 "
SAID = "Remote host said: 250 2.0.0 ok 1795 qp 23\n"


def accepted(ip: str, shown: str = "") -> list[str]:
    return ["r", f"K{ip} accepted message.\n{GOOD + shown + '.' + chr(10) if shown else ''}{SAID}"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "certificates")


@pytest.fixture(scope="module")
def m1(authority: Authority) -> Issued:
    return authority.issue("m1.there.example")


@pytest.fixture(scope="module")
def policy_host(authority: Authority) -> Issued:
    return authority.issue("mta-sts.there.example")


class Internet:
    """records, servers, web and insecure are as tests.exchanges describes them; fetched: how often a policy was, in the
    last run."""

    def __init__(self, home: Path, authority: Authority) -> None:
        self.home = home
        self.records: Records = []
        self.servers: dict[str, dict[str, str]] = {}
        self.web: dict[str, tuple[str, str]] = {}
        self.insecure: list[str] | None = None
        self.fetched = 0
        self._authority = authority

    @property
    def kept(self) -> Path:
        return self.home / "mta-sts" / HOST

    def publish(self, certificate: Issued, text: str, head: str = "", number: str = "1") -> None:
        """A policy with that id."""
        self.records = [each for each in self.records if each[1] != "TXT"]
        self.records.append((f"_mta-sts.{HOST}", "TXT", f'"v=STSv1; id={number};"'))
        head = head or f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}"
        self.web = {WEB: (str(certificate.path), f"{head}\r\n\r\n{text}")}

    def send(self, host: str = HOST) -> list[str]:
        reports, sessions = exchanges.outcome(
            self.home,
            {
                "records": [*KINDS, *self.records], "servers": self.servers, "web": self.web,
                "insecure": self.insecure, "argv": [OURS, host, "me@here.example", f"you@{host}"],
                "env": environment(QMAILHOME=str(self.home), SSL_CERT_FILE=str(self._authority.cafile)),
                "message": "Subject: hello\n\nhello\n",
            },
        )  # fmt: skip
        self.fetched = sessions.get(WEB, 0)
        return reports


@pytest.fixture
def internet(tmp_path: Path, authority: Authority) -> Internet:
    nobody()
    needs("unshare")
    needs("ip")
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "me").write_text("here.example\n")
    (tmp_path / "mta-sts").mkdir()
    return Internet(tmp_path, authority)


def secure(certificate: Issued) -> dict[str, str]:
    return {"certificate": str(certificate.path)}


# MTA-STS


def test_a_policy_is_fetched_kept_and_followed(internet: Internet, m1: Issued, policy_host: Issued) -> None:
    internet.records += MX
    internet.servers = {ONE: secure(m1), TWO: {}}
    internet.publish(policy_host, POLICY)
    assert internet.send() == accepted(ONE, "verified by MTA-STS")
    assert internet.fetched == 1
    assert b"mode: enforce\n" in internet.kept.read_bytes()
    assert internet.send() == accepted(ONE, "verified by MTA-STS")
    assert internet.fetched == 0  # the id is the same
    internet.publish(policy_host, POLICY.replace("*.there", "m1.there"), number="2")
    assert internet.send() == accepted(ONE, "verified by MTA-STS")
    assert internet.fetched == 1
    assert b"mx: m1.there.example\n" in internet.kept.read_bytes()


def test_a_policy_holds_when_somebody_takes_everything_away(
    internet: Internet, authority: Authority, m1: Issued, policy_host: Issued
) -> None:
    """The TXT record, the policy's host, STARTTLS, the certificate."""
    internet.records += MX
    internet.servers = {ONE: secure(m1)}
    internet.publish(policy_host, POLICY)
    assert internet.send() == accepted(ONE, "verified by MTA-STS")
    internet.records = [*MX]
    internet.web = {}
    assert internet.send() == accepted(ONE, "verified by MTA-STS")
    for server, why in (
        ({}, f"ZConnected to {ONE} but it does not offer TLS, which MTA-STS demands. (#4.7.10)\n"),
        (
            secure(authority.self_signed("m1.there.example")),
            f"ZConnected to {ONE} but TLS failed, which MTA-STS demands: self-signed certificate. (#4.7.5)\n",
        ),
    ):
        internet.servers = {ONE: server}
        assert internet.send() == [why]
    internet.records = [(HOST, "MX", "10 evil.example."), ("evil.example", "A", TWO)]
    internet.servers = {TWO: secure(authority.issue("evil.example"))}
    assert internet.send() == [
        "ZSorry, evil.example is a mail exchanger that the MTA-STS policy of its domain does not name. (#4.7.5)\n"
    ]


def test_the_next_exchange_gets_it_where_one_lacks_tls(
    internet: Internet, authority: Authority, policy_host: Issued
) -> None:
    internet.records += [*MX, (HOST, "MX", "5 m1.else.example."), ("m1.else.example", "A", WEB)]
    internet.servers = {ONE: {}, TWO: secure(authority.issue("m2.there.example"))}
    internet.publish(policy_host, POLICY)
    assert internet.send() == accepted(TWO, "verified by MTA-STS")


def test_exchanges_that_a_policy_does_not_name_are_passed_over(
    internet: Internet, authority: Authority, policy_host: Issued
) -> None:
    """However many addresses they have."""
    internet.records += [*MX, (HOST, "MX", "5 m1.else.example.")]
    internet.records += [("m1.else.example", "A", f"198.51.100.{number}") for number in range(10, 15)]
    internet.servers = {ONE: secure(authority.issue("m1.there.example"))}
    internet.publish(policy_host, POLICY)
    assert internet.send() == accepted(ONE, "verified by MTA-STS")


@pytest.mark.parametrize("host", [HOST + ".", "th\\145re.example", HOST.upper()])
def test_a_policy_holds_however_the_domain_is_written(internet: Internet, policy_host: Issued, host: str) -> None:
    internet.records += MX
    internet.servers = {ONE: {}}
    internet.publish(policy_host, POLICY)
    assert "MTA-STS demands" in internet.send(host)[0]
    (internet.home / "control" / "tlsdestinations").write_text(f"{HOST}:encrypt\n")
    internet.kept.unlink()
    internet.records = [*MX]
    assert "control/tlsdestinations demands" in internet.send(host)[0]


@pytest.mark.parametrize("mode", ["testing", "none"])
def test_a_policy_may_demand_nothing(internet: Internet, policy_host: Issued, mode: str) -> None:
    internet.records += MX
    internet.servers = {ONE: {}}
    internet.publish(policy_host, POLICY.replace("enforce", mode))
    assert internet.send() == accepted(ONE)
    assert mode.encode() in internet.kept.read_bytes()


REDIRECT = (
    "HTTP/1.1 301 Moved\r\nLocation: https://mta-sts.there.example/x\r\nContent-Type: text/plain\r\nContent-Length: 91"
)
NO_POLICIES = {
    "no policy": ("", "nothing"),
    "redirection": (REDIRECT, POLICY),
    "not found": ("HTTP/1.1 404 Not found\r\nContent-Type: text/plain", POLICY),
    "type": ("HTTP/1.1 200 OK\r\nContent-Type: text/html", POLICY),
    "no http": ("hello", POLICY),
    "cut": ("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000", POLICY),
    "too long": ("", POLICY + "x: y\r\n" * 20_000),
    "endless head": ("HTTP/1.1 200 OK\r\n" + "X-Y: z\r\n" * 20_000 + "Content-Type: text/plain", POLICY),
}


@pytest.mark.parametrize("what", NO_POLICIES)
def test_what_is_no_policy_is_none(internet: Internet, policy_host: Issued, what: str) -> None:
    internet.records += MX
    internet.servers = {ONE: {}}
    head, text = NO_POLICIES[what]
    internet.publish(policy_host, text, head)
    assert internet.send() == accepted(ONE)
    assert internet.fetched == 1
    assert internet.send() == accepted(ONE)
    assert internet.fetched == 0  # not at once again
    internet.publish(policy_host, POLICY)
    internet.kept.write_text(re.sub(r"failed: \d+", "failed: 1000", internet.kept.read_text()))
    assert internet.send() == [f"ZConnected to {ONE} but it does not offer TLS, which MTA-STS demands. (#4.7.10)\n"]


def test_a_policy_in_pieces_is_one(internet: Internet, m1: Issued, policy_host: Issued) -> None:
    internet.records += MX
    internet.servers = {ONE: secure(m1)}
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked"
    internet.publish(policy_host, f"{len(POLICY):x}\r\n{POLICY}\r\n0\r\n\r\n", head)
    assert internet.send() == accepted(ONE, "verified by MTA-STS")


def test_a_policy_counts_only_from_the_host_it_is_of(internet: Internet, authority: Authority) -> None:
    internet.records += MX
    internet.servers = {ONE: {}}
    for bad in (authority.self_signed("mta-sts.there.example"), authority.issue(HOST)):
        internet.kept.unlink(missing_ok=True)
        internet.publish(bad, POLICY)
        assert internet.send() == accepted(ONE)
        assert internet.kept.exists()


def test_a_policy_that_has_ended_holds_no_more(internet: Internet, policy_host: Issued) -> None:
    internet.records += MX
    internet.servers = {ONE: {}}
    lines = ["qmailpy-mta-sts 1", "id: 1", f"fetched: {int(time.time()) - 1000}", "failed: 0", *POLICY.split("\r\n")]
    internet.kept.write_text("\n".join(lines))
    assert internet.send()[0].startswith("ZConnected")
    internet.kept.write_text("\n".join(lines).replace("86400", "999"))
    assert internet.send() == accepted(ONE)


def test_without_a_folder_there_are_no_policies(internet: Internet, policy_host: Issued) -> None:
    (internet.home / "mta-sts").rmdir()
    internet.records += MX
    internet.servers = {ONE: {}}
    internet.publish(policy_host, POLICY)
    assert internet.send() == accepted(ONE)
    assert internet.fetched == 0


def test_a_kept_policy_that_cannot_be_read_is_trouble(internet: Internet, policy_host: Issued) -> None:
    internet.records += MX
    internet.servers = {ONE: {}}
    internet.kept.mkdir()
    assert internet.send() == ["ZUnable to read the MTA-STS policy of there.example. (#4.3.0)\n"]
    internet.kept.rmdir()
    internet.kept.write_bytes(os.urandom(1000))
    assert internet.send() == accepted(ONE)


def test_the_administrators_word_counts_alone(internet: Internet, m1: Issued, policy_host: Issued) -> None:
    internet.records += MX
    internet.servers = {ONE: {}}
    internet.publish(policy_host, POLICY)
    destinations = internet.home / "control" / "tlsdestinations"
    destinations.write_text(f"{HOST}:none\n")
    assert internet.send() == accepted(ONE)
    assert internet.fetched == 0
    destinations.write_text(f"{HOST}:encrypt\n")
    internet.servers = {ONE: secure(m1)}
    assert internet.send() == accepted(ONE, "verified by MTA-STS")


# DANE


def tlsa(name: str, *data: str) -> Records:
    return [(f"_25._tcp.{name}", "TLSA", each) for each in data]


def test_an_exchange_is_verified_by_its_records(internet: Internet, authority: Authority) -> None:
    own = authority.self_signed("whatever")
    internet.records += [*MX, *tlsa("m1.there.example", own.tlsa(3, 1, 1))]
    internet.servers = {ONE: secure(own)}
    internet.insecure = []
    assert internet.send() == accepted(ONE, "verified by DANE")
    internet.servers = {ONE: secure(authority.self_signed("m1.there.example"))}
    assert internet.send() == [
        f"ZConnected to {ONE} but TLS failed, which DANE demands: its certificate fits none of its TLSA records."
        " (#4.7.5)\n"
    ]


@pytest.mark.parametrize("name", ["m1.there.example", HOST, "else.example"])
def test_with_an_authority_the_name_of_exchange_or_domain_counts(
    internet: Internet, authority: Authority, name: str
) -> None:
    internet.records += [*MX, *tlsa("m1.there.example", authority.middle.tlsa(2, 1, 1))]
    internet.servers = {ONE: secure(authority.issue(name))}
    internet.insecure = []
    report = internet.send()
    if name == "else.example":
        assert "its certificate is not for m1.there.example" in report[0]
    else:
        assert report == accepted(ONE, "verified by DANE")


@pytest.mark.parametrize("insecure", [HOST, "m1.there.example", "_25._tcp.m1.there.example"])
def test_all_on_the_way_has_to_be_authentic(internet: Internet, authority: Authority, insecure: str) -> None:
    internet.records += [*MX, *tlsa("m1.there.example", authority.middle.tlsa(3, 1, 1))]
    internet.servers = {ONE: {}}
    internet.insecure = []
    assert "DANE demands" in internet.send()[0]
    internet.insecure = [insecure]
    assert internet.send() == accepted(ONE)


def test_a_host_without_exchanges_may_have_records(internet: Internet, authority: Authority) -> None:
    own = authority.self_signed("whatever")
    internet.records += [(HOST, "A", ONE), *tlsa(HOST, own.tlsa(3, 0, 2))]
    internet.servers = {ONE: secure(own)}
    internet.insecure = []
    assert internet.send() == accepted(ONE, "verified by DANE")


def test_records_come_before_a_policy_and_a_policy_makes_nothing_good(
    internet: Internet, authority: Authority, m1: Issued, policy_host: Issued
) -> None:
    """RFC 8461 section 2."""
    internet.insecure = []
    own = authority.self_signed("m1.there.example")
    internet.records += [*MX, *tlsa("m1.there.example", own.tlsa(3, 1, 1))]
    internet.publish(policy_host, POLICY)
    internet.servers = {ONE: secure(own)}
    assert internet.send() == accepted(ONE, "verified by DANE")
    internet.servers = {ONE: secure(m1)}
    assert "fits none of its TLSA records" in internet.send()[0]
    internet.records = [*MX, *tlsa("m1.there.example", m1.tlsa(1, 1, 1))]  # of no use: the policy holds
    assert internet.send() == accepted(ONE, "verified by MTA-STS")


def test_the_next_exchange_gets_it_where_one_fails(internet: Internet, authority: Authority) -> None:
    own = authority.self_signed("m2.there.example")
    internet.records += [
        *MX, *tlsa("m1.there.example", own.tlsa(3, 1, 1)), *tlsa("m2.there.example", own.tlsa(3, 1, 1))
    ]  # fmt: skip
    internet.insecure = []
    internet.servers = {ONE: secure(authority.self_signed("m1.there.example")), TWO: secure(own)}
    assert internet.send() == accepted(TWO, "verified by DANE")
