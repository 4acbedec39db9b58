"""resolver - how this host resolves names, read from the environment and from the files of its administrator.

A file that does not exist says nothing; one that cannot be read is an error to those who need what is in it.
Nothing is kept: who lives long reads again, which costs two small files.
"""

import os

from qmailpy.formats import numbers, resolvconf
from qmailpy.formats.resolvconf import Resolver, Server
from qmailpy.unix import fds

RESOLV_CONF = b"/etc/resolv.conf"
REWRITE_FILE = b"/etc/dnsrewrite"
LARGEST = 1 << 20  # bytes; what is behind is ignored

LOOPBACK: list[Server] = [(b"\x7f\0\0\1", b"")]


def read(env: dict[bytes, bytes]) -> Resolver:
    """The configuration as it is now. Never fails: see Resolver."""
    port = numbers.scan(env.get(b"QMAILPY_DNSPORT", b""))[0] % 65536 or resolvconf.PORT
    return Resolver(_or_error(_servers, env), _or_error(_rules, env), port)


def _or_error(part, env: dict[bytes, bytes]):  # type: ignore[no-untyped-def]
    try:
        return part(env)
    except OSError as e:
        return e


def _contents(path: bytes) -> "bytes | None":
    """None if there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        return fds.read_all(fd, LARGEST)
    finally:
        os.close(fd)


def _servers(env: dict[bytes, bytes]) -> list[Server]:
    return (
        resolvconf.joined_servers(env.get(b"DNSCACHEIP", b""))
        or resolvconf.listed_servers(_contents(RESOLV_CONF) or b"")
        or LOOPBACK
    )


def _rules(env: dict[bytes, bytes]) -> list[bytes]:
    text = _contents(env.get(b"DNSREWRITEFILE", REWRITE_FILE))
    if text is not None:
        return resolvconf.rewriting_rules(text)
    if b"LOCALDOMAIN" in env:
        return resolvconf.localdomain_rules(env[b"LOCALDOMAIN"])
    rules = resolvconf.search_rules(_contents(RESOLV_CONF) or b"")
    return resolvconf.host_rules(os.fsencode(os.uname().nodename)) if rules is None else rules
