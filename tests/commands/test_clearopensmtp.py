import time

import pytest

from tests.helpers import BIN, needs
from tests.virtual import Virtual, virtual

__all__ = ["virtual"]

OURS = str(BIN / "clearopensmtp")
LINE = '%s:allow,RELAYCLIENT="",RBLSMTPD=""\t%d\n'


def opened(virtual: Virtual, **minutes_ago: float) -> None:
    """Each name is the last number of an address behind an n."""
    lines = [LINE % (f"192.0.2.{name[1:]}", time.time() - 60 * ago) for name, ago in minutes_ago.items()]
    (virtual.etc / "open-smtp").write_text("".join(lines))


def left(virtual: Virtual) -> list[str]:
    return [line.partition(":")[0] for line in (virtual.etc / "open-smtp").read_text().splitlines()]


def test_addresses_of_three_hours_ago_are_closed(virtual: Virtual) -> None:
    (virtual.etc / "tcp.smtp").write_text("127.:allow\n")
    opened(virtual, n1=181, n2=179, n3=0)
    result = virtual.run(OURS)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert left(virtual) == ["192.0.2.2", "192.0.2.3"]
    for ip, expected in (("192.0.2.1", b"default:"), ("192.0.2.2", b"rule 192.0.2.2:"), ("127.0.0.1", b"rule 127.:")):
        found = virtual.run(needs("tcprulescheck"), str(virtual.etc / "tcp.smtp.cdb"), TCPREMOTEIP=ip)
        assert found.stdout.startswith(expected)


@pytest.mark.parametrize("where", ["file", "variable"])
def test_the_minutes_may_be_chosen(virtual: Virtual, where: str) -> None:
    opened(virtual, n1=40, n2=20)
    changes = {"VPOPMAIL_ROAMING": "30"} if where == "variable" else {}
    if where == "file":
        (virtual.etc / "roaming").write_text("30\n")
    assert virtual.run(OURS, input=b"", **changes).returncode == 0
    assert left(virtual) == ["192.0.2.2"]


def test_where_there_never_was_smtp_after_pop_it_says_so(virtual: Virtual) -> None:
    result = virtual.run(OURS)
    assert (result.returncode, result.stdout) == (0, b"vpopmail not configure with --enable-roaming-users\n")
    assert list(virtual.etc.iterdir()) == []


def test_a_bad_rule_leaves_the_rules_as_they_were(virtual: Virtual) -> None:
    opened(virtual, n1=0)
    assert virtual.run(OURS).returncode == 0
    before = (virtual.etc / "tcp.smtp.cdb").stat().st_ino
    (virtual.etc / "tcp.smtp").write_text("10.:alow\n")
    result = virtual.run(OURS)
    assert result.returncode == 111
    assert result.stderr.startswith(b"clearopensmtp: fatal: unable to parse this line of tcp.smtp: 10.:alow (line 1: ")
    assert (virtual.etc / "tcp.smtp.cdb").stat().st_ino == before


def test_a_home_that_is_not_there_is_temporary(virtual: Virtual) -> None:
    result = virtual.run(OURS, VPOPMAILHOME="/nonexistent", VPOPMAIL_ROAMING="1")
    assert result.returncode == 111
    assert result.stderr == b"clearopensmtp: fatal: unable to clear addresses: file does not exist\n"
    assert virtual.run(OURS, "x").returncode == 100
