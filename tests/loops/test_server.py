"""What the keeper of the key is told of a peer. All else of a server is looked at from outside, in tests/commands."""

from types import SimpleNamespace
from typing import Any

import pytest

from qmailpy.loops import server


@pytest.mark.parametrize(
    ("address", "client"),
    [("192.0.2.1", b"192.0.2.1 "), ("::ffff:192.0.2.1", b"192.0.2.1 "), ("2001:db8::1", b"2001:db8::1 "),
     ("fe80::1%eth0", b"fe80::1%eth0 ")],
)  # fmt: skip
def test_the_same_address_on_another_link_is_another_client(address: str, client: bytes) -> None:
    around: Any = SimpleNamespace(settings=server.Settings(b"sslserver"), keeper=None)
    connection = server.Connection(around, -1, (address, 1))
    assert connection._client({}, {}) == client
    assert connection._client({}, {server.VERIFY: b""}) == client + b"!"
