"""controls: the files of the mail system, line by line, as vpopmail's programs leave them."""

import fcntl
import os
from pathlib import Path

import pytest

from qmailpy.formats import assign, cdb
from qmailpy.stores import control
from qmailpy.stores.vpopmail.controls import Controls
from qmailpy.unix import recordlocks

LINE = b"+%s-:%s:89:89:/d/%s:-::"


class Home:
    def __init__(self, path: Path) -> None:
        self.path = path
        for name in "users", "control":
            (path / name).mkdir()
        self.controls = Controls(bytes(path))

    def put(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def text(self, name: str) -> str | None:
        file = self.path / name
        return file.read_text() if file.exists() else None


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def line(name: bytes) -> bytes:
    return LINE % (name, name, name)


def test_a_domain_is_assigned_in_the_text_and_in_the_cdb(home: Home) -> None:
    home.put("users/assign", "=joe:joe:503:78:/home/joe:::\n+z.example-:z.example:1:1:/z:-::\n.\n")
    for _ in range(2):
        home.controls.assign(b"a.example", line(b"a.example"))
    text = home.text("users/assign")
    assert text == (
        "+a.example-:a.example:89:89:/d/a.example:-::\n=joe:joe:503:78:/home/joe:::\n"
        "+z.example-:z.example:1:1:/z:-::\n.\n"
    )
    assert (home.path / "users/cdb").read_bytes() == b"".join(cdb.make(assign.records(text.encode())))
    assert (home.path / "users/assign").stat().st_mode & 0o777 == 0o644
    home.controls.unassign([b"a.example", b"b.example"])
    text = home.text("users/assign")
    assert text == "=joe:joe:503:78:/home/joe:::\n+z.example-:z.example:1:1:/z:-::\n.\n"
    assert (home.path / "users/cdb").read_bytes() == b"".join(cdb.make(assign.records(text.encode())))


def test_a_domain_has_one_line_in_users_assign(home: Home) -> None:
    home.put("users/assign", "+a.example-:old.example:89:89:/d/old:-::\n.\n")
    home.controls.assign(b"a.example", line(b"a.example"))
    assert home.text("users/assign") == "+a.example-:a.example:89:89:/d/a.example:-::\n.\n"


def test_lines_out_of_order_are_sorted_with_a_notice(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    home.put("control/virtualdomains", "z.example:z\nb.example:b\n")
    home.controls.virtual(b"m.example")
    assert home.text("control/virtualdomains") == "b.example:b\nm.example:m.example\nz.example:z\n"
    notice = f"NOTICE: Out of order entries found in {home.path}/control/virtualdomains\n   Sorting...\n\n"
    assert capfd.readouterr().err == notice


def test_a_bad_line_of_users_assign_is_an_error(home: Home) -> None:
    home.put("users/assign", "nonsense\n.\n")
    with pytest.raises(OSError):
        home.controls.assign(b"a.example", line(b"a.example"))


def test_a_virtual_domain_is_not_local(home: Home) -> None:
    home.put("control/locals", "localhost\nA.example \n")
    home.controls.virtual(b"a.example")
    assert home.text("control/locals") == "localhost\n"
    assert home.text("control/virtualdomains") == "a.example:a.example\n"
    home.controls.not_virtual([b"a.example"])
    assert home.text("control/virtualdomains") == ""


def test_locals_is_made_only_where_its_absence_stands_for_the_domain(home: Home) -> None:
    home.put("control/me", "a.example\n")
    home.controls.virtual(b"b.example")
    assert home.text("control/locals") is None
    home.controls.virtual(b"a.example")
    assert home.text("control/locals") == ""


def test_after_fifty_lines_domains_go_to_morercpthosts(home: Home) -> None:
    home.put("control/rcpthosts", "".join(f"d{number:02}.example\n" for number in range(49)))
    home.controls.accept(b"x1.example")
    assert (home.text("control/rcpthosts") or "").endswith("d48.example\nx1.example\n")
    assert home.text("control/morercpthosts") is None
    for name in b"x2.example", b"X3.example".lower(), b"x2.example", b"x1.example":
        home.controls.accept(name)
    assert (home.text("control/rcpthosts") or "").count("\n") == 50
    assert home.text("control/morercpthosts") == "x2.example\nx3.example\n"
    home.controls.compile_morercpthosts()
    hosts = control.Control(bytes(home.path)).lines(b"morercpthosts") or []
    assert (home.path / "control/morercpthosts.cdb").read_bytes() == b"".join(cdb.make((each, b"") for each in hosts))
    home.controls.refuse([b"x1.example", b"x2.example"])
    assert (home.text("control/rcpthosts") or "").count("\n") == 49
    assert home.text("control/morercpthosts") == "x3.example\n"
    home.controls.refuse([b"x3.example"])
    assert home.text("control/morercpthosts") is home.text("control/morercpthosts.cdb") is None


def test_an_empty_rcpthosts_stays_there(home: Home) -> None:
    """Without it mail is taken for any domain."""
    home.controls.accept(b"a.example")
    home.controls.refuse([b"a.example"])
    assert home.text("control/rcpthosts") == ""
    home.controls.compile_morercpthosts()
    assert home.text("control/morercpthosts.cdb") is None


def test_files_are_changed_under_the_originals_lock(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordlocks.acquire, "__defaults__", (0o600, 1))
    held, hold = os.pipe()
    ended, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end)
        fcntl.lockf(os.open(home.path / "control/virtualdomains.lock", os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
        os.write(hold, b".")
        os.read(ended, 1)
        os._exit(0)
    assert os.read(held, 1) == b"."
    with pytest.raises(recordlocks.Busy):
        home.controls.virtual(b"a.example")
    os.close(end)
    os.waitpid(pid, 0)
    home.controls.virtual(b"a.example")
    for fd in held, hold, ended:
        os.close(fd)
