"""run - what `make run` starts: a single-user home in var/home, with one account and sample mail, and its services
under svscan: POP3 on 127.0.0.1:1110.

What is there already is kept: the account, its password and its mail. PORT in the environment is another port.
"""

import os
import pwd
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "var" / "home"
ACCOUNT = "sample"
PORT = os.environ.get("PORT", "1110")

sys.path.insert(0, str(ROOT))

from qmailpy.unix import crypt  # noqa: E402

START_S = 5  # seconds for a service to listen

# What is printed on 1 is the port.
POP3D = """\
exec 2>&1 >port
exec tcpserver -1vRHD -l 0 -x "$QMAILHOME/control/pop3.rules.cdb" 127.0.0.1 {port} \\
qmail-popup localhost checkpassword-flatfile qmail-pop3d Maildir
"""

MESSAGES = {
    "Welcome to qmailpy": "This message lies in var/home/sample/Maildir, one file for itself.\n",
    "Every link can be swapped": "tcpserver, qmail-popup, checkpassword-flatfile and qmail-pop3d know each other\n"
    "by arguments, descriptors and environment only. Replace any of them by your own.\n",
    "Dots": ".\nA line that begins with a dot comes through POP3 as it is.\n..\n",
}


def owner() -> tuple[int, int]:
    """Who reads the mail: whoever runs this; for root the owner of the checkout, or nobody, but never root."""
    if os.getuid():
        return os.getuid(), os.getgid()
    status = ROOT.stat()
    if status.st_uid:
        return status.st_uid, status.st_gid
    nobody = pwd.getpwnam("nobody")
    for folder in (ROOT, *ROOT.parents):
        if not folder.stat().st_mode & 1:
            sys.exit(f"run: fatal: as root, mail is served as the user nobody, who may not enter {folder}: "
                     "run as another user, or in another folder")  # fmt: skip
    return nobody.pw_uid, nobody.pw_gid


def write_new(path: Path, text: str, mode: int = 0o600) -> None:
    """A file that is not there yet; one that is there stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)


def make_maildir(path: Path, ids: tuple[int, int], env: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["maildirmake", path], env=env, check=True)
    for number, (subject, body) in enumerate(MESSAGES.items(), 1):
        date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())
        header = f"From: qmailpy <postmaster@localhost>\nTo: {ACCOUNT}@localhost\nSubject: {subject}\nDate: {date}\n"
        message = path / "new" / f"{int(time.time())}.M{number}.localhost"
        message.write_text(f"{header}\n{body}")
        os.utime(message, (0, time.time() - 60 + number))  # qmail-pop3d lists what is older than this second
    for folder, folders, files in os.walk(path.parent):
        for name in (folder, *(os.path.join(folder, entry) for entry in (*folders, *files))):
            os.chown(name, *ids)


def prepare(env: dict[str, str]) -> str:
    """Make what is missing in HOME; the account's password."""
    ids = owner()
    write_new(HOME / "password", secrets.token_urlsafe(12) + "\n")
    password = (HOME / "password").read_text().strip()
    hashed = crypt.make(bytearray(password.encode())).decode()
    line = f"{ACCOUNT}:{hashed}:{ids[0]}:{ids[1]}:sample account:../{ACCOUNT}:/bin/sh\n"
    write_new(HOME / "users" / "flatfile", line)
    if not (HOME / ACCOUNT).exists():
        make_maildir(HOME / ACCOUNT / "Maildir", ids, env)
    write_new(HOME / "control" / "pop3.rules", "127.0.0.1:allow\n:deny\n", 0o644)
    rules = HOME / "control" / "pop3.rules"
    with rules.open() as text:
        subprocess.run(["tcprules", f"{rules}.cdb", f"{rules}.tmp"], stdin=text, env=env, check=True)
    return password


def write_service(name: str, text: str) -> None:
    """The run script of a service, always a new file: the shell may be reading the old one."""
    folder = HOME / "service" / name
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / ".run.new"
    new.write_text(f"#!/bin/sh\n{text}")
    new.chmod(0o755)
    new.replace(folder / "run")


def port_of(name: str, svscan: "subprocess.Popen[bytes]") -> str:
    """The port that a service listens on; "" if it does not."""
    file = HOME / "service" / name / "port"
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and svscan.poll() is None:
        if file.exists() and (port := file.read_text().strip()):
            return port
        time.sleep(0.02)
    return ""


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    path = f"{ROOT / 'bin'}:{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"
    env = {**os.environ, "PATH": path, "QMAILHOME": str(HOME)}
    password = prepare(env)
    write_service("pop3d", POP3D.format(port=PORT))
    (HOME / "service" / "pop3d" / "port").unlink(missing_ok=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    # A session of its own: an interrupt on the terminal comes here alone, and svscan hears of it once.
    svscan = subprocess.Popen(
        ["svscan", "-v", HOME / "service"], stdin=subprocess.DEVNULL, env=env, start_new_session=True
    )
    try:
        port = port_of("pop3d", svscan)
        if port:
            line = f"curl -u {ACCOUNT}:{password} pop3://127.0.0.1:{port}/1"
            print(f"Read the mail with\n    {line}\nCtrl-C stops the services.\n", end="", flush=True)
            return svscan.wait()
        print(f"run: no POP3 on port {PORT}, see above; another one: PORT=2110 make run", file=sys.stderr)
        svscan.terminate()
        svscan.wait()
        return 111
    except KeyboardInterrupt:
        svscan.terminate()
        svscan.wait()
        print("\nstopped")
        return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as e:
        advice = "if another user made it, remove var/home"
        sys.exit(f"run: fatal: unable to use {e.filename}: {e.strerror}; {advice}")
