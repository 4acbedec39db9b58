import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmailpy.commands import tcprulescheck
from qmailpy.formats import cdb, tcprules
from tests.helpers import environment, needs, run

RULES = b"""\
joe@127.0.0.1:allow,A="joe at home"
127.0.0.1:allow,RELAYCLIENT=""
192.168.10.:allow,RELAYCLIENT="",B=/x"y/
10.66.:deny,WHY="no"
=.dialup.example:deny
fe80::/10:deny
2001:db8::/32:allow,RELAYCLIENT=""
2001:db8::25:allow,C="one"
172.16/12:allow,D="private"
"""

IPS = ["127.0.0.1", "10.1.2.3", "10.1.2.4", "10.2.0.0", "0.0.0.0", "", "10.", "2001:db8::1", "_", "a b"]
HOSTS = ["a.example", "b.a.example", "example", "", ".", "A.example", "a..example"]
INFOS = ["joe", "", "@", "joe@x"]
ADDRESSES = st.one_of(
    st.sampled_from(
        ["127.0.0.1", "10.1.2.", "10.1-2.", "10.", "10.1.2.3-4", "", "=a.example", "=.example", "=", "joe@=example"]
    ),
    st.sampled_from(
        ["joe@127.0.0.1", "@10.1.2.3", "@=", "joe@=a.example", "=.a.example", "_", "joe@x@10.2.0.0", "10.2"]
    ),
)
VARIABLES = st.sampled_from(["", ',A="x"', ',A="x",B=""', ",=//", ',C="x\0Dy\0+Z=z"', ',A\0B="x"'])
LINE = st.builds(
    lambda address, instruction, variables: f"{address}:{instruction}{variables}\n",
    ADDRESSES, st.sampled_from(["allow", "deny"]), VARIABLES,
)  # fmt: skip
Answer = tuple[int, bytes, bytes]


def compiled(rules: bytes) -> bytes:
    return b"".join(cdb.make(tcprules.records(rules.split(b"\n"))))


def warm(argv: list[bytes], env: dict[bytes, bytes]) -> Answer:
    """main in a child of this process: exit code, and what it wrote on 1 and 2."""
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(out_end, 1)
        os.dup2(err_end, 2)
        code = tcprulescheck.main(argv, env)
        os._exit(code if isinstance(code, int) else 99)
    os.close(out_end)
    os.close(err_end)
    with os.fdopen(out, "rb") as f, os.fdopen(err, "rb") as g:
        said = f.read(), g.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), *said


def original(path: Path, env: dict[bytes, bytes]) -> Answer:
    done = subprocess.run([needs("tcprulescheck"), path], capture_output=True, env=env, check=False)
    return done.returncode, done.stdout, done.stderr


def peer(ip: str | None, host: str | None, info: str | None) -> dict[bytes, bytes]:
    named = {b"TCPREMOTEIP": ip, b"TCPREMOTEHOST": host, b"TCPREMOTEINFO": info}
    return {name: value.encode() for name, value in named.items() if value is not None}


PEERS = st.builds(peer, *(st.one_of(st.none(), st.sampled_from(values)) for values in (IPS, HOSTS, INFOS)))


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    (tmp_path / "rules.cdb").write_bytes(compiled(RULES))
    return tmp_path


def check(folder: Path, **peer: str) -> "subprocess.CompletedProcess[bytes]":
    return run(["tcprulescheck", "rules.cdb"], env=environment(**peer), cwd=folder)


@settings(max_examples=60)
@given(st.lists(LINE, max_size=8), st.lists(PEERS, min_size=1, max_size=3))
def test_the_answer_is_that_of_the_original(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], peers: list[dict[bytes, bytes]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "differential.cdb"
    path.write_bytes(compiled("".join(lines).encode()))
    for env in peers:
        assert warm([b"tcprulescheck", os.fsencode(path)], env) == original(path, env)


@settings(max_examples=60)
@given(st.lists(LINE, min_size=1, max_size=5), PEERS, st.data())
def test_a_damaged_file_gives_the_answer_of_the_original_or_111(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], env: dict[bytes, bytes], data: st.DataObject
) -> None:
    file = bytearray(compiled("".join(lines).encode()))
    for _ in range(data.draw(st.integers(0, 30))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.sampled_from([0, 1, 8, 255]))
    path = tmp_path_factory.getbasetemp() / "damaged.cdb"
    path.write_bytes(file[: data.draw(st.one_of(st.just(len(file)), st.integers(0, len(file))))])
    own = warm([b"tcprulescheck", os.fsencode(path)], env)
    if own[0] == 111:
        assert own[1:] == (b"", b"tcprulescheck: fatal: unable to read %s: protocol error\n" % os.fsencode(path))
    else:
        assert own == original(path, env)


@pytest.mark.parametrize(
    ("peer", "answer"),
    [
        ({}, b"default:\nallow connection\n"),
        ({"TCPREMOTEIP": "127.0.0.1"}, b"rule 127.0.0.1:\nset environment variable RELAYCLIENT=\nallow connection\n"),
        (
            {"TCPREMOTEIP": "127.0.0.1", "TCPREMOTEINFO": "joe"},
            b"rule joe@127.0.0.1:\nset environment variable A=joe at home\nallow connection\n",
        ),
        (
            {"TCPREMOTEIP": "192.168.10.7"},
            b"rule 192.168.10.:\n"
            b'set environment variable RELAYCLIENT=\nset environment variable B=x"y\nallow connection\n',
        ),
        ({"TCPREMOTEIP": "10.66.1.1"}, b"rule 10.66.:\ndeny connection\n"),
        ({"TCPREMOTEHOST": "a.dialup.example"}, b"rule =.dialup.example:\ndeny connection\n"),
    ],
)
def test_the_rule_of_an_ipv4_peer_is_shown_as_by_the_original(rules: Path, peer: dict[str, str], answer: bytes) -> None:
    own = check(rules, **peer)
    assert (own.returncode, own.stdout, own.stderr) == (0, answer, b"")
    assert run([needs("tcprulescheck"), "rules.cdb"], env=environment(**peer), cwd=rules).stdout == answer


@pytest.mark.parametrize(
    ("peer", "answer"),
    [
        ({"TCPREMOTEIP": "2001:db8::25"}, b"rule 2001:db8::25:\nset environment variable C=one\nallow connection\n"),
        (
            {"TCPREMOTEIP": "2001:db8::26"},
            b"rule 2001:db8::/32:\nset environment variable RELAYCLIENT=\nallow connection\n",
        ),
        ({"TCP6REMOTEIP": "FE80::1"}, b"rule fe80::/10:\ndeny connection\n"),
        ({"TCPREMOTEIP": "10.66.1.1", "TCP6REMOTEIP": "fe80::1"}, b"rule 10.66.:\ndeny connection\n"),
        ({"TCPREMOTEIP": "::ffff:10.66.1.1"}, b"rule 10.66.:\ndeny connection\n"),
        ({"TCPREMOTEIP": "172.20.1.1"}, b"rule 172.16.0.0/12:\nset environment variable D=private\nallow connection\n"),
        ({"TCPREMOTEIP": "2001:db9::1"}, b"default:\nallow connection\n"),
    ],
)
def test_prefixes_and_ipv6_peers_are_shown_as_rules_are_written(
    rules: Path, peer: dict[str, str], answer: bytes
) -> None:
    own = check(rules, **peer)
    assert (own.returncode, own.stdout, own.stderr) == (0, answer, b"")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], b"usage: tcprulescheck rules.cdb"),
        (["absent"], b"fatal: unable to read absent: file does not exist"),
        (["short"], b"fatal: unable to read short: protocol error"),
    ],
)
def test_trouble_is_told_as_the_original_tells_it(tmp_path: Path, argv: list[str], said: bytes) -> None:
    (tmp_path / "short").write_bytes(compiled(RULES)[:2100])
    for program in "tcprulescheck", needs("tcprulescheck"):
        done = run([program, *argv], cwd=tmp_path)
        assert (done.stdout, done.stderr) == (b"", b"tcprulescheck: " + said + b"\n")
        assert done.returncode == (100 if b"usage" in said else 111)


@pytest.mark.parametrize(("path", "reason"), [(".", b"is a directory"), ("/dev/null", b"protocol error")])
def test_what_cannot_be_a_cdb_is_told(tmp_path: Path, path: str, reason: bytes) -> None:
    done = run(["tcprulescheck", path], cwd=tmp_path)
    said = b"tcprulescheck: fatal: unable to read " + path.encode() + b": " + reason + b"\n"
    assert (done.returncode, done.stderr) == (111, said)


def test_an_answer_that_cannot_be_written_is_no_success(rules: Path) -> None:
    done = run(["sh", "-c", "exec tcprulescheck rules.cdb >/dev/full"], cwd=rules)
    assert (done.returncode, done.stderr) == (111, b"tcprulescheck: fatal: unable to write output: out of disk space\n")
