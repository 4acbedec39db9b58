"""qmail-remote finds its way by DNS to servers on port 25, beside the C program where QMAIL_BIN names it: a small
Internet of its own for each run, as root."""

from collections import Counter
from pathlib import Path

import pytest

from tests import exchanges
from tests.commands.netstringd import in_home, programs
from tests.helpers import BIN, environment, needs
from tests.queuehomes import nobody

OURS = str(BIN / "qmail-remote")
Records = list[tuple[str, str, str]]
Servers = dict[str, dict[str, str]]

ONE, TWO, THREE = "198.51.100.1", "198.51.100.2", "198.51.100.3"
US, NOWHERE, REFUSING = "192.0.2.1", "203.0.113.1", "198.51.100.99"
SIX = "2001:db8::6"

KINDS: Records = [("m1.example", "A", ONE), ("m2.example", "A", TWO), ("m3.example", "A", THREE),
                  ("us.example", "A", US), ("nowhere.example", "A", NOWHERE), ("refusing.example", "A", REFUSING),
                  ("six.example", "AAAA", SIX), ("gone.example", "TXT", '"x"')]  # fmt: skip

ACCEPTED = "K%s accepted message.\nRemote host said: 250 2.0.0 ok 1795 qp 23\n"
NO_CONNECTION = "ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
US_REPORT = (
    "DSorry. Although I'm listed as a best-preference MX or A for that host,\n"
    "it isn't in my control/locals file, so I don't treat it as local. (#5.4.6)\n"
)


@pytest.fixture(
    params=programs("qmail-remote"), ids=lambda path: "ours" if Path(path).parent == BIN else "the original"
)
def remote(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    nobody()
    needs("unshare")
    needs("ip")
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "me").write_text("here.example\n")
    return tmp_path


def send(
    program: str, home: Path, records: Records, servers: Servers | list[str], host: str = "there.example"
) -> tuple[list[str], dict[str, int]]:
    words = [*map(str, in_home(program, home)), host, "me@here.example", "you@there.example"]
    return exchanges.outcome(
        home,
        {
            "records": [*KINDS, *records],
            "servers": servers if isinstance(servers, dict) else {ip: {} for ip in servers},
            "argv": words,
            "env": environment(QMAILHOME=str(home)),
            "message": "Subject: hello\n\nhello\n",
        },
    )


def mx(*exchanges_: str, host: str = "there.example") -> Records:
    return [(host, "MX", exchange + ".example.") for exchange in exchanges_]


def test_the_best_exchange_gets_the_message(remote: str, home: Path) -> None:
    records = [*mx("20 m2", "10 m1", "30 m3"), ("there.example", "A", THREE)]
    assert send(remote, home, records, [ONE, TWO, THREE]) == (["r", ACCEPTED % ONE], {ONE: 1})


@pytest.mark.parametrize("down", ["10 refusing", "10 nowhere", "10 gone", "10 none"])
def test_the_next_one_gets_it_where_the_best_is_not_there(remote: str, home: Path, down: str) -> None:
    assert send(remote, home, mx(down, "20 m2"), [TWO]) == (["r", ACCEPTED % TWO], {TWO: 1})


def test_without_exchanges_the_host_itself_gets_it(remote: str, home: Path) -> None:
    assert send(remote, home, [("there.example", "A", ONE)], [ONE]) == (["r", ACCEPTED % ONE], {ONE: 1})


def test_an_alias_is_followed(remote: str, home: Path) -> None:
    records: Records = [("alias.example", "CNAME", "there.example"), *mx("0 m1")]
    assert send(remote, home, records, [ONE], "alias.example") == (["r", ACCEPTED % ONE], {ONE: 1})
    records = [("alias.example", "CNAME", "m2.example")]
    assert send(remote, home, records, [TWO], "alias.example") == (["r", ACCEPTED % TWO], {TWO: 1})


@pytest.mark.parametrize("host", [ONE, f"[{ONE}]"])
def test_a_host_may_be_an_address(remote: str, home: Path, host: str) -> None:
    assert send(remote, home, [], [ONE], host) == (["r", ACCEPTED % ONE], {ONE: 1})


def test_once_connected_no_other_is_tried(remote: str, home: Path) -> None:
    servers = {ONE: {"greeting": "421 busy\r\n"}, TWO: {}}
    report = f"ZConnected to {ONE} but greeting failed.\nRemote host said: 421 busy\n"
    assert send(remote, home, mx("10 m1", "20 m2"), servers) == ([report], {ONE: 1})


def test_no_exchange_there_is_no_connection(remote: str, home: Path) -> None:
    assert send(remote, home, mx("10 refusing", "20 nowhere"), []) == ([NO_CONNECTION], {})


def test_who_is_an_exchange_asks_only_the_better_ones(remote: str, home: Path) -> None:
    assert send(remote, home, mx("10 m1", "20 us", "30 m3"), [ONE, THREE]) == (["r", ACCEPTED % ONE], {ONE: 1})
    assert send(remote, home, mx("10 refusing", "20 us", "30 m3"), [THREE]) == ([NO_CONNECTION], {})
    assert send(remote, home, mx("20 us", "20 m2", "30 m3"), [TWO, THREE]) == ([US_REPORT], {})
    assert send(remote, home, [("there.example", "A", US)], []) == ([US_REPORT], {})


def test_a_relay_may_be_ourselves(remote: str, home: Path) -> None:
    (home / "control" / "smtproutes").write_text(":us.example\n")
    assert send(remote, home, [], [US]) == (["r", ACCEPTED % US], {US: 1})


def test_a_relay_is_found_by_its_addresses_alone(remote: str, home: Path) -> None:
    (home / "control" / "smtproutes").write_text(":relay.example\nthere.example:\n")
    records = [*mx("0 m2", host="relay.example"), ("relay.example", "A", ONE), *mx("0 m3")]
    assert send(remote, home, records, [ONE, TWO, THREE], "else.example") == (["r", ACCEPTED % ONE], {ONE: 1})
    assert send(remote, home, records, [ONE, TWO, THREE]) == (["r", ACCEPTED % THREE], {THREE: 1})


def test_equal_exchanges_share_the_load(home: Path) -> None:
    counts: Counter[str] = Counter()
    for _ in range(12):
        counts.update(send(OURS, home, mx("10 m1", "10 m2"), [ONE, TWO])[1])
    assert set(counts) == {ONE, TWO}


def test_a_large_answer_comes_by_tcp(home: Path) -> None:
    records = mx("1 m1", *[f"{number} a{'x' * 40}{number}" for number in range(2, 40)])
    assert send(OURS, home, records, [ONE]) == (["r", ACCEPTED % ONE], {ONE: 1})


# IPv6, which the original does not know


def test_an_exchange_may_have_ipv6_alone(home: Path) -> None:
    assert send(OURS, home, mx("10 six"), [SIX]) == (["r", ACCEPTED % SIX], {SIX: 1})
    assert send(OURS, home, [], [SIX], f"[IPv6:{SIX}]") == (["r", ACCEPTED % SIX], {SIX: 1})


def test_ipv6_is_tried_where_ipv4_gives_no_connection(home: Path) -> None:
    both: Records = [*mx("10 both"), ("both.example", "A", REFUSING), ("both.example", "AAAA", SIX)]
    assert send(OURS, home, both, [SIX]) == (["r", ACCEPTED % SIX], {SIX: 1})
    assert send(OURS, home, both, [REFUSING, SIX]) == (["r", ACCEPTED % REFUSING], {REFUSING: 1})


def test_an_ipv6_network_that_cannot_be_reached_is_passed_over(home: Path) -> None:
    records: Records = [("far.example", "AAAA", "2001:4860::1"), *mx("10 far", "20 m2")]
    assert send(OURS, home, records, [TWO]) == (["r", ACCEPTED % TWO], {TWO: 1})


def test_who_is_an_exchange_by_ipv6_knows_that(home: Path) -> None:
    records: Records = [("self.example", "AAAA", "::1"), *mx("10 self", "20 m2")]
    assert send(OURS, home, records, [TWO]) == ([US_REPORT], {})
