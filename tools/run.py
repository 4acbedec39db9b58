"""run - what `make run` starts: a mail system of one user in var/home, with a virtual domain, one account in it, sample
mail and a queue, and its services under svscan: POP3 on 127.0.0.1:1110, POP3S on 1995, SMTP on 1025, submission on
1587, and deliveries. All offer TLS, with a certificate for localhost that is made at the first start.

What is there already is kept: the account, its password, its mail, the queue and the control files. PORT, PORT_POP3S,
PORT_SMTP and PORT_SUBMISSION in the environment are other ports. SMARTHOST is where mail to others goes, HOST:PORT or
HOST, or HOST:PORT|USER|PASSWORD; it is kept in control/smtproutes. Without that file such mail waits in the queue.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "var" / "home"
ACCOUNT = "sample"
DOMAIN = "mail.localhost"  # a domain has a dot; localhost is another name of it
ALIAS = "localhost"
VHOME = HOME / "vpopmail"
CERTIFICATE = HOME / "localhost.crt"

sys.path.insert(0, str(ROOT))

from qmailpy.unix.ids import Acting  # noqa: E402

START_S = 5  # seconds for a service to listen

# In place of qmail-remote where there is no smart host: nothing leaves this machine by accident.
HOLD = """\
#!/bin/sh
printf 'ZHeld: no smart host is set. SMARTHOST=HOST make run, or one in %s (#4.4.0)\\n\\0' \\
    "$QMAILHOME/control/smtproutes"
"""

# What is printed on 1 is the port.
SCRIPT = """\
#!/bin/sh
exec 2>&1 >port
cd "$QMAILHOME/control"
{setting}exec tcpserver -1vRHD -l localhost {options} {tls}-n cert.pem -x loopback.rules.cdb 127.0.0.1 {port} \\
{chain}
"""
DELIVERIES = """\
#!/bin/sh
exec 2>&1
[ -e "$QMAILHOME/control/smtproutes" ] || export QMAILREMOTE="$QMAILHOME/hold"
exec {become}qmail-start ./Maildir/
"""
SEND = "qmail-send"


class Service(NamedTuple):
    protocol: str
    variable: str  # its port in the environment
    port: str
    another: str  # a port for the advice
    chain: str
    setting: str = ""
    tls: str = ""


SERVICES = {
    "pop3d": Service("POP3", "PORT", "1110", "2110",
                     "qmail-popup localhost vchkpw qmail-pop3d Maildir"),
    "pop3sd": Service("POP3S", "PORT_POP3S", "1995", "2995",
                      "qmail-popup localhost vchkpw qmail-pop3d Maildir", tls="-s "),
    "smtpd": Service("SMTP", "PORT_SMTP", "1025", "2025", "qmail-smtpd"),
    "submission": Service("submission", "PORT_SUBMISSION", "1587", "2587",
                          "qmail-smtpd localhost vchkpw true", "export SMTPAUTH=!\n"),
}  # fmt: skip

READY = """\
Read the mail with
    curl -u {account}@localhost:{password} pop3://127.0.0.1:{pop3d}/1
    curl -u {account}@localhost:{password} --cacert {certificate} pop3s://localhost:{pop3sd}/1
TLS is offered on all ports. A mail program asks whether to trust this certificate:
    {bin}/mkcert -c {home}/control/cert.pem
Send some to {account}@localhost, or with the password to anybody, with
    {mail} |
    curl -sS --mail-from me@localhost --mail-rcpt {account}@localhost -T - smtp://127.0.0.1:{smtpd}
    {mail} |
    curl -sS --mail-from me@localhost --mail-rcpt max@example.org -T - smtp://127.0.0.1:{submission} \\
        -u {account}@localhost:{password}
{others}
What is in the queue, and why:
    QMAILHOME={home} {bin}/qmail-queuectl list
Ctrl-C stops the services.
"""
HELD = "Mail to others waits in the queue: no smart host is set. With one: SMARTHOST=HOST:PORT make run"
SENT = "Mail to others goes where {file} says."
MAIL = r"printf 'Subject: hello\r\n\r\nHello.\r\n'"

MESSAGES = {
    "Welcome to qmailpy": "This message is a file of its own, in the folder\n"
    "var/home/vpopmail/domains/mail.localhost/sample/Maildir.\n",
    "Every link can be swapped": "tcpserver, qmail-popup, vchkpw and qmail-pop3d know each other by arguments,\n"
    "descriptors and environment only. Replace any of them by your own.\n",
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


def replace(path: Path, text: str, mode: int, ids: tuple[int, int]) -> None:
    """A file that this program alone writes."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    write_new(new, text, mode)
    os.chown(new, *ids)
    new.replace(path)


def write_messages(new: Path) -> None:
    for number, (subject, body) in enumerate(MESSAGES.items(), 1):
        date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())
        header = f"From: qmailpy <postmaster@localhost>\nTo: {ACCOUNT}@localhost\nSubject: {subject}\nDate: {date}\n"
        message = new / f"{int(time.time())}.M{number}.localhost"
        write_new(message, f"{header}\n{body}")
        os.utime(message, (0, time.time() - 60 + number))  # qmail-pop3d lists what is older than this second


def said(env: dict[str, str], *argv: str) -> str:
    """What a command prints; "" if it fails."""
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    return "" if done.returncode else done.stdout.strip()


def make_domain(password: str, ids: tuple[int, int], env: dict[str, str]) -> None:
    """The virtual domain with its other name, and the account, whose also postmaster's mail is. Below VHOME nothing is
    done as root, who would follow what its owner may have put there."""
    VHOME.mkdir(exist_ok=True)
    VHOME.chmod(0o755)
    os.chown(VHOME, *ids)
    with Acting(*ids):
        write_new(VHOME / "etc" / "defaultdomain", f"{DOMAIN}\n", 0o644)
    shown = said(env, "vdominfo", "-d", DOMAIN)
    if shown:
        follow(shown.splitlines()[0], ids, env)  # below it are other names
    else:
        for name in "assign", "cdb":  # of a home whose account was in no domain
            (HOME / "users" / name).unlink(missing_ok=True)
        whose = ["-i", str(ids[0]), "-g", str(ids[1])]
        subprocess.run(["vadddomain", "-r", *whose, DOMAIN], env=env, check=True, stdout=subprocess.DEVNULL)
    if not said(env, "vdominfo", "-d", ALIAS):
        subprocess.run(["vaddaliasdomain", DOMAIN, ALIAS], env=env, check=True)
    if not said(env, "valias", f"postmaster@{DOMAIN}"):
        subprocess.run(["valias", "-i", f"&{ACCOUNT}@{ALIAS}", f"postmaster@{DOMAIN}"], env=env, check=True)
    maildir, former = VHOME / "domains" / DOMAIN / ACCOUNT / "Maildir", HOME / ACCOUNT / "Maildir"
    if not said(env, "vuserinfo", "-n", f"{ACCOUNT}@{DOMAIN}"):
        words = ["vadduser", f"{ACCOUNT}@{DOMAIN}", "-"]
        subprocess.run(words, env=env, check=True, input=f"{password}\n", text=True)
        if not former.exists():
            with Acting(*ids):
                write_messages(maildir / "new")
    if former.exists():  # and nothing has been delivered to the other one yet
        with Acting(*ids):
            shutil.rmtree(maildir, ignore_errors=True)
            former.rename(maildir)


def follow(folder: str, ids: tuple[int, int], env: dict[str, str]) -> None:
    """Have the files know where the domain is, if the checkout has been moved."""
    now = VHOME / "domains" / DOMAIN
    if folder == str(now):
        return
    assign, vpasswd = HOME / "users" / "assign", now / "vpasswd"
    with Acting(*ids):
        replace(vpasswd, vpasswd.read_text().replace(folder, str(now)), 0o600, ids)
    replace(assign, assign.read_text().replace(folder, str(now)), 0o644, (os.getuid(), os.getgid()))
    subprocess.run(["qmail-newu"], env=env, check=True)
    subprocess.run(["vmkpasswd", DOMAIN], env=env, check=True)


def prepare(env: dict[str, str]) -> str:
    """Make what is missing in HOME; the account's password."""
    ids = owner()
    write_new(HOME / "password", secrets.token_urlsafe(12) + "\n")
    password = (HOME / "password").read_text().strip()
    for name in "me", "rcpthosts", "locals":
        write_new(HOME / "control" / name, "localhost\n", 0o644)
    write_new(HOME / "control" / "rcptcheck", "vchkrcpt\n", 0o644)
    if os.environ.get("SMARTHOST"):
        replace(HOME / "control" / "smtproutes", f":{os.environ['SMARTHOST']}\n", 0o600, ids)
    replace(HOME / "hold", HOLD, 0o755, ids)
    (HOME / "users").mkdir(exist_ok=True)
    make_domain(password, ids, env)
    write_new(HOME / "control" / "loopback.rules", "127.0.0.1:allow\n:deny\n", 0o644)
    rules = HOME / "control" / "loopback.rules"
    with rules.open() as text:
        subprocess.run(["tcprules", f"{rules}.cdb", f"{rules}.tmp"], stdin=text, env=env, check=True)
    make_queue(ids, env)
    make_certificate(env)
    return password


def make_certificate(env: dict[str, str]) -> None:
    """For localhost, once; and a copy without the key, for those who are to trust it."""
    file = HOME / "control" / "cert.pem"
    if not file.exists():
        argv = ["mkcert", str(file), "localhost", "127.0.0.1", "::1"]
        subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)
    text = file.read_text()
    begin, end = text.index("-----BEGIN CERTIFICATE"), text.index("-----END CERTIFICATE-----\n")
    replace(CERTIFICATE, text[begin:end] + "-----END CERTIFICATE-----\n", 0o644, (os.getuid(), os.getgid()))


def make_queue(ids: tuple[int, int], env: dict[str, str]) -> None:
    """That of the user who serves SMTP: nobody else is needed to write to it."""
    if os.getuid():
        subprocess.run(["qmail-make-queue"], env=env, check=True, stdout=subprocess.DEVNULL)
        return
    (HOME / "queue").mkdir(exist_ok=True)
    os.chown(HOME / "queue", *ids)
    subprocess.run(["qmail-make-queue"], env=env, check=True, stdout=subprocess.DEVNULL,
                   user=ids[0], group=ids[1], extra_groups=[])  # fmt: skip


def write_service(name: str) -> None:
    """What a server on a port runs."""
    service = SERVICES[name]
    # POP3 needs root to become the account; SMTP needs nobody but the queue's owner.
    options = "" if os.getuid() or name in ("pop3d", "pop3sd") else "-u {} -g {}".format(*owner())
    port = os.environ.get(service.variable, service.port)
    write_run(
        name, SCRIPT.format(options=options, port=port, chain=service.chain, setting=service.setting, tls=service.tls)
    )
    (HOME / "service" / name / "port").unlink(missing_ok=True)


def write_run(name: str, text: str) -> None:
    """The run script of a service, always a new file: the shell may be reading the old one."""
    folder = HOME / "service" / name
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / "run", text, 0o755, (os.getuid(), os.getgid()))


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
    # What vchkpw says is to be seen here, not in the system's log.
    homes = {"QMAILHOME": str(HOME), "VPOPMAILHOME": str(VHOME), "VPOPMAIL_SYSLOG": "-"}
    env = {**os.environ, "PATH": path, **homes}
    password = prepare(env)
    for name in SERVICES:
        write_service(name)
    become = "" if os.getuid() else f"setuidgid {pwd.getpwuid(owner()[0]).pw_name} "
    write_run(SEND, DELIVERIES.format(become=become))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    # A session of its own: an interrupt on the terminal comes here alone, and svscan hears of it once.
    svscan = subprocess.Popen(
        ["svscan", "-v", HOME / "service"], stdin=subprocess.DEVNULL, env=env, start_new_session=True
    )
    try:
        ports = {name: port_of(name, svscan) for name in SERVICES}
        if all(ports.values()):
            routes = HOME / "control" / "smtproutes"
            others = SENT.format(file=routes) if routes.exists() else HELD
            places = {"home": HOME, "bin": ROOT / "bin", "mail": MAIL, "others": others, "certificate": CERTIFICATE}
            print(READY.format(account=ACCOUNT, password=password, **places, **ports), end="", flush=True)
            return svscan.wait()
        for name in (name for name, port in ports.items() if not port):
            protocol, variable, port, another = SERVICES[name][:4]
            said = f"no {protocol} on port {os.environ.get(variable, port)}"
            print(f"run: {said}, see above; another one: {variable}={another} make run", file=sys.stderr)
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
