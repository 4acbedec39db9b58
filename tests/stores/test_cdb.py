import errno
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import cdb as format_cdb
from qmailpy.formats import tcprules
from qmailpy.stores import cdb

TEXT = b"""\
127.0.0.1:allow,RELAYCLIENT=""
192.168.10.:allow,RELAYCLIENT=""
10.66.:deny,WHY="no"
2001:db8::/32:allow,RELAYCLIENT="x"
:allow
"""


def compiled(text: bytes) -> bytes:
    return b"".join(format_cdb.make(tcprules.records(text.split(b"\n"))))


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.cdb"
    path.write_bytes(compiled(TEXT))
    return path


def find(
    path: Path, ip: bytes, host: bytes | None = None, info: bytes | None = None
) -> tuple[bytes, bool, list[object]]:
    rule = cdb.find(os.fsencode(path), ip, host, info)
    assert rule is not None
    return tcprules.readable(rule.key), rule.deny, [*rule.variables]


def test_a_peer_gets_its_rule(rules: Path) -> None:
    assert find(rules, b"127.0.0.1") == (b"127.0.0.1", False, [(b"RELAYCLIENT", b"")])
    assert find(rules, b"192.168.10.7") == (b"192.168.10.", False, [(b"RELAYCLIENT", b"")])
    assert find(rules, b"10.66.0.1", b"a.example", b"") == (b"10.66.", True, [(b"WHY", b"no")])
    assert find(rules, b"2001:db8::25") == (b"2001:db8::/32", False, [(b"RELAYCLIENT", b"x")])
    assert find(rules, b"203.0.113.1") == (b"", False, [])


def test_a_peer_without_a_rule_gets_none(rules: Path) -> None:
    rules.write_bytes(compiled(b"127.0.0.1:deny\n"))
    assert cdb.find(os.fsencode(rules), b"203.0.113.1") is None


def test_a_file_larger_than_what_is_read_at_once_is_searched(rules: Path) -> None:
    rules.write_bytes(
        compiled(b'10.0-255.1.:allow,N="%s"\n' % (b"x" * 1000) * 5 + b"=big:deny,A=/%s/\n" % (b"y" * 100000))
    )
    assert find(rules, b"10.77.1.2") == (b"10.77.1.", False, [(b"N", b"x" * 1000)])
    assert find(rules, b"1.2.3.4", b"big") == (b"=big", True, [(b"A", b"y" * 100000)])
    assert cdb.find(os.fsencode(rules), b"1.2.3.4") is None


def test_no_descriptor_is_left(rules: Path) -> None:
    before = os.listdir("/proc/self/fd")
    find(rules, b"127.0.0.1")
    rules.write_bytes(b"")
    with pytest.raises(OSError):
        find(rules, b"127.0.0.1")
    assert os.listdir("/proc/self/fd") == before


def test_an_absent_file_is_told_from_one_that_is_no_cdb(rules: Path, tmp_path: Path) -> None:
    for path, number in [(tmp_path / "absent", errno.ENOENT), (tmp_path, errno.EISDIR)]:
        with pytest.raises(OSError) as caught:
            cdb.find(os.fsencode(path), b"127.0.0.1")
        assert caught.value.errno == number
    for text in b"", TEXT, rules.read_bytes()[:2100]:
        rules.write_bytes(text)
        with pytest.raises(OSError) as caught:
            cdb.find(os.fsencode(rules), b"127.0.0.1")
        assert caught.value.errno == errno.EPROTO


def test_a_pipe_is_no_cdb_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError) as caught:
        cdb.find(os.fsencode(tmp_path / "pipe"), b"127.0.0.1")
    assert caught.value.errno == errno.ESPIPE


def test_a_length_that_is_a_lie_costs_no_memory(rules: Path) -> None:
    file = bytearray(compiled(b"1.2.3.4:allow\n" + b"10.0-255.:deny\n"))
    file[2052:2056] = b"\xf0\xff\xff\xff"
    rules.write_bytes(file)
    tracemalloc.start()
    try:
        with pytest.raises(OSError) as caught:
            cdb.find(os.fsencode(rules), b"1.2.3.4")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert caught.value.errno == errno.EPROTO


@given(st.binary(max_size=3000), st.data())
def test_any_file_gives_an_answer_or_a_protocol_error(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, data: st.DataObject
) -> None:
    file = bytearray(data.draw(st.sampled_from([compiled(TEXT), compiled(TEXT * 50)])))
    at = data.draw(st.integers(0, len(file)))
    file[at : at + len(junk)] = junk
    path = tmp_path_factory.getbasetemp() / "junk"
    path.write_bytes(file)
    for ip in b"127.0.0.1", b"192.168.10.7", b"2001:db8::1", b"203.0.113.1":
        try:
            cdb.find(os.fsencode(path), ip, b"a.example", b"joe")
        except OSError as e:
            assert e.errno == errno.EPROTO


@pytest.mark.parametrize("key", [b"a", b"absent", None])
def test_one_answer_closes_the_descriptor_also_where_there_is_none(tmp_path: Path, key: bytes | None) -> None:
    path = tmp_path / "one.cdb"
    path.write_bytes(b"".join(format_cdb.make([(b"a", b"1")])) if key else b"none")
    fd = os.open(path, os.O_RDONLY)
    if key is None:
        with pytest.raises(OSError) as e:
            cdb.take(fd, b"a")
        assert e.value.errno == errno.EPROTO
    else:
        assert cdb.take(fd, key) == (b"1" if key == b"a" else None)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
