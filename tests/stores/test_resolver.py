"""Where the configuration of the resolver comes from."""

from pathlib import Path

import pytest

from qmailpy.formats import resolvconf
from qmailpy.stores import resolver


@pytest.fixture
def resolv_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(resolver, "RESOLV_CONF", bytes(tmp_path / "resolv.conf"))
    monkeypatch.setattr(resolver, "REWRITE_FILE", bytes(tmp_path / "dnsrewrite"))
    return tmp_path / "resolv.conf"


def test_dnscacheip_comes_before_resolv_conf_and_the_local_machine_last(resolv_conf: Path) -> None:
    assert resolver.read({}).servers == [(b"\x7f\0\0\1", b"")]
    resolv_conf.write_text("nameserver 127.0.0.7\nnameserver ::1\n")
    assert resolver.read({}).servers == [(b"\x7f\0\0\7", b""), (bytes(15) + b"\1", b"")]
    assert resolver.read({b"DNSCACHEIP": b"none"}).servers == resolver.read({}).servers
    joined = resolver.read({b"DNSCACHEIP": b"127.0.0.9.127.0.0.8"}).servers
    assert joined == [(b"\x7f\0\0\x09", b""), (b"\x7f\0\0\x08", b"")]


def test_rules_come_from_the_first_source_that_there_is(resolv_conf: Path, tmp_path: Path) -> None:
    def names(env: dict[bytes, bytes]) -> list[bytes]:
        rules = resolver.read(env).rules
        assert isinstance(rules, list)
        return resolvconf.qualified(b"x", rules)

    resolv_conf.write_text("search from.resolv.conf\n")
    assert names({}) == [b"x.from.resolv.conf"]
    localdomain = {b"LOCALDOMAIN": b"from.environment"}
    assert names(localdomain) == [b"x.from.environment"]
    (tmp_path / "dnsrewrite").write_text("?:.from.file\n")
    assert names(localdomain) == [b"x.from.file"]
    (tmp_path / "other").write_text("?:.from.other\n")
    assert names({**localdomain, b"DNSREWRITEFILE": bytes(tmp_path / "other")}) == [b"x.from.other"]
    assert names({**localdomain, b"DNSREWRITEFILE": b"/nonexistent"}) == [b"x.from.environment"]


def test_what_cannot_be_read_is_an_error_in_its_place(resolv_conf: Path) -> None:
    resolv_conf.mkdir()
    unreadable = resolver.read({})
    assert isinstance(unreadable.servers, IsADirectoryError)
    assert isinstance(unreadable.rules, IsADirectoryError)
    assert not isinstance(resolver.read({b"DNSCACHEIP": b"127.0.0.1"}).servers, OSError)


@pytest.mark.parametrize(("text", "port"), [(b"", 53), (b"5353", 5353), (b"x", 53), (b"65536", 53)])
def test_servers_may_listen_on_another_port(text: bytes, port: int) -> None:
    assert resolver.read({b"QMAILPY_DNSPORT": text}).port == port
    assert resolver.read({}).port == 53
