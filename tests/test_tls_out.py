"""qmail-remote by TLS: what each server is sent, and what none is sent in clear. Servers are on loopback addresses, by
a route; names are those of a name server of the test. tests/peers/test_tls_exchanges.py has mail exchangers."""

import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmailpy.commands import qmail_remote
from qmailpy.formats.smtproutes import Route
from qmailpy.mta import deliveryreports
from qmailpy.stores import resolver
from tests import dnsserver
from tests.authority import Authority, Issued
from tests.commands.test_qmail_remote import LOGIN, MESSAGE, OURS, QUICK, WIRE, Place, own_address
from tests.helpers import BIN
from tests.queuehomes import QueueHome
from tests.servers import TIMEOUT
from tests.smtpsink import FAIR, OLD, Say, Session, Sink, offering, sink
from tests.spawners import Sender, put

NAME = "mail.dom.example"
SAID = b"Remote host said: 250 2.0.0 ok 1795 qp 23\n"
GOOD = b"TLSv1.3 TLS_AES_256_GCM_SHA384 "


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "certificates")


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Issued:
    return authority.issue(NAME)


class Out:
    """A home whose route for all leads to a server called NAME."""

    def __init__(self, at: Place, authority: Authority) -> None:
        self.at = at
        self.records: dnsserver.Records = {(NAME, "A"): ["127.0.0.1"], ("other.example", "A"): ["127.0.0.1"]}
        self.insecure: set[str] = set()
        self.environment = {"SSL_CERT_FILE": str(authority.cafile)}
        self.asked: list[tuple[str, str, str]] = []

    def send(self, server: Sink, message: bytes = MESSAGE, route: str = ":%s:%d", **controls: str) -> list[bytes]:
        self.at.control(smtproutes=route % (NAME, server.port), **controls)
        with dnsserver.running(self.records, judge=lambda name: name not in self.insecure) as names:
            env = {**names.environment, **self.environment}
            try:
                return self.at.send(OURS, env=env, message=message)
            finally:
                self.asked = names.asked


@pytest.fixture
def out(tmp_path: Path, authority: Authority) -> Out:
    return Out(Place(tmp_path / "home"), authority)


def accepted(shown: bytes) -> list[bytes]:
    return [b"r", b"K127.0.0.1 accepted message.\n" + shown + b".\n" + SAID]


PLAIN = [b"r", b"K127.0.0.1 accepted message.\n" + SAID]


# Opportunistic


def test_tls_is_used_where_it_is_offered_whoever_it_is(out: Out, authority: Authority) -> None:
    for certificate in (authority.issue(NAME), authority.self_signed("else.example"), authority.issue(NAME, days=-1)):
        with sink(offering(certificate.context())) as server:
            assert out.send(server) == accepted(GOOD + b"unverified")
            (session,) = server.sessions
        assert session.message == WIRE
        assert session.tls is not None
        assert [line.split()[0] for line in session.lines] == [
            b"EHLO", b"STARTTLS", b"EHLO", b"MAIL", b"RCPT", b"DATA", b"QUIT",
        ]  # fmt: skip


def test_a_long_message_arrives_by_tls(out: Out, certificate: Issued) -> None:
    message = b"".join(b"%d %s\n" % (number, b"x" * 70) for number in range(100_000))
    with sink(offering(certificate.context())) as server:
        assert out.send(server, message) == accepted(GOOD + b"unverified")
        assert server.sessions[0].message == message.replace(b"\n", b"\r\n")


def test_the_name_is_asked_for(out: Out, certificate: Issued) -> None:
    asked: list[str | None] = []
    context = certificate.context()
    context.sni_callback = lambda connection, name, context: asked.append(name)
    with sink(offering(context)) as server:
        out.send(server)
        out.at.control(smtproutes=f":127.0.0.1:{server.port}")
        assert out.at.send(OURS)[-1][:1] == b"K"
    assert asked == [NAME, None]


def test_tls_1_2_will_do_and_less_is_none(out: Out, certificate: Issued) -> None:
    context = certificate.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with sink(offering(context)) as server:
        assert out.send(server)[-1].startswith(b"K127.0.0.1 accepted message.\nTLSv1.2 ECDHE-ECDSA-")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with sink(offering(context)) as server:
        assert out.send(server) == PLAIN
        assert out.send(server, tlsdestinations=":encrypt")[0].startswith(
            b"ZConnected to 127.0.0.1 but TLS failed, which "
        )


@pytest.mark.parametrize("answer", [b"454 4.7.0 not now\r\n", b"502 what?\r\n", b"550-no\r\n550 never\r\n"])
def test_a_server_that_rejects_what_it_offers_gets_it_without(out: Out, certificate: Issued, answer: bytes) -> None:
    with sink(offering(certificate.context(), STARTTLS=answer)) as server:
        assert out.send(server) == PLAIN
        assert len(server.sessions) == 1
        said = answer.replace(b"\r", b"")
        assert out.send(server, tlsdestinations=f"{NAME}:encrypt") == [
            b"ZConnected to 127.0.0.1 but STARTTLS was rejected, which control/tlsdestinations demands. (#4.7.10)\n"
            b"Remote host said: " + said
        ]  # fmt: skip


def hang_up(session: Session) -> None:
    session.connection.sendall(b"220 go\r\n")
    session.connection.recv(1000)


def rubbish(session: Session) -> None:
    session.connection.sendall(b"220 go\r\n")
    session.connection.recv(1000)
    session.connection.sendall(b"rubbish" * 100)


def alert(session: Session) -> None:
    session.connection.sendall(b"220 go\r\n")
    session.connection.recv(1000)
    session.connection.sendall(bytes((21, 3, 3, 0, 2, 2, 40)))


def injected(session: Session) -> None:
    """What somebody on the way adds in clear."""
    session.connection.sendall(b"220 go\r\n250-fake\r\n250 AUTH PLAIN\r\n")
    session.connection.recv(1000)


BROKEN = {
    hang_up: b"the connection has ended",
    rubbish: b"wrong version number",
    alert: b"sslv3 alert handshake failure",
    injected: b"the server has sent more than its answer to STARTTLS",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda act: act.__name__)
def test_where_tls_fails_it_goes_without_but_not_where_it_must_not(out: Out, certificate: Issued, broken: Say) -> None:
    with sink(offering(certificate.context(), STARTTLS=broken)) as server:
        assert out.send(server) == PLAIN
        first, second = server.sessions
        assert not any(line.startswith((b"STARTTLS", b"AUTH")) for line in second.lines)
        assert first.lines[1:] == [b"STARTTLS\r\n"]
        (report,) = out.send(server, tlsdestinations=":encrypt")
        assert len(server.sessions) == 3
    assert (
        report
        == b"ZConnected to 127.0.0.1 but TLS failed, which control/tlsdestinations demands: %s. (#4.7.5)\n"
        % (
            BROKEN[broken]  # type: ignore[index]
        )
    )


def test_a_server_that_refuses_a_client_after_the_handshake_gets_it_without(out: Out, certificate: Issued) -> None:
    context = certificate.context()
    context.verify_mode = ssl.CERT_REQUIRED
    with sink(offering(context)) as server:
        assert out.send(server) == PLAIN
        assert out.send(server, tlsdestinations=":encrypt") == [
            b"ZConnected to 127.0.0.1 but TLS failed, which control/tlsdestinations demands: the server has hung"
            b" up. (#4.7.5)\n"
        ]  # fmt: skip


@pytest.mark.parametrize("must", [False, True])
def test_a_handshake_that_hangs_is_left(out: Out, certificate: Issued, must: bool) -> None:
    free = threading.Event()

    def hang(session: Session) -> None:
        session.connection.sendall(b"220 go\r\n")
        free.wait(TIMEOUT)

    began = time.monotonic()
    with sink(offering(certificate.context(), STARTTLS=hang)) as server:
        stop = threading.Timer(3, free.set)  # the sink has one client at a time
        stop.start()
        try:
            reports = out.send(server, timeoutremote="1", tlsdestinations=":encrypt" if must else "")
        finally:
            free.set()
            stop.cancel()
    assert time.monotonic() - began < 15
    if must:
        assert reports == [
            b"ZConnected to 127.0.0.1 but TLS failed, which control/tlsdestinations demands: timed out. (#4.7.5)\n"
        ]


def test_a_handshake_that_drips_is_left(out: Out, certificate: Issued) -> None:
    stop = threading.Event()

    def drip(session: Session) -> None:
        session.connection.sendall(b"220 go\r\n\x16\x03\x03\x3f\xff")
        while not stop.wait(0.1):
            session.connection.sendall(b"x")

    began = time.monotonic()
    with sink(offering(certificate.context(), STARTTLS=drip)) as server:
        (report,) = out.send(server, timeoutremote="1", tlsdestinations=":encrypt")
        stop.set()
    assert report.startswith(b"ZConnected to 127.0.0.1 but TLS failed, which ")
    assert time.monotonic() - began < 10


def test_a_connection_that_dies_in_tls_has_died(out: Out, certificate: Issued) -> None:
    with sink(offering(certificate.context(), DATA=None)) as server:
        assert out.send(server) == [b"r", b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n"]
        assert len(server.sessions) == 1
    with sink(offering(certificate.context(), message=None)) as server:
        assert out.send(server)[-1] == (
            b"ZConnected to 127.0.0.1 but connection died. Possible duplicate! (#4.4.2)\n"
        )  # fmt: skip


def test_a_server_that_goes_silent_in_tls_is_left(out: Out, certificate: Issued) -> None:
    free = threading.Event()

    def silent(session: Session) -> None:
        free.wait(TIMEOUT)

    for place in ("MAIL", "message"):
        with sink(offering(certificate.context(), **{place: silent})) as server:
            try:
                assert b"connection died" in out.send(server, timeoutremote="1")[-1]
            finally:
                free.set()
        free.clear()


def test_a_server_that_refuses_a_long_message_by_tls_is_heard(out: Out, certificate: Issued) -> None:
    def refuse(session: Session) -> None:
        session.connection.sendall(b"354 go\r\n")
        session.connection.recv(1000)
        session.connection.sendall(b"552 too big for me\r\n")
        while session.connection.recv(65536):
            pass

    with sink(offering(certificate.context(), DATA=refuse)) as server:
        assert out.send(server, b"line\n" * 1_000_000) == [
            b"r", b"D127.0.0.1 failed after I sent the message.\nRemote host said: 552 too big for me\n"
        ]  # fmt: skip


def test_what_a_server_says_is_not_what_is_said_of_tls(out: Out) -> None:
    with sink({**OLD, "message": b"250-ok\r\nTLSv1.3 X verified.\r\n"}) as server:
        (_, report) = out.send(server)
    assert report == b"K127.0.0.1 accepted message.\nRemote host said: 250-ok\nTLSv1.3 X verified.\n"


def test_an_old_server_gets_what_it_always_got(out: Out) -> None:
    with sink(OLD) as server:
        assert out.send(server) == PLAIN
        assert [line[:4] for line in server.sessions[0].lines] == [b"EHLO", b"HELO", b"MAIL", b"RCPT", b"DATA", b"QUIT"]


# control/tlsdestinations


def test_none_is_none(out: Out, certificate: Issued) -> None:
    with sink(offering(certificate.context())) as server:
        out.records[f"_{server.port}._tcp.{NAME}", "TLSA"] = [certificate.tlsa(3, 1, 1)]
        assert out.send(server, tlsdestinations=f"{NAME}:none") == PLAIN
        assert not any(kind == "TLSA" for _, _, kind in out.asked)


@pytest.mark.parametrize("lines", ["%s:encrypt", "%s:ENCRYPT", ".example:encrypt", ":none\n%s:encrypt", ":encrypt"])
def test_a_demand_is_no_wish(out: Out, certificate: Issued, lines: str) -> None:
    """TLS is not offered, as somebody on the way has taken that word away, or there is no EHLO."""
    line = lines % NAME if "%" in lines else lines
    missing = [b"ZConnected to 127.0.0.1 but it does not offer TLS, which control/tlsdestinations demands. (#4.7.10)\n"]
    for script in (FAIR, OLD):
        with sink(script) as server:
            assert out.send(server, tlsdestinations=line) == missing
            assert not any(line.startswith(b"MAIL") for session in server.sessions for line in session.lines)
    with sink({**FAIR, "EHLO": None}) as server:
        assert out.send(server, tlsdestinations=line) == [b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n"]
        assert len(server.sessions) == 1
    with sink(offering(certificate.context())) as server:
        assert out.send(server, tlsdestinations=line) == accepted(GOOD + b"unverified")


def test_who_is_verified_is_who_it_says(out: Out, authority: Authority, certificate: Issued) -> None:
    for good in (certificate, authority.issue("*.dom.example"), authority.issue("x", NAME)):
        with sink(offering(good.context())) as server:
            assert out.send(server, tlsdestinations=f"{NAME}:verify") == accepted(GOOD + b"verified")


WRONG = {
    "self-signed": b"self-signed certificate",
    "expired": b"certificate has expired",
    "name": b"Hostname mismatch, certificate is not valid for",
    "authority": b"unable to get local issuer certificate",
    "chain": b"unable to get local issuer certificate",
}


@pytest.mark.parametrize("kind", WRONG)
def test_who_is_not_gets_nothing(out: Out, authority: Authority, tmp_path: Path, kind: str) -> None:
    good = authority.issue(NAME)
    wrong = {
        "self-signed": authority.self_signed(NAME),
        "expired": authority.issue(NAME, days=-1),
        "name": authority.issue("other.example"),
        "authority": Authority(tmp_path / "other", "Other").issue(NAME),
        "chain": Issued(good.certificate, good.key, tmp_path / "alone.pem"),
    }
    with sink(offering(wrong[kind].context())) as server:
        (report,) = out.send(server, tlsdestinations=f"{NAME}:verify")
        assert report.startswith(
            b"ZConnected to 127.0.0.1 but TLS failed, which control/tlsdestinations demands: " + WRONG[kind]
        )
        assert report.endswith(b". (#4.7.5)\n")
        assert all(b"MAIL" not in line for session in server.sessions for line in session.lines)


def test_another_name_may_be_the_right_one(out: Out, authority: Authority) -> None:
    with sink(offering(authority.issue("other.example").context())) as server:
        assert out.send(server, tlsdestinations=f"{NAME}:verify:other.example") == accepted(GOOD + b"verified")


def test_the_host_counts_too_where_a_relay_is_used(out: Out, authority: Authority, certificate: Issued) -> None:
    with sink(offering(authority.issue("other.example").context())) as server:
        for lines in (f"there.example:verify\n{NAME}:none", f"there.example:none\n{NAME}:verify"):
            assert b"Hostname mismatch" in out.send(server, tlsdestinations=lines)[0]
    with sink(FAIR) as server:
        assert out.send(server, tlsdestinations=f":encrypt\n{NAME}:none") == PLAIN


def test_a_misspelt_word_is_trouble(out: Out) -> None:
    with sink(FAIR) as server:
        assert out.send(server, tlsdestinations=f"{NAME}:encript") == [
            b"ZI do not know the word encript in control/tlsdestinations. (#4.3.5)\n"
        ]
        assert server.sessions == []


@pytest.mark.parametrize("name", ["tlsdestinations", "dnssecservers", "tlsclientciphers", "clientcert.pem"])
def test_controls_that_cannot_be_read_are_trouble(out: Out, certificate: Issued, name: str) -> None:
    (out.at.path / "control" / name).mkdir()
    with sink(offering(certificate.context())) as server:
        (report,) = out.send(server)
        assert report.startswith(b"Z")
        assert b"(#4.3." in report


def test_our_own_certificate_is_shown_where_it_is_asked_for(out: Out, authority: Authority) -> None:
    context = authority.issue(NAME).context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.cafile)
    own = authority.issue("here.example")
    (out.at.path / "control" / "clientcert.pem").write_bytes(own.path.read_bytes())
    with sink(offering(context)) as server:
        assert out.send(server) == accepted(GOOD + b"unverified")
        (session,) = server.sessions
        assert session.client["subjectAltName"] == (("DNS", "here.example"),)
        (out.at.path / "control" / "clientcert.pem").write_text("nothing")
        (report,) = out.send(server)
        assert report.startswith(b"ZNo TLS with 127.0.0.1: unable to use control/clientcert.pem: ")


def test_ciphers_may_be_chosen(out: Out, certificate: Issued) -> None:
    context = certificate.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with sink(offering(context)) as server:
        cipher = "ECDHE-ECDSA-CHACHA20-POLY1305"
        assert out.send(server, tlsclientciphers=cipher) == accepted(f"TLSv1.2 {cipher} unverified".encode())
        assert out.send(server, tlsclientciphers="")[-1].startswith(b"K")  # none are said, as for sslclient
        assert out.send(server, tlsclientciphers="nonsense") == [
            b"ZNo TLS with 127.0.0.1: unable to use control/tlsclientciphers. (#4.3.5)\n"
        ]


# Routes with TLS from the first byte, and passwords


@pytest.mark.parametrize("route", [":smtps://%s:%d", ":SMTPS://%s:%d"])
def test_a_route_may_have_tls_from_the_first_byte(out: Out, certificate: Issued, route: str) -> None:
    with sink(offering(certificate.context()), context=certificate.context()) as server:
        assert out.send(server, route=route) == accepted(GOOD + b"unverified")
        assert out.send(server, route=route, tlsdestinations=f"{NAME}:verify") == accepted(GOOD + b"verified")
        assert all(b"STARTTLS" not in line for session in server.sessions for line in session.lines)


def test_such_a_route_never_goes_in_clear(out: Out, authority: Authority) -> None:
    with sink(FAIR) as server:
        assert out.send(server, route=":smtps://%s:%d") == [
            b"ZConnected to 127.0.0.1 but TLS failed, which smtps demands: wrong version number. (#4.7.5)\n"
        ]
        assert len(server.sessions) == 1
    other = authority.self_signed(NAME)
    with sink(FAIR, context=other.context()) as server:
        (report,) = out.send(server, route=":smtps://%s:%d", tlsdestinations=f"{NAME}:verify")
        assert report.startswith(
            b"ZConnected to 127.0.0.1 but TLS failed, which control/tlsdestinations demands: self-signed "
        )
    with sink({**FAIR, "greeting": None}, context=other.context()) as server:
        (report,) = out.send(server, route=":smtps://%s:%d", tlsdestinations="")
        assert report == (
            b"ZConnected to 127.0.0.1 but TLS failed, which smtps demands: the server has hung up. (#4.7.5)\n"
        )  # fmt: skip


def password(context: ssl.SSLContext) -> dict[str, Say]:
    said = b"250-hi\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n"
    return {**offering(context), "EHLO": said, "AUTH": LOGIN["AUTH"], "AG1L": LOGIN["AG1L"]}


@pytest.fixture
def far(out: Out) -> Iterator[str]:
    """An address that is none of the loopback ones."""
    ip = own_address()
    if ip is None:
        pytest.skip("this machine has loopback addresses only")
    out.records[NAME, "A"] = [ip]
    yield ip


@pytest.mark.parametrize("scheme", ["", "smtps://"])
def test_a_password_goes_by_tls_to_who_it_is_for(out: Out, authority: Authority, far: str, scheme: str) -> None:
    route = f":{scheme}%s:%d|me|my password"
    for certificate, good in ((authority.issue(NAME), True), (authority.self_signed(NAME), False)):
        context = certificate.context()
        with sink(password(context), far, context=context if scheme else None) as server:
            reports = out.send(server, route=route)
            given = [line for session in server.sessions for line in session.lines if line.startswith(b"AUTH")]
            if good:
                assert reports[-1].startswith(f"K{far} accepted message.\n".encode() + GOOD + b"verified.\n")
                assert given == [b"AUTH PLAIN\r\n"]
            else:
                assert reports == [
                    f"ZConnected to {far} but TLS failed, which the password to be sent demands: self-signed"
                    " certificate. (#4.7.5)\n".encode()
                ]
                assert given == []
                lax = [":encrypt", "there.example:encrypt"]  # which is not about the relay
                for lines in [*lax, ":none", "there.example:none"] if scheme else lax:
                    assert (
                        b"which the password to be sent demands"
                        in (out.send(server, route=route, tlsdestinations=lines)[0])
                    )
                reports = out.send(server, route=route, tlsdestinations=f"{NAME}:encrypt")
                assert b"unverified.\n" in reports[-1]


def test_a_password_does_not_go_where_tls_is_taken_away(out: Out, far: str) -> None:
    with sink(LOGIN, far) as server:
        for lines in ("", f"{NAME}:none", f"{NAME}:encrypt"):
            (report,) = out.send(server, route=":%s:%d|me|my password", tlsdestinations=lines)
            assert b"but I would have to send my password in clear; see control/clearauthhosts" in report
        assert not any(line.startswith(b"AUTH") for session in server.sessions for line in session.lines)
        assert out.send(server, route=":%s:%d|me|my password", tlsdestinations="", clearauthhosts=NAME)[0] == b"r"


# DANE


def dane(out: Out, server: Sink, *data: str, name: str = NAME) -> None:
    out.records[f"_{server.port}._tcp.{name}", "TLSA"] = list(data)


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_the_certificate_that_dns_names_is_enough(out: Out, authority: Authority, selector: int, matching: int) -> None:
    """Whatever else is in it."""
    issued = authority.issue("else.example", days=-1) if selector else authority.self_signed("else.example")
    with sink(offering(issued.context())) as server:
        dane(out, server, issued.tlsa(3, selector, matching))
        assert out.send(server) == accepted(GOOD + b"verified by DANE")
        assert len(server.sessions) == 1


@pytest.mark.parametrize("which", ["root", "middle"])
@pytest.mark.parametrize(("selector", "matching"), [(0, 1), (1, 1), (1, 2), (0, 0), (1, 0)])
def test_the_authority_that_dns_names_is_enough(
    out: Out, authority: Authority, which: str, selector: int, matching: int
) -> None:
    """And no other."""
    out.environment["SSL_CERT_FILE"] = "/nonexistent"
    anchor: Issued = getattr(authority, which)
    with sink(offering(authority.issue(NAME, root_too=True).context())) as server:
        dane(out, server, anchor.tlsa(2, selector, matching))
        assert out.send(server) == accepted(GOOD + b"verified by DANE")
    for bad, why in (
        (authority.issue("other.example", root_too=True), b"its certificate is not for mail.dom.example"),
        (authority.issue(NAME, days=-1, root_too=True), b"certificate has expired"),
    ):
        with sink(offering(bad.context())) as server:
            dane(out, server, anchor.tlsa(2, selector, matching))
            assert out.send(server) == [
                b"ZConnected to 127.0.0.1 but TLS failed, which DANE demands: %s. (#4.7.5)\n" % why
            ]


def test_a_root_that_is_not_sent_may_be_in_dns_whole(out: Out, authority: Authority, certificate: Issued) -> None:
    with sink(offering(certificate.context())) as server:
        dane(out, server, authority.root.tlsa(2, 0, 0), "2 0 0 00")
        assert out.send(server) == accepted(GOOD + b"verified by DANE")
        dane(out, server, authority.root.tlsa(2, 1, 1))
        assert b"fits none of its TLSA records" in out.send(server)[0]


def test_a_chain_that_only_carries_the_authority_is_none(out: Out, authority: Authority, tmp_path: Path) -> None:
    """A certificate of somebody else's, with the right authority behind it."""
    other = Authority(tmp_path / "other", "Test authority").issue(NAME)
    forged = Issued(other.certificate, other.key, tmp_path / "forged.pem", authority.middle.certificate)
    with sink(offering(forged.context())) as server:
        dane(out, server, authority.middle.tlsa(2, 1, 1))
        (report,) = out.send(server)
        assert report.startswith(b"ZConnected to 127.0.0.1 but TLS failed, which ")
        assert not any(line.startswith(b"MAIL") for session in server.sessions for line in session.lines)


def test_a_certificate_that_dns_does_not_name_gets_nothing(out: Out, authority: Authority, certificate: Issued) -> None:
    with sink(offering(certificate.context())) as server:
        dane(out, server, authority.issue("x.example").tlsa(3, 1, 1))
        assert out.send(server) == [
            b"ZConnected to 127.0.0.1 but TLS failed, which DANE demands: its certificate fits none of its TLSA"
            b" records. (#4.7.5)\n"
        ]
        dane(out, server, authority.issue("x.example").tlsa(3, 1, 1), certificate.tlsa(3, 1, 1))
        assert out.send(server) == accepted(GOOD + b"verified by DANE")
    with sink(FAIR) as server:
        dane(out, server, certificate.tlsa(3, 1, 1))
        assert out.send(server) == [
            b"ZConnected to 127.0.0.1 but it does not offer TLS, which DANE demands. (#4.7.10)\n"
        ]


def test_records_of_no_use_demand_tls(out: Out, authority: Authority) -> None:
    self_signed = authority.self_signed("else.example")
    with sink(offering(self_signed.context())) as server:
        for data in (self_signed.tlsa(1, 1, 1), self_signed.tlsa(0, 0, 1), "3 1 9 " + "00" * 32):
            dane(out, server, data)
            assert out.send(server) == accepted(GOOD + b"unverified")
    with sink(FAIR) as server:
        dane(out, server, self_signed.tlsa(1, 1, 1))
        assert b"does not offer TLS, which DANE demands" in out.send(server)[0]


@pytest.mark.parametrize("insecure", [NAME, "records", "administrator"])
def test_what_is_not_authentic_is_not_believed(out: Out, authority: Authority, insecure: str) -> None:
    with sink(FAIR) as server:
        dane(out, server, authority.self_signed("x").tlsa(3, 1, 1))
        if insecure == "administrator":
            out.at.control(dnssecservers="192.0.2.53")
        else:
            out.insecure.add(f"_{server.port}._tcp.{NAME}" if insecure == "records" else insecure)
        assert out.send(server) == PLAIN
        if insecure == "administrator":
            assert b"DANE demands" in out.send(server, dnssecservers="192.0.2.53\n127.0.0.1")[0]


def test_an_alias_is_known_by_where_it_leads_and_by_itself(out: Out, authority: Authority) -> None:
    out.records["real.example", "A"] = out.records.pop((NAME, "A"))
    out.records[NAME, "CNAME"] = ["real.example"]
    first, second = authority.self_signed("first"), authority.self_signed("second")
    with sink(offering(first.context())) as server:
        dane(out, server, second.tlsa(3, 1, 1))
        assert b"fits none" in out.send(server)[0]
        dane(out, server, first.tlsa(3, 1, 1), name="real.example")
        assert out.send(server) == accepted(GOOD + b"verified by DANE")
        out.insecure.add("real.example")
        assert out.send(server) == accepted(GOOD + b"unverified")


def test_where_records_cannot_be_had_mail_waits(out: Out) -> None:
    def fail(answer: bytes) -> list[bytes]:
        return [answer[:3] + b"\x82" + answer[4:]] if b"\4_tcp" in answer else [answer]

    out.at.control(smtproutes=f":{NAME}")
    settings = qmail_remote.Settings(bytes(out.at.path))
    with dnsserver.running(out.records, twist=fail, judge=lambda name: True) as names:
        env = {name.encode(): value.encode() for name, value in names.environment.items()}
        found = qmail_remote.name_servers(settings, env)
        found.waits_s = QUICK
        (target,) = qmail_remote.only_targets(found, NAME.encode(), b"relay")
        needs = qmail_remote.Needs(settings, found, b"there.example", Route(NAME.encode()))
        with pytest.raises(qmail_remote.Insecure) as failure:
            needs.of(target)
        asked = len(names.asked)
        with pytest.raises(qmail_remote.Insecure):  # the next address of the same host: nobody is asked again
            needs.of(target)
        assert len(names.asked) == asked
    assert failure.value.args[0] == (
        b"ZSorry, I couldn't find out which certificate mail.dom.example has to show (DANE). (#4.7.5)\n"
    )


def test_the_log_of_a_delivery_says_how_it_went(out: Out, certificate: Issued) -> None:
    """As qmail-rspawn has it for qmail-send."""
    with sink(offering(certificate.context())) as server:
        reports = out.send(server, tlsdestinations=":verify")
    report = deliveryreports.remote(0, b"".join(each + b"\0" for each in reports))
    assert report == b"K127.0.0.1 accepted message.\n" + GOOD + b"verified.\n" + SAID


def test_below_qmail_rspawn_it_goes_by_tls_too(certificate: Issued, authority: Authority, tmp_path: Path) -> None:
    home = QueueHome(tmp_path / "home")
    home.control(tlsdestinations=f":verify:{NAME}")
    message = put(home, text=MESSAGE)
    with sink(offering(certificate.context())) as server:
        home.control(smtproutes=f":127.0.0.1:{server.port}")
        with Sender([BIN / "qmail-rspawn"], home.env(SSL_CERT_FILE=str(authority.cafile))) as sender:
            for _ in range(3):
                text = sender.deliver(message, b"you@there.example", b"me@here.example")
                assert text == b"K127.0.0.1 accepted message.\n" + GOOD + b"verified.\n" + SAID
        assert [session.message for session in server.sessions] == [WIRE] * 3


def test_policies_are_fetched_by_another_port_where_that_is_said(out: Out, authority: Authority) -> None:
    policy = b"version: STSv1\nmode: enforce\nmx: mx.dom.example\nmax_age: 86400\n"
    answer = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + policy
    out.records["mta-sts.dom.example", "A"] = ["127.0.0.1"]
    with (
        sink(
            {"greeting": b"", "GET": answer, "HOST": None}, context=authority.issue("mta-sts.dom.example").context()
        ) as web,
        dnsserver.running(out.records) as names,
    ):
        changes = {**names.environment, **out.environment, "QMAILPY_HTTPSPORT": str(web.port)}
        env = {name.encode(): value.encode() for name, value in changes.items()}
        found = qmail_remote.fetched_policy(resolver.read(env), b"dom.example", env)
    assert found is not None
    assert found.patterns == [b"mx.dom.example"]
