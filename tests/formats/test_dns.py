"""Packets and names of DNS, against dnspython: what it builds is read alike, what is broken ends in Malformed."""

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import dns as ours

LABELS = st.lists(st.binary(min_size=1, max_size=63), min_size=0, max_size=6).filter(
    lambda labels: sum(len(label) + 1 for label in labels) < 255
)
HOSTS = st.from_regex(r"[a-z0-9_-]{1,20}(\.[a-z0-9_-]{1,20}){0,3}", fullmatch=True)
KINDS = (ours.A, ours.AAAA, ours.PTR, ours.TXT)


def wire(labels: list[bytes]) -> bytes:
    return dns.name.Name([*labels, b""]).to_wire() or b""


def response(name: str, *rrsets: dns.rrset.RRset, kind: str = "A", number: int = 7) -> bytes:
    query = dns.message.make_query(name, kind, id=number)
    reply = dns.message.make_response(query)
    reply.answer.extend(rrsets)
    return reply.to_wire(max_size=65535)


@given(LABELS)
def test_dotted_form_and_back_is_the_same_name_in_lower_case(labels: list[bytes]) -> None:
    assert ours.from_dots(ours.to_dots(wire(labels))) == wire([label.lower() for label in labels])


@given(LABELS)
def test_dotted_form_holds_only_plain_bytes_whatever_the_name_holds(labels: list[bytes]) -> None:
    assert not ours.to_dots(wire(labels)).strip(b"abcdefghijklmnopqrstuvwxyz0123456789-_.\\")


@pytest.mark.parametrize(
    ("dotted", "name"),
    [
        (b"", b"\0"),
        (b".", b"\0"),
        (b"..a..b.", b"\1a\1b\0"),
        (b"a\\056b", b"\3a.b\0"),
        (b"a\\.b", b"\3a.b\0"),
        (b"\\0018", b"\2\0018\0"),
        (b"\\18", b"\2\0018\0"),
        (b"\\777", b"\1\xff\0"),
        (b"a\\", b"\1a\0"),
    ],
)
def test_dotted_names_are_read_as_the_originals_read_them(dotted: bytes, name: bytes) -> None:
    assert ours.from_dots(dotted) == name


@pytest.mark.parametrize("dotted", [b"a" * 64, b".".join([b"a" * 62] * 4) + b".aa"])
def test_a_name_that_is_too_long_is_malformed(dotted: bytes) -> None:
    with pytest.raises(ours.Malformed):
        ours.from_dots(dotted)


@given(st.binary(max_size=300))
def test_any_bytes_become_a_name_or_malformed(text: bytes) -> None:
    try:
        name = ours.from_dots(text)
    except ours.Malformed:
        return
    assert ours.read_name(name, 0) == (name, len(name))


@given(st.text("0123456789.[]", max_size=40))
def test_a_name_of_digits_and_dots_is_an_address_itself(name: str) -> None:
    literal = ours.literal4(name.encode())
    assert literal is not None
    assert all(len(ip) == 4 for ip in literal)


@pytest.mark.parametrize(
    ("name", "ips"),
    [
        (b"[1.2.3.4]", [b"\1\2\3\4"]),
        (b"127.000.000.001", [b"\x7f\0\0\1"]),
        (b"256.257.10000000000000000000000000001.4", [b"\0\1\1\4"]),
        (b"1.2.3", []),
        (b"", []),
        (b"1..3.4", [b"\1\0\3\4"]),
        (b"1.2.3.4.5.6.7.8.9", [b"\1\2\3\4", b"\5\6\7\x08"]),
        (b"a.2.3.4", None),
        (b"::1", None),
    ],
)
def test_an_address_spelled_out_is_read_as_the_originals_read_it(name: bytes, ips: list[bytes] | None) -> None:
    assert ours.literal4(name) == ips


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"1.2.3.4", (b"\1\2\3\4", 7)),
        (b"001.258.3.4x", (b"\1\2\3\4", 11)),
        (b"1.2.3", (b"", 0)),
        (b"1..2.3", (b"", 0)),
        (b"", (b"", 0)),
    ],
)
def test_an_address_at_the_front_of_a_text_is_scanned(text: bytes, found: tuple[bytes, int]) -> None:
    assert ours.scan4(text) == found


def test_reverse_names_are_those_of_the_standard() -> None:
    assert ours.to_dots(ours.reverse_name(b"\1\2\3\xff")) == b"255.3.2.1.in-addr.arpa"
    expected = b"1." + b"0." * 23 + b"8.b.d.0.1.0.0.2.ip6.arpa"
    assert ours.to_dots(ours.reverse_name(bytes.fromhex("20010db8") + bytes(11) + b"\1")) == expected


@given(LABELS, st.sampled_from(KINDS), st.integers(0, 65535))
def test_a_query_is_what_dnspython_reads_as_one(labels: list[bytes], kind: int, number: int) -> None:
    message = dns.message.from_wire(ours.query(number, wire(labels), kind))
    assert message.id == number
    assert message.question[0].name == dns.name.Name([*labels, b""])
    assert message.question[0].rdtype == kind
    assert message.opcode() == 0
    assert dns.message.make_query("a", "A", id=7).to_wire() == ours.query(7, b"\1a\0", ours.A)


@given(HOSTS, st.lists(st.ip_addresses(v=4), min_size=1, max_size=9, unique=True))
def test_addresses_are_those_that_dnspython_packed(name: str, ips: list[object]) -> None:
    packet = response(name, dns.rrset.from_text(name + ".", 1, "IN", "A", *map(str, ips)))
    assert set(ours.addresses(packet, ours.A)) == {ip.packed for ip in ips}  # type: ignore[attr-defined]
    assert ours.addresses(packet, ours.AAAA) == []


@given(HOSTS, HOSTS)
def test_a_name_behind_compression_is_found(name: str, host: str) -> None:
    packet = response(name, dns.rrset.from_text(name + ".", 1, "IN", "PTR", host + "." + name + "."), kind="PTR")
    assert ours.first_name(packet) == (host + "." + name).encode()


@given(st.lists(st.binary(max_size=255), min_size=1, max_size=5))
def test_the_strings_of_a_text_are_joined_and_printable(strings: list[bytes]) -> None:
    quoted = " ".join('"' + "".join(f"\\{byte:03d}" for byte in string) + '"' for string in strings)
    packet = response("a", dns.rrset.from_text("a.", 1, "IN", "TXT", quoted), kind="TXT")
    joined = b"".join(strings)
    assert ours.text(packet) == bytes(byte if 32 <= byte < 127 else ord("?") for byte in joined)


def test_aliases_are_followed_in_any_order_and_other_names_are_not_believed() -> None:
    packet = response(
        "www.a",
        dns.rrset.from_text("evil.a.", 1, "IN", "A", "6.6.6.6"),
        dns.rrset.from_text("c.a.", 1, "IN", "A", "1.2.3.4"),
        dns.rrset.from_text("B.a.", 1, "IN", "CNAME", "C.a."),
        dns.rrset.from_text("WWW.a.", 1, "IN", "CNAME", "b.a."),
    )
    assert ours.addresses(packet, ours.A) == [b"\1\2\3\4"]


def test_aliases_in_a_circle_end() -> None:
    packet = response(
        "a", dns.rrset.from_text("a.", 1, "IN", "CNAME", "b."), dns.rrset.from_text("b.", 1, "IN", "CNAME", "a.")
    )
    assert ours.addresses(packet, ours.A) == []


def test_compression_in_a_circle_is_malformed() -> None:
    for name in (b"\xc0\x0c", b"\1a\xc0\x0c", b"\xc0\x0e\xc0\x0c"):
        with pytest.raises(ours.Malformed):
            ours.read_name(bytes(12) + name, 12)


def test_a_record_longer_than_the_packet_is_malformed() -> None:
    packet = response("a", dns.rrset.from_text("a.", 1, "IN", "A", "1.2.3.4"))
    for size in range(len(packet)):
        with pytest.raises(ours.Malformed):
            ours.addresses(packet[:size], ours.A)


def test_only_a_response_to_that_question_with_that_number_answers() -> None:
    name = wire([b"mail", b"a"])
    packet = response("MAIL.a", number=7)
    assert ours.answers_to(packet, 7, name, ours.A)
    assert not ours.answers_to(packet, 8, name, ours.A)
    assert not ours.answers_to(packet, 7, wire([b"mail", b"b"]), ours.A)
    assert not ours.answers_to(packet, 7, name, ours.TXT)
    assert not ours.answers_to(ours.query(7, name, ours.A), 7, name, ours.A)  # our own, thrown back


@given(st.binary(max_size=100), st.sampled_from(KINDS))
def test_any_bytes_are_read_to_an_end(packet: bytes, kind: int) -> None:
    ours.answers_to(packet, 7, b"\0", kind)
    for read in (ours.first_name, ours.text, lambda packet: ours.addresses(packet, kind)):
        try:
            read(packet)
        except ours.Malformed:
            pass


@given(st.data())
def test_an_answer_with_some_bytes_changed_is_read_to_an_end(data: st.DataObject) -> None:
    packet = bytearray(
        response(
            "a.b",
            dns.rrset.from_text("a.b.", 1, "IN", "CNAME", "c.b."),
            dns.rrset.from_text("c.b.", 1, "IN", "PTR", "d.b."),
            dns.rrset.from_text("c.b.", 1, "IN", "TXT", '"text"'),
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    for read in (ours.first_name, ours.text):
        try:
            read(bytes(packet))
        except ours.Malformed:
            pass


def test_mail_exchanges_have_preference_and_name() -> None:
    rrset = dns.rrset.from_text("there.example.", 60, "IN", "MX", "20 Mail.example.", "10 .", "65535 a\\046b.example.")
    found = ours.exchanges(response("there.example", rrset, kind="MX"))
    assert sorted(found) == [(10, b"."), (20, b"mail.example"), (65535, b"a\\056b.example")]


def test_exchanges_of_an_alias_are_its_own() -> None:
    alias = dns.rrset.from_text("alias.example.", 60, "IN", "CNAME", "there.example.")
    rrset = dns.rrset.from_text("there.example.", 60, "IN", "MX", "0 mail.example.")
    other = dns.rrset.from_text("else.example.", 60, "IN", "MX", "0 evil.example.")
    assert ours.exchanges(response("alias.example", alias, other, rrset, kind="MX")) == [(0, b"mail.example")]


def test_a_record_that_is_no_exchange_is_malformed() -> None:
    rrset = dns.rrset.from_text("there.example.", 60, "IN", "MX", "0 mail.example.")
    packet = response("there.example", rrset, kind="MX")
    for broken in (packet[:-1], packet[:-2] + b"\xc0\xff", packet[:-1] + bytes((len(packet) - 2,))):
        with pytest.raises(ours.Malformed):
            ours.exchanges(broken)
    short = packet.replace(b"\0\x09\0\0\4mail", b"\0\x02\0\0\4mail")
    with pytest.raises(ours.Malformed):
        ours.exchanges(short)


def test_where_aliases_lead_is_the_last_of_them() -> None:
    chain = [
        dns.rrset.from_text(f"{one}.example.", 60, "IN", "CNAME", f"{other}.example.") for one, other in ("ab", "bc")
    ]
    assert ours.target(response("a.example", *chain)) == ours.from_dots(b"c.example")
    assert ours.target(response("a.example", *reversed(chain))) == ours.from_dots(b"c.example")
    assert ours.target(response("x.example", *chain)) == ours.from_dots(b"x.example")
    circle = dns.rrset.from_text("c.example.", 60, "IN", "CNAME", "a.example.")
    with pytest.raises(ours.Malformed):
        ours.target(response("a.example", *chain, circle))


def test_an_empty_answer_counts_only_from_who_asks_others_or_owns_the_zone() -> None:
    packet = response("there.example")
    for flags, lame in ((b"\x80\0", True), (b"\x84\0", False), (b"\x80\x80", False)):
        assert ours.lame(packet[:2] + flags + packet[4:]) == lame
    rrset = dns.rrset.from_text("there.example.", 60, "IN", "A", "192.0.2.1")
    packet = response("there.example", rrset)
    assert not ours.lame(packet[:2] + b"\x80\0" + packet[4:])


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("bücher.example", b"xn--bcher-kva.example"),
        ("BÜCHER.Example", b"xn--bcher-kva.example"),
        ("straße.例え", b"xn--strae-oqa.xn--r8jz45g"),
        ("mail.example", b"mail.example"),
        ("Mail.Example.", b"Mail.Example."),
    ],
)
def test_labels_in_utf8_have_an_ascii_form(name: str, labels: bytes) -> None:
    assert ours.a_labels(name.encode()) == labels


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        (b"Mail.Example.", b"mail.example"),
        (b"m\\141il.example..", b"mail.example"),
        (b"mail\\056example", b"mail\\056example"),
        ("BÜCHER.example.".encode(), b"xn--bcher-kva.example"),
        (b"[192.0.2.7]", b"\\133192.0.2.7\\135"),
        (b"x" * 64, b"x" * 64),
    ],
)
def test_a_name_has_one_form(name: bytes, canonical: bytes) -> None:
    assert ours.canonical(name) == canonical


@given(st.binary(max_size=80))
def test_any_name_has_an_ascii_form_or_stays(name: bytes) -> None:
    labels = ours.a_labels(name)
    assert labels == name or labels.isascii()


@given(st.binary(max_size=300))
def test_any_bytes_behind_a_question_are_exchanges_or_malformed(answers: bytes) -> None:
    packet = bytearray(response("there.example", kind="MX"))
    packet[7] = 3
    for read in (ours.exchanges, ours.target):
        try:
            read(bytes(packet) + answers)
        except ours.Malformed:
            pass


def test_an_answer_may_be_authentic_and_be_made_not_so() -> None:
    packet = response("a")
    assert not ours.authentic(packet)
    proved = packet[:3] + bytes((packet[3] | 0x20,)) + packet[4:]
    assert ours.authentic(proved)
    assert ours.without_proof(proved) == ours.without_proof(packet) == packet
    asked = dns.message.from_wire(ours.query(7, b"\1a\0", ours.TLSA, ours.AUTHENTIC))
    assert asked.flags == dns.flags.RD | dns.flags.AD
