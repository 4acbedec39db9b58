"""encryption - whether a connection is encrypted, as far as its environment tells, and what has to be. Pure."""

from _collections_abc import Mapping

from qmailpy.formats import sslenviron, ucspitls

WISH = b"UCSPITLS"
OFF = b"-"
REQUIRED = b"!"


def is_set(value: bytes | None) -> bool:
    return value not in (None, b"", b"0")


def is_encrypted(env: Mapping[bytes, bytes]) -> bool:
    """PROTO is SSL in old versions of ucspi-ssl, SSL a word of the administrator. Where TLS is offered there is none
    yet, whatever stands there."""
    if ucspitls.CONTROL in env:
        return False
    proto = env.get(b"PROTO", b"")
    return proto.startswith(b"SSL") or is_set(env.get(b"SSL")) or is_set(env.get(sslenviron.PROTOCOL))


def is_offered(env: Mapping[bytes, bytes]) -> bool:
    """Whether TLS is to begin on this connection if the client wishes so."""
    return ucspitls.CONTROL in env and env.get(WISH) != OFF


def is_required(env: Mapping[bytes, bytes]) -> bool:
    """Whether nothing of worth may be said on this connection as it is."""
    return env.get(WISH) == REQUIRED and not is_encrypted(env)


def in_clear_allowed(env: Mapping[bytes, bytes]) -> bool:
    """Whether a password may be sent on this connection though it is not encrypted."""
    ip = env.get(b"TCPREMOTEIP", b"")
    return ip.startswith(b"127.") or ip == b"::1" or is_set(env.get(b"ALLOW_INSECURE_AUTH"))


def described(env: Mapping[bytes, bytes], variables: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """env for what comes behind STLS or STARTTLS: TLS is on, is like variables, and is not offered any more."""
    return {**sslenviron.forget(ucspitls.without(env)), **variables}
