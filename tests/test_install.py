"""What pip installs, and what `make home` does. Nothing is fetched: pip has no index here."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from qmailpy.registry import COMMANDS
from tests.accounts import NAMESPACE
from tests.helpers import BIN, ROOT, environment, needs, run

OFFLINE = environment(PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull, PIP_DISABLE_PIP_VERSION_CHECK="1")
PAGES = {f"man{command.section}/{name}.{command.section}" for name, command in COMMANDS.items()}
GENERATED = shutil.ignore_patterns(
    ".git", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "man", "var"
)

# Stands for libpass: every password is right.
PASSLIB = {
    "passlib/__init__.py": "",
    "passlib/hash.py": "class ldap_sha1:\n    verify = staticmethod(lambda password, stored: True)\n",
    "libpass-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: libpass\nVersion: 1.0\n",
    "libpass-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "libpass-1.0.dist-info/RECORD": "",
}


def succeed(*argv: str | Path, cwd: Path | None = None, **changes: str) -> "subprocess.CompletedProcess[bytes]":
    result = run(argv, env={**OFFLINE, **changes}, cwd=cwd, timeout=120)
    assert result.returncode == 0, (result.stdout + result.stderr).decode()
    return result


def wheel_of(source: Path, folder: Path) -> Path:
    succeed(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, to build in."""
    folder = tmp_path_factory.mktemp("source") / "qmailpy"
    shutil.copytree(ROOT, folder, ignore=GENERATED)
    return folder


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of(tree, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def prefix(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing else in it."""
    folder = tmp_path_factory.mktemp("environment")
    succeed(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python3"
    succeed(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel)
    return folder


def test_the_launchers_arrive_as_they_are(prefix: Path) -> None:
    for name in COMMANDS:
        installed = prefix / "bin" / name
        assert installed.read_bytes() == (BIN / name).read_bytes()
        assert os.access(installed, os.X_OK)


def test_every_command_has_its_manual_page(prefix: Path) -> None:
    manual = prefix / "share" / "man"
    assert {str(page.relative_to(manual)) for page in manual.rglob("*.[1-9]")} == PAGES


def test_commands_run_in_their_environment_whatever_python_is_told(prefix: Path) -> None:
    env = {"PATH": f"{prefix}/bin:/usr/bin:/bin", "PYTHONHOME": "/nowhere", "PYTHONVERBOSE": "1"}
    result = run(["argv0", "argv0", "another", "echo", "x", "hello"], env=env)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"hello\n", b"")


def test_commands_run_by_their_path_for_one_who_knows_nothing_of_the_environment(prefix: Path) -> None:
    env = {"PATH": f"{Path(needs('python3')).parent}:/usr/bin:/bin"}
    result = run([prefix / "bin" / "argv0", "env", "x"], env=env)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == b"PATH=" + env["PATH"].encode() + b"\n"


def lonely(folder: Path) -> Path:
    """A launcher copied away from its package."""
    (folder / "bin").mkdir()
    return Path(shutil.copy(BIN / "argv0", folder / "bin"))


def test_a_launcher_for_another_python_hands_over_to_the_one_beside_it(tmp_path: Path) -> None:
    launcher = lonely(tmp_path)
    launcher.with_name("python3").write_text('#!/bin/sh\necho "$@" "${LC_CTYPE-unset}"\n')
    launcher.with_name("python3").chmod(0o755)
    result = run([launcher, "a b", "c"], env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"})
    assert result.stdout == b"-IS %s a b c unset\n" % bytes(launcher), result.stderr


@pytest.mark.parametrize("left", ["", "from nowhere import x\n", "def start(\n"], ids=["no start", "no module", "half"])
def test_a_launcher_of_half_a_package_says_so_and_means_later(tmp_path: Path, left: str) -> None:
    launcher = lonely(tmp_path)
    package = launcher.parent.parent / "qmailpy"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "chain.py").write_text(left)
    result = run([launcher])
    said = b"argv0: fatal: unable to load the package qmailpy: not whole, is it being upgraded?\n"
    assert (result.returncode, result.stderr) == (111, said)


@pytest.mark.parametrize("beside", [False, True], ids=["no Python", "a Python"])
def test_a_launcher_without_a_package_says_so_once(tmp_path: Path, beside: bool) -> None:
    launcher = lonely(tmp_path)
    if beside:
        launcher.with_name("python3").symlink_to(sys.executable)
    result = run([launcher])
    assert result.returncode == 111
    assert result.stderr.startswith(b"qmailpy: fatal: no package qmailpy for ")
    assert result.stderr.count(b"\n") == 1


def test_a_source_distribution_builds_the_same_wheel(tree: Path, wheel: Path, tmp_path: Path) -> None:
    build = "import sys; sys.path.insert(0, 'tools'); import backend; backend.build_sdist(sys.argv[1])"
    succeed(sys.executable, "-c", build, tmp_path, cwd=tree)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        names = {name.partition("/")[2] for name in sources.getnames()}
    assert {"LICENSE", "README.md", "CHANGES.md", "Makefile", "tools/home.py", "tests/test_install.py"} <= names
    assert not {name for name in names if name.startswith(("man", "build", "var"))}
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(wheel_of(archive, tmp_path)) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


def install(home: Path, **changes: str) -> "subprocess.CompletedProcess[bytes]":
    return run([sys.executable, ROOT / "tools" / "home.py", home], env={**OFFLINE, **changes}, timeout=120)


def without_advice(said: bytes) -> list[str]:
    """Lines of descriptor 2, without what is left to root: this machine may have no accounts for mail."""
    lines = iter(said.decode().splitlines())
    kept = []
    for line in lines:
        if line.startswith("home: warning: services run as users of their own"):
            assert any("qmail-make-queue" in command for command in iter(lambda: next(lines), None))
        else:
            kept.append(line)
    return kept


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A qmail home in which something stood already, with the toolkit installed twice."""
    folder, links = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("links")
    with zipfile.ZipFile(links / "libpass-1.0-py3-none-any.whl", "w") as package:
        for name, text in PASSLIB.items():
            package.writestr(name, text)
    for path in "bin/qmail-todo", "man/man8/qmail-todo.8", "service/pop3d/run", "users/assign":
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text("mine")
    inodes = set()
    for _ in range(2):
        result = install(folder, PIP_FIND_LINKS=str(links))
        assert (result.returncode, without_advice(result.stderr)) == (0, [])
        inodes.add((folder / "bin" / "tcpserver").stat().st_ino)
    assert len(inodes) == 2  # so that a tcpserver which runs meanwhile notices
    return folder


def test_a_home_has_launchers_for_the_python_that_installed_them(home: Path) -> None:
    for name in COMMANDS:
        first, _, rest = (home / "bin" / name).read_text().partition("\n")
        assert first == f"#!{sys.executable} -IS"
        assert rest == (BIN / name).read_text().partition("\n")[2]


def test_commands_of_a_home_run_by_their_path_without_any(home: Path) -> None:
    result = run([home / "bin" / "argv0", "/usr/bin/env", "x"], env={})
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_what_stood_in_a_home_stays(home: Path) -> None:
    for path in "bin/qmail-todo", "man/man8/qmail-todo.8", "service/pop3d/run", "users/assign":
        assert (home / path).read_text() == "mine"


def test_a_home_has_all_pages_folders_and_services(home: Path) -> None:
    assert {str(page.relative_to(home / "man")) for page in (home / "man").rglob("*.[1-9]")} >= PAGES
    found = {folder.name for folder in home.iterdir()}
    assert found - {"queue"} == {"alias", "bin", "control", "lib", "man", "run", "service", "users"}
    assert {folder.name for folder in (home / "service").iterdir()} == {
        path.name for path in (ROOT / "service").iterdir()
    }


def test_the_package_of_a_home_is_compiled_and_nothing_is_left_beside_it(home: Path) -> None:
    modules = list((home / "lib" / "qmailpy").rglob("*.py"))
    assert len(modules) == len(list((ROOT / "qmailpy").rglob("*.py")))
    assert all(Path(importlib.util.cache_from_source(str(module))).exists() for module in modules)
    assert {path.name for path in (home / "lib").iterdir()} == {"qmailpy", "passlib", "libpass-1.0.dist-info"}


def test_hashes_are_checked_by_the_libpass_of_the_home(home: Path) -> None:
    check = (
        f"import sys; sys.path.append({str(home / 'lib')!r})\n"
        "from qmailpy.stores.accounts import schemes\n"
        "print(schemes.matches(b'{SHA}stands for any', bytearray(b'x'), b''))"
    )
    assert succeed(sys.executable, "-IS", "-c", check).stdout == b"True\n"


def test_without_an_index_one_line_says_how_to_install_libpass(tmp_path: Path) -> None:
    result = install(tmp_path / "new")
    (said,) = (line for line in result.stderr.splitlines() if b"libpass" in line)
    assert result.returncode == 0
    assert said.startswith(b"home: warning: hashes that crypt(3) does not know need libpass: ")
    assert b"pip install --target %s/new/lib libpass" % bytes(tmp_path) in said
    assert (tmp_path / "new" / "service" / "pop3d" / "run").stat().st_mode & 0o777 == 0o755


def test_programs_of_somebody_else_are_replaced_only_by_force(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tcpserver").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "recordio").symlink_to("/nowhere")
    result = install(tmp_path)
    assert result.returncode != 0
    assert result.stderr.decode().split("\n")[1:-1] == [f"{tmp_path}/bin/recordio", f"{tmp_path}/bin/tcpserver"]
    assert sorted(os.listdir(tmp_path)) == ["bin"]
    assert sorted(os.listdir(tmp_path / "bin")) == ["recordio", "tcpserver"]
    assert install(tmp_path, FORCE="1").returncode == 0
    assert not (tmp_path / "bin" / "recordio").is_symlink()
    assert (tmp_path / "bin" / "tcpserver").read_text().startswith(f"#!{sys.executable} -IS\n")


def test_a_home_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = install(tmp_path / "file")
    assert result.returncode != 0
    said = b"home: fatal: unable to write %s/file/bin: Not a directory; another place: make home QMAILHOME=DIR\n"
    assert result.stderr == said % bytes(tmp_path)


def account_files(folder: Path, *accounts: str) -> list[str]:
    """A prefix that runs a command, as root, where there are these accounts besides those of the system."""
    if os.geteuid() or run(["unshare", "-m", "true"]).returncode:
        pytest.skip("needs root, and unshare -m")
    for name in "passwd", "group", "shadow":
        shutil.copy2(f"/etc/{name}", folder / name)
    with open(folder / "passwd", "a") as passwd, open(folder / "group", "a") as group:
        for number, account in enumerate(accounts, 603):
            passwd.write(f"{account}:x:{number}:601::/:/bin/false\n")
        group.write("nofiles:x:601:\n")
    return ["unshare", "-m", "sh", "-c", NAMESPACE, str(folder)]


def test_root_is_told_once_what_is_missing_and_the_commands_make_it(tmp_path: Path) -> None:
    prefix = account_files(tmp_path, "qmaild", "alias")
    new = tmp_path / "new"
    result = run([*prefix, sys.executable, ROOT / "tools" / "home.py", new], env=OFFLINE, timeout=120)
    lines = result.stderr.decode().splitlines()
    start = lines.index("home: warning: services run as users of their own, and the queue belongs to one. As root:")
    assert [line.strip() for line in lines[start + 1 :]] == [
        *(f"useradd -r -M -g nofiles -d {new} -s /usr/sbin/nologin {name}" for name in ("qmaill", "qmailp")),
        "groupadd -r qmail",
        *(f"useradd -r -M -g qmail -d {new} -s /usr/sbin/nologin {name}" for name in ("qmailq", "qmailr", "qmails")),
        f"chown qmaill {new}/service/*/log/main",
        f"chown alias {new}/alias",
        f"QMAILHOME={new} {new}/bin/qmail-make-queue",
    ]
    assert not (new / "queue").exists()
    # The file of passwd is a mount, which useradd cannot replace: what it would have written.
    with open(tmp_path / "passwd", "a") as passwd, open(tmp_path / "group", "a") as group:
        for number, name in enumerate(("qmaill", "qmailq", "qmailr", "qmails", "qmailp"), 610):
            passwd.write(f"{name}:x:{number}:{601 if name in ('qmaill', 'qmailp') else 602}::/:/bin/false\n")
        group.write("qmail:x:602:\n")
    for command in lines[-3:]:
        assert run([*prefix, "sh", "-c", command], env=OFFLINE).returncode == 0
    assert {main.stat().st_uid for main in new.glob("service/*/log/main")} == {610}
    assert (new / "alias").stat().st_uid == 604
    assert ((new / "queue" / "mess").stat().st_uid, (new / "queue" / "mess").stat().st_gid) == (611, 602)
    again = run([*prefix, sys.executable, ROOT / "tools" / "home.py", new], env=OFFLINE, timeout=120)
    assert [line for line in again.stderr.decode().splitlines() if "libpass" not in line] == []
