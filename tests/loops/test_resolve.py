"""The resolver against a real DNS server on loopback, well-behaved and otherwise."""

import errno
import os
import socket
from pathlib import Path

import dns.message
import pytest

from qmailpy.formats import dns as dns_format
from qmailpy.formats.resolvconf import Resolver
from qmailpy.loops import resolve
from qmailpy.stores import resolver as store
from tests import dnsserver

RECORDS: dnsserver.Records = {
    ("mail.example", "A"): ["10.0.0.1", "10.0.0.2"],
    ("mail.example", "AAAA"): ["2001:db8::1"],
    ("www.example", "CNAME"): ["mail.example"],
    ("x.second", "A"): ["10.0.0.3"],
    ("there.example", "MX"): ["10 mail.example.", "20 Other.example."],
    ("null.example", "MX"): ["0 ."],
    ("1.0.0.10.in-addr.arpa", "PTR"): ["Mail.example."],
    ("1.0.0.0." + "0.0.0.0." * 5 + "8.b.d.0.1.0.0.2.ip6.arpa", "PTR"): ["mail6.example."],
    ("list.example", "TXT"): ['"two " "strings\\007"'],
    ("long.example", "TXT"): [f'"{"x" * 250}{number}"' for number in range(4)],
}
IP1, IP2, IP6 = b"\x0a\0\0\1", b"\x0a\0\0\2", bytes.fromhex("20010db8") + bytes(11) + b"\1"
LOOPBACK4, LOOPBACK6 = b"\x7f\0\0\1", bytes(15) + b"\1"
QUICK = (0.05, 0.05, 0.05)


def reading(server: dnsserver.Server, **changes: str) -> Resolver:
    environment = {**server.environment, **changes}
    return store.read({name.encode(): value.encode() for name, value in environment.items()})


def impatient(server: dnsserver.Server, *before: tuple[bytes, bytes]) -> Resolver:
    return Resolver([*before, (socket.inet_aton(server.ip), b"")], [], server.port, QUICK)


def test_names_have_addresses_of_both_kinds() -> None:
    with dnsserver.running(RECORDS) as server:
        resolver = reading(server)
        for name in (b"mail.example", b"MAIL.example", b"www.example."):
            assert sorted(resolve.addresses4(resolver, name)) == [IP1, IP2]
            assert resolve.addresses6(resolver, name) == [IP6]
        assert resolve.addresses4(resolver, b"none.example") == []


def test_addresses_have_names() -> None:
    with dnsserver.running(RECORDS) as server:
        resolver = reading(server)
        assert resolve.names(resolver, IP1) == b"mail.example"
        assert resolve.names(resolver, bytes(10) + b"\xff\xff" + IP1) == b"mail.example"
        assert resolve.names(resolver, IP6) == b"mail6.example"
        assert resolve.names(resolver, IP2) is None


def test_texts_are_joined_also_when_only_tcp_can_carry_them() -> None:
    with dnsserver.running(RECORDS) as server:
        resolver = reading(server)
        assert resolve.texts(resolver, b"list.example") == b"two strings?"
        assert resolve.texts(resolver, b"mail.example") == b""
        assert len(resolve.texts(resolver, b"long.example")) == 1004
        assert [transport for transport, _, _ in server.asked] == ["udp", "udp", "udp", "tcp"]


def test_each_question_has_another_number() -> None:
    seen = set()

    def remember(answer: bytes) -> list[bytes]:
        seen.add(answer[:2])
        return [answer]

    with dnsserver.running(RECORDS, twist=remember) as server:
        for _ in range(5):
            resolve.addresses4(reading(server), b"mail.example")
    assert len(seen) >= 4


def test_order_is_random() -> None:
    records: dnsserver.Records = {("a", "A"): [f"10.0.0.{number}" for number in range(20)]}
    with dnsserver.running(records) as server:
        orders = {tuple(resolve.addresses4(reading(server), b"a")) for _ in range(4)}
    assert len(orders) > 1


def test_a_short_name_is_completed() -> None:
    with dnsserver.running(RECORDS) as server:
        resolver = reading(server, LOCALDOMAIN="first second")
        assert resolve.qualified4(resolver, b"x") == [b"\x0a\0\0\3"]
        assert resolve.qualified4(resolver, b"x.second.") == [b"\x0a\0\0\3"]
        assert [name for _, name, _ in server.asked] == ["x.first", "x.second", "x.second"]


def test_a_rewriting_file_decides_alone(tmp_path: Path) -> None:
    (tmp_path / "dnsrewrite").write_bytes(b"# comment\n=me:10.0.0.2 \n")
    with dnsserver.running(RECORDS) as server:
        resolver = reading(server, DNSREWRITEFILE=str(tmp_path / "dnsrewrite"), LOCALDOMAIN="second")
        assert resolve.qualified4(resolver, b"ME") == [IP2]
        assert resolve.qualified4(resolver, b"x") == []
        assert resolve.qualified4(resolver, b"localhost") == []
        assert [name for _, name, _ in server.asked] == ["x", "localhost"]


def test_addresses_and_localhost_ask_nobody() -> None:
    with dnsserver.running(RECORDS) as server:
        resolver = reading(server)
        assert resolve.qualified4(resolver, b"[10.0.0.1]") == [IP1]
        assert resolve.qualified6(resolver, b"10.0.0.1") == []
        assert resolve.qualified6(resolver, b"2001:db8::1") == resolve.qualified6(resolver, b"[2001:db8::1]") == [IP6]
        assert resolve.qualified4(resolver, b"2001:db8::1") == []
        assert resolve.qualified4(resolver, b"localhost") == [LOOPBACK4]
        assert resolve.qualified6(resolver, b"localhost") == [LOOPBACK6]
        assert server.asked == []


def test_a_name_that_cannot_be_asked_is_a_temporary_failure() -> None:
    with dnsserver.running(RECORDS) as server, pytest.raises(resolve.Unresolved) as failure:
        resolve.addresses4(reading(server), b"a" * 64)
    assert failure.value.errno == errno.EPROTO


def test_a_configuration_that_cannot_be_read_matters_only_to_those_who_need_it(tmp_path: Path) -> None:
    with dnsserver.running(RECORDS) as server:
        resolver = reading(server, DNSREWRITEFILE=str(tmp_path))
        assert len(resolve.addresses4(resolver, b"mail.example")) == 2
        with pytest.raises(resolve.Unresolved) as failure:
            resolve.qualified4(resolver, b"mail.example")
    assert failure.value.errno == errno.EISDIR
    resolver = Resolver(OSError(errno.EACCES, ""), [])
    assert resolve.qualified4(resolver, b"127.0.0.1") == [LOOPBACK4]
    with pytest.raises(resolve.Unresolved):
        resolve.names(resolver, LOOPBACK4)


def test_a_server_that_is_down_does_not_hide_the_next_one() -> None:
    with dnsserver.running(RECORDS) as server:
        down = (socket.inet_aton("127.0.0.2"), b"")
        assert resolve.names(impatient(server, down), IP1) == b"mail.example"
        assert len(server.asked) == 1


def test_no_server_at_all_is_a_temporary_failure() -> None:
    with dnsserver.running({}) as server:
        resolver = impatient(server)
    with pytest.raises(resolve.Unresolved) as failure:
        resolve.names(resolver, IP1)
    assert failure.value.errno == errno.ECONNREFUSED


@pytest.mark.parametrize(
    ("twist", "error"),
    [
        (lambda answer: [answer[:3] + b"\x82" + answer[4:]], errno.EAGAIN),
        (lambda answer: [], errno.ETIMEDOUT),
        (lambda answer: [bytes((answer[0] ^ 1,)) + answer[1:]], errno.ETIMEDOUT),
        (lambda answer: [b"", answer[:5]], errno.ETIMEDOUT),
        (lambda answer: [answer + bytes(600)], errno.ETIMEDOUT),
    ],
    ids=["server failure", "silent", "wrong number", "too short", "too long"],
)
def test_a_server_without_a_usable_answer_is_asked_three_times(twist: dnsserver.Twist, error: int) -> None:
    with dnsserver.running(RECORDS, twist=twist) as server:
        with pytest.raises(resolve.Unresolved) as failure:
            resolve.names(impatient(server), IP1)
        assert failure.value.errno == error
        assert len(server.asked) == 3


def test_a_forged_packet_before_the_answer_is_overlooked() -> None:
    forged = dns.message.make_response(dns.message.make_query("1.0.0.10.in-addr.arpa", "PTR", id=1)).to_wire()
    with dnsserver.running(RECORDS, twist=lambda answer: [forged, answer]) as server:
        assert resolve.names(reading(server), IP1) == b"mail.example"


def test_a_malformed_answer_is_a_protocol_error() -> None:
    with (
        dnsserver.running(RECORDS, twist=lambda answer: [answer[:-3]]) as server,
        pytest.raises(resolve.Unresolved) as failure,
    ):
        resolve.names(reading(server), IP1)
    assert failure.value.errno == errno.EPROTO


def test_a_server_may_have_an_ipv6_address() -> None:
    with dnsserver.running(RECORDS, ip="::1") as server:
        resolver = Resolver([(LOOPBACK6, b"")], [], server.port, QUICK)
        assert resolve.names(resolver, IP1) == b"mail.example"
        assert len(resolve.texts(resolver, b"long.example")) == 1004
        resolver = Resolver([(LOOPBACK6, b"no such interface"), (LOOPBACK6, b"lo")], [], server.port, QUICK)
        assert resolve.names(resolver, IP1) == b"mail.example"


def test_no_descriptor_is_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    with dnsserver.running(RECORDS) as server:
        resolve.texts(reading(server), b"long.example")
    assert os.listdir("/proc/self/fd") == before


def test_names_have_mail_exchanges() -> None:
    with dnsserver.running(RECORDS) as server:
        resolver = reading(server)
        assert sorted(resolve.exchanges(resolver, b"There.example")) == [(10, b"mail.example"), (20, b"other.example")]
        assert resolve.exchanges(resolver, b"null.example") == [(0, b".")]
        assert resolve.exchanges(resolver, b"mail.example") == []
        assert resolve.exchanges(resolver, b"none.example") == []
        with pytest.raises(resolve.Unresolved):
            resolve.exchanges(resolver, b"a" * 64)


def only_aliases(answer: bytes) -> list[bytes]:
    """As from a server that does not follow CNAME records."""
    message = dns.message.from_wire(answer)
    if len(message.answer) > 1:
        del message.answer[1:]
    return [message.to_wire()]


def test_an_alias_is_followed_where_the_server_does_not() -> None:
    records: dnsserver.Records = {
        ("a", "CNAME"): ["b"], ("b", "CNAME"): ["c"], ("c", "A"): ["10.0.0.1"], ("c", "MX"): ["5 d."],
    }  # fmt: skip
    with dnsserver.running(records, twist=only_aliases) as server:
        assert resolve.addresses4(reading(server), b"a") == [IP1]
        assert [name for _, name, _ in server.asked] == ["a", "b", "c"]
        assert resolve.exchanges(reading(server), b"a") == [(5, b"d")]
        assert resolve.addresses6(reading(server), b"a") == []


def test_aliases_without_end_are_a_temporary_failure() -> None:
    records: dnsserver.Records = {(f"a{number}", "CNAME"): [f"a{number + 1}"] for number in range(20)}
    records["a20", "A"] = ["10.0.0.1"]
    with dnsserver.running(records, twist=only_aliases) as server:
        with pytest.raises(resolve.Unresolved) as failure:
            resolve.addresses4(reading(server), b"a0")
        assert len(server.asked) == 8
    assert failure.value.errno == errno.ELOOP


def test_a_mere_referral_is_no_answer() -> None:
    def refer(answer: bytes) -> list[bytes]:
        return [answer[:2] + b"\x80\0" + answer[4:]]

    with dnsserver.running(RECORDS, twist=refer) as server:
        assert resolve.names(impatient(server), IP1) == b"mail.example"  # it has something to say
        with pytest.raises(resolve.Unresolved) as failure:
            resolve.addresses4(impatient(server), b"none.example")
    assert failure.value.errno == errno.EAGAIN


# DNSSEC


def test_only_a_believed_server_says_what_is_authentic() -> None:
    records: dnsserver.Records = {
        **RECORDS,
        ("_25._tcp.mail.example", "TLSA"): ["3 1 1 " + "00" * 32],
        ("www.mail.example", "CNAME"): ["mail.example"],
    }
    name = b"\3_25\4_tcp\4mail\7example\0"
    with dnsserver.running(records, judge=lambda name: name != "www.example") as server:
        resolver = reading(server)
        for believed in (False, True):
            resolver.believed = frozenset([LOOPBACK4] if believed else [])
            assert resolve.exchanges_and_proof(resolver, b"there.example")[1] is believed
            assert resolve.exchanges_and_proof(resolver, b"mail.example") == ([], believed)
            assert resolve.exchanges_and_proof(resolver, b"none.example") == ([], believed)
            host = resolve.host4(resolver, b"mail.example")
            assert (sorted(host.addresses), host.name, host.authentic) == ([IP1, IP2], b"\4mail\7example\0", believed)
            assert resolve.host6(resolver, b"www.mail.example").authentic is believed
            assert resolve.host4(resolver, b"www.mail.example").name == b"\4mail\7example\0"
            assert not resolve.host4(resolver, b"www.example").authentic
            assert resolve.proven(resolver, name, dns_format.TLSA) == ([b"\3\1\1" + bytes(32)] if believed else [])
        assert resolve.proven(resolver, b"\4none" + name, dns_format.TLSA) == []


def test_texts_may_be_had_one_by_one() -> None:
    records: dnsserver.Records = {("a", "TXT"): ['"v=" "x\\007"', '"y"']}
    with dnsserver.running(records) as server:
        assert sorted(resolve.each_text(reading(server), b"a")) == [b"v=x\7", b"y"]
        assert resolve.each_text(reading(server), b"b") == []
        with pytest.raises(resolve.Unresolved):
            resolve.each_text(reading(server), b"a" * 64)
