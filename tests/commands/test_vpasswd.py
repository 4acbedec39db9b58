import pytest

from tests.helpers import needs
from tests.virtual import Virtual
from tests.vpopusers import account, home, logs_in, virtual

__all__ = ["home", "virtual"]


def test_a_password_is_changed(home: Virtual) -> None:
    before = account(home, "old")
    done = home.run("vpasswd", "Old@b.example", "other")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert logs_in(home, "old@a.example", "other")
    assert not logs_in(home, "old@a.example", "secret")
    after = account(home, "old")
    assert (after.gid, after.gecos, after.dir, after.quota, after.clear) == (
        before.gid, before.gecos, before.dir, before.quota, None,
    )  # fmt: skip
    assert after.password[:3] in (b"$y$", b"$6$")


def test_a_password_may_be_random_or_come_from_the_input(home: Virtual) -> None:
    done = home.run("vpasswd", "-r", "old@a.example")
    password = done.stdout.removeprefix(b"Random password: ").rstrip(b"\n").decode()
    assert len(password) == 12
    assert logs_in(home, "old@a.example", password)
    assert home.run("vpasswd", "old@a.example", "-", input=b"one\n").returncode == 0
    assert logs_in(home, "old@a.example", "one")
    assert home.run("setsid", "-w", "vpasswd", "old@a.example", input=b"two\ntwo\n").returncode == 0
    assert logs_in(home, "old@a.example", "two")


def test_a_password_that_was_kept_is_kept(home: Virtual) -> None:
    home.accounts(
        home.folder / "domains/a.example", "old:x:1:0:old:DIR/old:NOQUOTA:clear", "max:x:1:0:max:DIR/max:NOQUOTA"
    )
    for user in ("old", "max"):
        assert home.run("vpasswd", f"{user}@a.example", "other").returncode == 0
    assert [account(home, user).clear for user in ("old", "max")] == [b"other", None]
    (home.etc / "clear-passwords").write_text("\n")
    assert home.run("vpasswd", "max@a.example", "other").returncode == 0
    assert account(home, "max").clear == b"other"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["max@a.example", "x"], 255, "Error: Illegal username"),
        (["old@d.example", "x"], 245, "Error: Domain does not exist"),
        (["old@a.example", "x" * 129], 229, "Error: password too long (max=128)"),
        (["old@a.example", ""], 255, "Error: No password entered"),
        (["-r", "old@a.example", "x"], 255, "Error: don't use -r option when giving password on command line"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    home: Virtual,
    words: list[str],
    code: int,
    said: str,
) -> None:
    done = home.run("vpasswd", *words)
    assert (done.returncode, done.stdout.decode()) == (code, said + "\n")
    assert logs_in(home, "old@a.example", "secret")


def test_a_password_that_is_not_to_be_changed_stays(home: Virtual) -> None:
    assert home.run("vmoduser", "-d", "old@a.example").returncode == 0
    assert home.run("vpasswd", "old@a.example", "x").stdout == b"Error: Illegal username\n"
    assert home.run("vmoduser", "-x", "old@a.example").returncode == 0
    (home.etc / "vlimits.default").write_text("disable_password_changing\n")
    assert home.run("vpasswd", "old@a.example", "x").returncode == 255
    assert home.run("vmoduser", "-o", "old@a.example").returncode == 0
    assert home.run("vpasswd", "old@a.example", "x").returncode == 0


def test_wrong_usage_is_told(home: Virtual) -> None:
    done = home.run("vpasswd", "-q", "old@a.example")
    assert (done.returncode, done.stderr) == (255, b"vpasswd: invalid option -- 'q'\n")
    assert done.stdout.startswith(b"vpasswd: usage: [options] email_address [password]\n")


def test_a_kill_at_any_rename_leaves_the_old_password_or_the_new_one(home: Virtual) -> None:
    for when in (1, 2, 3):
        inject = ["-e", "trace=rename", "-e", f"inject=rename:signal=KILL:when={when}"]
        done = home.run(needs("strace"), "-o", "/dev/null", *inject, "vpasswd", "old@a.example", f"new{when}")
        assert logs_in(home, "old@a.example", "secret") != logs_in(home, "old@a.example", f"new{when}")
        if done.returncode == 0:
            break
        assert home.run("vmkpasswd", "a.example").returncode == 0
        assert logs_in(home, "old@a.example", "secret") or logs_in(home, "old@a.example", f"new{when}")
        assert home.run("vpasswd", "old@a.example", "secret").returncode == 0
