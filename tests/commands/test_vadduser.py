import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.formats import vpasswd
from tests.helpers import needs
from tests.virtual import SHA512, Virtual
from tests.vpopusers import account, home, logs_in, names, virtual

__all__ = ["home", "virtual"]

HASH = "$6$sixteenlettersof$x"


def test_a_user_is_added_and_can_log_in(home: Virtual) -> None:
    done = home.run("vadduser", "Joe@A.example", "pass word")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    found = account(home, "joe")
    assert (found.uid, found.gid, found.gecos, found.quota, found.clear) == (1, 0, b"joe", b"NOQUOTA", None)
    assert logs_in(home, "joe@a.example", "pass word")
    assert not logs_in(home, "joe@a.example", "other")


def test_an_alias_domain_stands_for_its_domain(home: Virtual) -> None:
    assert home.run("vadduser", "joe%b.example", "secret").returncode == 0
    assert names(home) == ["joe", "old"]


def test_options(home: Virtual) -> None:
    done = home.run("vadduser", "-v", "joe@a.example", "-q", "10M,5c", "-c", "Joe User", "-e", HASH, "-s")
    assert done.returncode == 0
    assert done.stdout.startswith(b"version: ")
    assert done.stderr == b"Warning: The -s option has been disabled.\n"
    found = account(home, "joe")
    assert (found.password, found.gecos, found.quota) == (HASH.encode(), b"Joe User", b"10485760S,5C")


def test_a_random_password_is_printed(home: Virtual) -> None:
    done = home.run("vadduser", "-r20", "joe@a.example")
    password = done.stdout.removeprefix(b"Random password: ").rstrip(b"\n").decode()
    assert len(password) == 20
    assert logs_in(home, "joe@a.example", password)
    both = home.run("vadduser", "-r", "max@a.example", "secret")
    assert both.stdout == b"Error: don't use -r option when giving password on command line\n"
    assert both.returncode == 255


def test_a_password_may_come_from_the_input(home: Virtual) -> None:
    assert home.run("vadduser", "joe@a.example", "-", input=b"secret\n").returncode == 0
    assert logs_in(home, "joe@a.example", "secret")
    asked = home.run("setsid", "-w", "vadduser", "max@a.example", input=b"one\ntwo\nthree\nthree\n")
    assert asked.stdout == b"Passwords do not match, try again\n"
    assert asked.stderr == b"Please enter password for max@a.example: enter password again: " * 2
    assert logs_in(home, "max@a.example", "three")
    none = home.run("vadduser", "zoe@a.example", "-").stdout
    assert none.startswith(b"Error: No password entered\nvadduser: usage: [options] email_address [passwd]\n")


def test_without_password_nobody_logs_in(home: Virtual) -> None:
    assert home.run("vadduser", "-n", "joe@a.example").returncode == 0
    assert account(home, "joe").password == b""


def test_the_password_itself_is_kept_where_that_is_wanted(home: Virtual) -> None:
    (home.etc / "clear-passwords").write_text("1\n")
    assert home.run("vadduser", "joe@a.example", "secret").returncode == 0
    assert account(home, "joe").clear == b"secret"
    assert home.run("vadduser", "max@a.example", "a:b").stdout == b"Error: bad character\n"


def test_the_quota_is_the_domains_unless_it_is_said(home: Virtual) -> None:
    (home.etc / "vlimits.default").write_text("default_quota 1000\n")
    home.run("vadduser", "-n", "one@a.example")
    (home.folder / "domains/a.example/.qmailadmin-limits").write_text("default_quota: 5000\ndefault_maxmsgcount 7\n")
    home.run("vadduser", "-n", "two@a.example")
    assert [account(home, user).quota for user in ("one", "two")] == [b"1000S", b"5000S,7C"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["old@a.example", "x"], 255, "Error: User already exists"),
        (["joe@c.example", "x"], 255, "Error: Domain does not exist"),
        (
            ["joe", "x"],
            255,
            "You did not use a full email address for the user name\nOnly full email addresses should be used",
        ),
        (["..@a.example", "x"], 255, "Error: Illegal username"),
        (["../../x@a.example", "x"], 255, "Error: Illegal username"),
        (["j@a.example", "x"], 255, "Error: Illegal username"),
        (["a b@a.example", "x"], 255, "Error: Illegal username"),
        (["a\nb@a.example", "x"], 255, "Error: Illegal username"),
        (["a:b@a.example", "x"], 255, "Error: Illegal username"),
        (["jö@a.example", "x"], 255, "Error: Illegal username"),
        (["joe@a_.example", "x"], 244, "Error: Invalid domain name"),
        (["joe@" + "a" * 300 + ".example", "x"], 230, "Error: domain name too long (max=96)"),
        (["a" * 300 + "@a.example", "x"], 231, "Error: user name too long (max=64)"),
        (["joe@a.example", "x" * 300], 229, "Error: password too long (max=128)"),
        (["-c", "x" * 65, "joe@a.example", "x"], 228, "Error: gecos too long (max=64)"),
        (["-c", "a:b", "joe@a.example", "x"], 236, "Error: bad character"),
        (["-c", "a\nb", "joe@a.example", "x"], 236, "Error: bad character"),
        (["-c", "a\x1b[2J", "joe@a.example", "x"], 236, "Error: bad character"),
        (["-e", "$6$\xe9", "joe@a.example"], 236, "Error: bad character"),
        (["-q", "1" * 19 + "S,10C", "joe@a.example", "x"], 227, "Error: quota too long (max=20)"),
        (["-q", "5:5", "joe@a.example", "x"], 255, "Error: quota not understood: say 10M, 10485760S,1000C or NOQUOTA"),
        (
            ["-q", "../..", "joe@a.example", "x"],
            255,
            "Error: quota not understood: say 10M, 10485760S,1000C or NOQUOTA",
        ),
        (["-e", "a:b", "joe@a.example"], 236, "Error: bad character"),
        (["-r500", "joe@a.example"], 229, "Error: password too long (max=128)"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(home: Virtual, words: list[str], code: int, said: str) -> None:
    done = home.run("vadduser", *words)
    assert (done.returncode, done.stdout.decode()) == (code, said + "\n")
    assert names(home) == ["old"]


def test_wrong_usage_is_told(home: Virtual) -> None:
    for words, complaint in (([], b""), (["-z"], b"vadduser: invalid option -- 'z'\n")):
        done = home.run("vadduser", *words)
        assert (done.returncode, done.stderr) == (255, complaint)
        assert done.stdout.startswith(b"vadduser: usage: [options] email_address [passwd]\noptions: -v")


def test_many_are_added_from_a_file(home: Virtual) -> None:
    home.domain("c.example", f"old:{SHA512}")
    lines = "# users\njoe:secret:Joe User:10M\n\nmax@c.example:other\nzoe::Zoe\r\n"
    done = home.run("vadduser", "-n", "-q", "5M", "-f", "-", "a.example", input=lines.encode())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (names(home), names(home, "c.example")) == (["joe", "old", "zoe"], ["max", "old"])
    joe, zoe = account(home, "joe"), account(home, "zoe")
    assert (joe.gecos, joe.quota, zoe.gecos, zoe.quota, zoe.password) == (
        b"Joe User",
        b"10485760S",
        b"Zoe",
        b"5242880S",
        b"",
    )
    assert logs_in(home, "joe@a.example", "secret")
    assert logs_in(home, "max@c.example", "other")


def test_many_have_random_passwords_or_hashes(home: Virtual, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("joe@a.example\nmax@a.example\n")
    done = home.run("vadduser", "-r", "-f", str(tmp_path / "users"))
    told = dict(line.split(" ") for line in done.stdout.decode().splitlines())
    assert told.keys() == {"joe@a.example", "max@a.example"}
    assert logs_in(home, "max@a.example", told["max@a.example"])
    (tmp_path / "users").write_text(f"zoe:{HASH}\n")
    assert home.run("vadduser", "-H", "-f", str(tmp_path / "users"), "a.example").returncode == 0
    assert account(home, "zoe").password == HASH.encode()


def test_many_are_added_or_none(home: Virtual) -> None:
    lines = "joe:secret\n..:x\nold:x\nmax:x:a:b:c\nzoe\njoe:again\nx@d.example:y\nann:x::lots\n"
    done = home.run("vadduser", "-f", "-", "a.example", input=lines.encode())
    assert done.returncode == 255
    assert done.stdout.decode().splitlines() == [
        "line 2: Error: Illegal username",
        "line 4: Error: more than 4 fields",
        "line 5: Error: No password entered",
        "line 7: Error: Domain does not exist",
        "line 8: Error: quota not understood: say 10M, 10485760S,1000C or NOQUOTA",
        "old@a.example: Error: User already exists",
        "joe@a.example: Error: User already exists",
    ]
    assert names(home) == ["old"]
    absent = home.run("vadduser", "-f", "/absent/file")
    assert (absent.returncode, absent.stderr) == (
        111,
        b"vadduser: fatal: unable to use /absent/file: file does not exist\n",
    )


def test_ten_shells_that_add_users_at_once_lose_nothing(home: Virtual) -> None:
    script = 'for number in 1 2 3; do vadduser -e "$1" "user-$0-$number@a.example" || exit 1; done'
    shells = [
        subprocess.Popen(["sh", "-c", script, str(shell), HASH], env=home.env(), stdout=subprocess.PIPE)
        for shell in range(10)
    ]
    assert [shell.communicate()[0] + b"%d" % shell.returncode for shell in shells] == [b"0"] * 10
    assert names(home) == ["old", *sorted(f"user-{shell}-{number}" for shell in range(10) for number in (1, 2, 3))]
    control = (home.folder / "domains/a.example/.dir-control").read_text()
    assert control.startswith("30\n")
    assert home.run("vuserinfo", "-n", "-D", "a.example").stdout.count(b"user-") == 30


def test_the_program_itself_may_be_killed(home: Virtual) -> None:
    """tests/stores/vpopmail/test_accounts.py does it at each call of the module."""
    folder = home.folder / "domains/a.example"
    states = set()
    for call, when in (("rename", 1), ("rename", 2), ("rename", 3), ("mkdir", 2)):
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}"]
        home.run(needs("strace"), "-o", "/dev/null", *inject, "vadduser", "-e", HASH, f"u{call}{when}@a.example")
        assert "old" in names(home)
        states.add(f"u{call}{when}" in names(home))
        assert home.run("vmkpasswd", "a.example").returncode == 0
        home.run("vadduser", "-e", HASH, f"u{call}{when}@a.example")
        assert f"u{call}{when}" in names(home)
        assert (folder / f"u{call}{when}" / "Maildir" / "tmp").is_dir()
    assert states == {False, True}


PARTS = st.sampled_from(
    [b"joe", b"old", b"@a.example", b"..", b"/", b":", b"\n", b"\r", b"#", b"10M", b"\0", b"\xff", b" "]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(parts=st.lists(PARTS, max_size=12))
def test_whatever_a_file_holds_the_domain_stays_whole(home: Virtual, parts: list[bytes]) -> None:
    from qmailpy.commands import vadduser

    env = {os.fsencode(name): os.fsencode(value) for name, value in home.env().items()}
    path = home.etc / "lines"
    path.write_bytes(b"".join(parts))
    pid = os.fork()
    if pid == 0:
        try:
            null = os.open("/dev/null", os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os._exit(vadduser.main([b"vadduser", b"-n", b"-f", os.fsencode(path), b"a.example"], env))
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in (0, 255)
    found = (home.folder / "domains/a.example/vpasswd").read_bytes()
    assert found.endswith(b"\n")
    for line in found.splitlines():
        vpasswd.parse_line(line)
