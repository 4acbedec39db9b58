import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.helpers import BIN, environment, needs, run

RULES = b"""\
127.0.0.1:allow,RELAYCLIENT=""
192.168.10.:allow,RELAYCLIENT=""
:allow
"""
OLD = b"the old file"


def compile_rules(folder: Path, rules: bytes, program: str = "tcprules") -> "subprocess.CompletedProcess[bytes]":
    return run([program, "rules.cdb", "rules.tmp"], input=rules, cwd=folder)


def limited(folder: Path, rules: bytes, program: str) -> "subprocess.CompletedProcess[bytes]":
    """compile_rules with at most a few kilobytes of room for a file."""
    return run(
        ["sh", "-c", 'ulimit -c 0; ulimit -f 16; exec "$@"', "sh", program, "rules.cdb", "rules.tmp"], rules, cwd=folder
    )


def both(tmp_path: Path, rules: bytes) -> list["subprocess.CompletedProcess[bytes]"]:
    """The original in the folder `original`, and this one in the folder `own`."""
    done = []
    for folder, program in ("original", needs("tcprules")), ("own", "tcprules"):
        (tmp_path / folder).mkdir()
        done.append(compile_rules(tmp_path / folder, rules, program))
    return done


def test_the_file_is_that_of_the_original(tmp_path: Path) -> None:
    _, own = both(tmp_path, RULES)
    assert (own.returncode, own.stdout, own.stderr) == (0, b"", b"")
    assert (tmp_path / "own/rules.cdb").read_bytes() == (tmp_path / "original/rules.cdb").read_bytes()
    assert os.listdir(tmp_path / "own") == ["rules.cdb"] == os.listdir(tmp_path / "original")


@pytest.mark.parametrize(
    "rules", [b"", b"127.0.0.1:deny", b"\n\n# no rule\n", b"x" * 200000 + b":allow\n" + b"\n" * 200000]
)
def test_input_of_any_shape_gives_the_file_of_the_original(tmp_path: Path, rules: bytes) -> None:
    original, own = both(tmp_path, rules)
    assert (own.returncode, original.returncode) == (0, 0)
    assert (tmp_path / "own/rules.cdb").read_bytes() == (tmp_path / "original/rules.cdb").read_bytes()


def test_a_hundred_thousand_rules_give_the_file_of_the_original(tmp_path: Path) -> None:
    rules = b"".join([b'10.%d.%d.%d:allow,N="%d"\n' % (n >> 16, n >> 8 & 255, n & 255, n) for n in range(100000)])
    both(tmp_path, rules)
    assert (tmp_path / "own/rules.cdb").read_bytes() == (tmp_path / "original/rules.cdb").read_bytes()


@pytest.mark.parametrize(
    ("line", "reason"),
    [(b'10.:allow,A="x', b'value has no closing "'), (b"10.:alow", b"no allow or deny after the colon")],
)
def test_a_bad_line_is_named_with_its_number_and_the_old_file_stays(tmp_path: Path, line: bytes, reason: bytes) -> None:
    (tmp_path / "rules.cdb").write_bytes(OLD)
    done = compile_rules(tmp_path, RULES + b"\n" + line + b"\nnever read: allow\n")
    said = b"tcprules: fatal: unable to parse this line: " + line
    assert (done.returncode, done.stderr) == (100, said + b" (line 5: " + reason + b")\n")
    assert (tmp_path / "rules.cdb").read_bytes() == OLD
    original = compile_rules(tmp_path, RULES + b"\n" + line + b"\n", needs("tcprules"))
    assert (original.returncode, original.stderr) == (100, said + b"\n")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], b"usage: tcprules rules.cdb rules.tmp"),
        (["cdb"], b"usage: tcprules rules.cdb rules.tmp"),
        (["cdb", "absent/tmp"], b"fatal: unable to create absent/tmp: file does not exist"),
        (["cdb", "."], b"fatal: unable to create .: is a directory"),
        (["absent/cdb", "tmp"], b"fatal: unable to move tmp to absent/cdb: file does not exist"),
        ([".", "tmp"], b"fatal: unable to move tmp to .: device busy"),
        (["cdb", "/dev/full"], b"fatal: unable to write to /dev/full: out of disk space"),
    ],
)
def test_trouble_is_told_as_the_original_tells_it(tmp_path: Path, argv: list[str], said: bytes) -> None:
    for program in "tcprules", needs("tcprules"):
        done = run([program, *argv], RULES, cwd=tmp_path)
        assert done.stderr == b"tcprules: " + said + b"\n"
        assert done.returncode == (100 if b"usage" in said else 111)
        assert not (tmp_path / "cdb").exists()


@pytest.mark.parametrize("stdin", ["<&-", ">>output"])
def test_input_that_cannot_be_read_leaves_the_old_file(tmp_path: Path, stdin: str) -> None:
    (tmp_path / "rules.cdb").write_bytes(OLD)
    for program in "tcprules", needs("tcprules"):
        done = run(["sh", "-c", f'exec "$@" 0{stdin}', "sh", program, "rules.cdb", "rules.tmp"], cwd=tmp_path)
        assert done.stderr == b"tcprules: fatal: unable to read input: file descriptor not open\n"
        assert done.returncode == 111
    assert (tmp_path / "rules.cdb").read_bytes() == OLD


def test_a_file_size_limit_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "rules.cdb").write_bytes(OLD)
    for program in needs("tcprules"), "tcprules":
        done = limited(tmp_path, b"10.0-255.0.:allow,A=/%s/\n" % (b"x" * 100), program)
        assert done.returncode == -signal.SIGXFSZ
        assert (tmp_path / "rules.cdb").read_bytes() == OLD


def test_kill_9_while_it_reads_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "rules.cdb").write_bytes(OLD)
    argv = [str(BIN / "tcprules"), "rules.cdb", "rules.tmp"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, cwd=tmp_path, env=environment()) as process:
        assert process.stdin is not None
        process.stdin.write(b"10.:deny\n" * 50000)  # more than a pipe holds: when all is written, it reads
        process.stdin.flush()
        assert (tmp_path / "rules.tmp").exists()
        process.kill()
        process.wait()
        process.stdin.close()
    assert (tmp_path / "rules.cdb").read_bytes() == OLD


def test_the_temporary_may_be_left_over_from_a_crash(tmp_path: Path) -> None:
    (tmp_path / "rules.tmp").write_bytes(b"x" * 10000)
    assert compile_rules(tmp_path, RULES).returncode == 0
    assert (tmp_path / "rules.cdb").stat().st_size < 10000


def test_a_file_with_additions_gives_the_original_its_own_answers(tmp_path: Path) -> None:
    added = b"10.0.0.0/8:deny\n2001:db8::/32:deny\n::1:deny\njoe@::1:deny\n"
    original = needs("tcprulescheck")
    answers = []
    for rules in RULES, added + RULES:
        assert compile_rules(tmp_path, rules).returncode == 0
        for ip in "127.0.0.1", "192.168.10.7", "10.1.2.3", "2001:db8::1":
            done = run([original, "rules.cdb"], env=environment(TCPREMOTEIP=ip, TCPREMOTEINFO="joe"), cwd=tmp_path)
            answers.append((done.returncode, done.stdout, done.stderr))
    assert answers[:4] == answers[4:]
