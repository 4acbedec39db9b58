"""What an environment says of encryption."""

import pytest

from qmailpy.mta import encryption

CONTROL = {b"SSLCTLFD": b"5"}


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, False),
        ({b"PROTO": b"TCP"}, False),
        ({b"PROTO": b"SSL"}, True),
        ({b"PROTO": b"SSL6"}, True),
        ({b"SSL": b"1"}, True),
        ({b"SSL": b"0"}, False),
        ({b"SSL_PROTOCOL": b"TLSv1.3"}, True),
        ({b"SSL_PROTOCOL": b""}, False),
        ({b"PROTO": b"SSL", b"SSL": b"1", b"SSL_PROTOCOL": b"TLSv1.3", **CONTROL}, False),  # not begun yet
    ],
)
def test_a_connection_is_encrypted(env: dict[bytes, bytes], found: bool) -> None:
    assert encryption.is_encrypted(env) is found


@pytest.mark.parametrize(
    ("wish", "offered", "required"),
    [(None, True, False), (b"", True, False), (b"1", True, False), (b"!", True, True), (b"-", False, False)],
)
def test_the_administrators_wish(wish: bytes | None, offered: bool, required: bool) -> None:
    env = {} if wish is None else {b"UCSPITLS": wish}
    assert encryption.is_offered({**env, **CONTROL}) is offered
    assert not encryption.is_offered(env)
    assert encryption.is_required({**env, **CONTROL}) is encryption.is_required(env) is required
    assert not encryption.is_required({**env, b"SSL_PROTOCOL": b"TLSv1.3"})


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, False),
        ({b"TCPREMOTEIP": b"127.0.0.1"}, True),
        ({b"TCPREMOTEIP": b"::1"}, True),
        ({b"TCPREMOTEIP": b"1.127.0.1"}, False),
        ({b"TCPREMOTEIP": b"127"}, False),
        ({b"ALLOW_INSECURE_AUTH": b"1"}, True),
        ({b"ALLOW_INSECURE_AUTH": b"0"}, False),
    ],
)
def test_a_password_may_come_in_clear(env: dict[bytes, bytes], found: bool) -> None:
    assert encryption.in_clear_allowed(env) is found


def test_behind_starttls_the_environment_is_that_of_this_tls() -> None:
    env = {b"PATH": b"/bin", b"SSLCTLFD": b"5", b"SSLREADFD": b"6", b"SSLWRITEFD": b"7", b"SSL_CLIENT_S_DN": b"/CN=x"}
    found = encryption.described(env, {b"SSL_PROTOCOL": b"TLSv1.3"})
    assert found == {b"PATH": b"/bin", b"SSL_PROTOCOL": b"TLSv1.3"}
    assert encryption.is_encrypted(found)
