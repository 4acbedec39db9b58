"""home - put everything into a qmail home: `python3 tools/home.py DIR`, or `make home QMAILHOME=DIR`.

    DIR/bin                launchers, run by the Python that runs this
    DIR/lib                the package and what it depends on
    DIR/man                the manual pages
    DIR/service            services, each copied only where there is none of its name
    DIR/control DIR/users  empty, if they are new
    DIR/alias              the same: for mail to nobody else, of the account alias
    DIR/run                the same: for the sockets of services
    DIR/queue              made or checked by qmail-make-queue; for root, if the accounts exist that it belongs to

What stands in DIR/bin under one of our names and is not ours stays, and then nothing is done; FORCE=1 in the
environment replaces it. To upgrade, do the same again.
"""

import compileall
import configparser
import grp
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import launchers
import manpages

from qmailpy.registry import COMMANDS  # found by way of the two above

ROOT = Path(__file__).resolve().parent.parent
LOGGER = "qmaill"  # service/*/log/run
ALIAS = "alias"  # whose mail is that of unknown users
# Of services and queue
ACCOUNTS = {"nofiles": (ALIAS, "qmaild", LOGGER, "qmailp"), "qmail": ("qmailq", "qmailr", "qmails")}
OURS = b"from qmailpy.chain import start"  # in every launcher


def foreign(folder: Path) -> list[Path]:
    """The files in folder that have a name of ours and are no launchers."""
    files = [folder / name for name in COMMANDS]
    return [file for file in files if os.path.lexists(file) and not (file.is_file() and OURS in file.read_bytes())]


def install_launchers(folder: Path) -> None:
    """Always new files: a tcpserver that runs knows from these that its modules are no longer those on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in COMMANDS:
        launchers.write(folder / name, launchers.text(name, f"{sys.executable} -IS"))


def install_package(folder: Path) -> None:
    """The package, byte-compiled: those who run it may not write there."""
    package, new, old = folder / "qmailpy", folder / ".qmailpy.new", folder / ".qmailpy.old"
    for left in new, old:
        shutil.rmtree(left, ignore_errors=True)
    for source in (ROOT / "qmailpy").rglob("*.py"):
        target = new / source.relative_to(ROOT / "qmailpy")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    compileall.compile_dir(new, ddir=str(package), quiet=1)
    if package.exists():
        package.rename(old)
    new.rename(package)
    shutil.rmtree(old, ignore_errors=True)


def install_services(folder: Path) -> None:
    """Each appears whole, since an svscan may be looking: it passes over names that begin with a dot."""
    folder.mkdir(exist_ok=True)
    for source in (ROOT / "service").iterdir():
        new = folder / f".{source.name}.new"
        if not (folder / source.name).exists():
            shutil.rmtree(new, ignore_errors=True)
            shutil.copytree(source, new)
            run = new / "run"
            run.write_text(run.read_text().replace("/var/qmail", str(folder.parent)))
            prepare_log(new / "log" / "main")
            new.rename(folder / source.name)


def prepare_log(main: Path) -> None:
    """Where multilog writes: a service whose log does not start stops when the pipe to it is full."""
    main.mkdir(parents=True)
    give(main, LOGGER)


def prepare_alias(folder: Path) -> None:
    """Where mail to unknown users is looked after: without it such mail waits for a week before it bounces."""
    if not folder.exists():
        folder.mkdir()
        give(folder, ALIAS)


def give(folder: Path, name: str) -> None:
    """To an account, if it is there and we may; else advise says it."""
    try:
        account = pwd.getpwnam(name)
        os.chown(folder, account.pw_uid, account.pw_gid)
    except (KeyError, PermissionError):
        pass


def make_accounts(home: Path) -> list[str]:
    """The commands that make those accounts and groups that do not exist."""
    commands = []
    for group, names in ACCOUNTS.items():
        if group not in {entry.gr_name for entry in grp.getgrall()}:
            commands.append(f"groupadd -r {group}")
        for name in names:
            try:
                pwd.getpwnam(name)
            except KeyError:
                folder = home / "alias" if name == ALIAS else home
                commands.append(f"useradd -r -M -g {group} -d {folder} -s /usr/sbin/nologin {name}")
    return commands


def make_queue(home: Path) -> None:
    """By the command of this home; what it makes and mends it says."""
    done = subprocess.run([home / "bin" / "qmail-make-queue"], env={"QMAILHOME": str(home)}, check=False,
                          stdout=subprocess.PIPE, text=True)  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if not line.startswith("made ")]
    print("".join(f"{line}\n" for line in lines), end="")
    if done.returncode:
        print("home: warning: the queue is not complete, see above", file=sys.stderr)


def advise(home: Path, commands: list[str]) -> None:
    """What root has yet to do before services run."""
    chowns = [f"chown {LOGGER} {home}/service/*/log/main", f"chown {ALIAS} {home}/alias"]
    commands = [*commands, *chowns, f"QMAILHOME={home} {home}/bin/qmail-make-queue"]
    print("home: warning: services run as users of their own, and the queue belongs to one. As root:", file=sys.stderr)
    print("".join(f"    {command}\n" for command in commands), end="", file=sys.stderr)


def install_dependencies(folder: Path) -> None:
    """Those that are not there, by pip; where it cannot, one line says what to do and what goes without."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    for name in config["options"]["install_requires"].split():
        if any(folder.glob(f"{name}-*.dist-info")):
            continue
        pip = [sys.executable, "-m", "pip", "install", "--target", str(folder), name]
        if subprocess.run([*pip, "--retries", "1"], capture_output=True, check=False).returncode:
            what = f"hashes that crypt(3) does not know need {name}: {' '.join(pip)}"
            print(f"home: warning: {what}", file=sys.stderr)


def main(home: Path) -> None:
    os.umask(0o022)
    strangers = foreign(home / "bin")
    if strangers and not os.environ.get("FORCE"):
        sys.exit("\n".join(["home: fatal: not of this toolkit; FORCE=1 replaces them:", *map(str, strangers)]))
    install_launchers(home / "bin")
    (home / "lib").mkdir(exist_ok=True)
    install_package(home / "lib")
    install_dependencies(home / "lib")
    manpages.write(home / "man")
    install_services(home / "service")
    for name in "control", "run", "users":
        (home / name).mkdir(exist_ok=True)
    prepare_alias(home / ALIAS)
    commands = make_accounts(home)
    if not commands or os.getuid():
        make_queue(home)
    if commands or os.getuid():
        advise(home, commands)
    print(f"commands in {home}/bin, pages with man -M {home}/man tcpserver")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("home: usage: home.py DIR")
    try:
        main(Path(sys.argv[1]).absolute())
    except OSError as e:
        sys.exit(f"home: fatal: unable to write {e.filename}: {e.strerror}; another place: make home QMAILHOME=DIR")
