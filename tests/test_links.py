"""Every link of the POP3 chain beside every other: ours, the originals', and scripts that know nothing but the
interface between two of them."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.accounts import GID, UID, SystemAccounts, system_accounts
from tests.helpers import BIN, PYTHON, environment, needs
from tests.servers import MESSAGES, NAME, OURS, PASSWORD, Home, Server, home, reachable_python, serve

__all__ = ["system_accounts"]

ROOT = os.geteuid() == 0

# Four scripts. None of them is more than the interface asks for.

TCPSERVER = """
import os, socket, sys
words = [word for word in sys.argv[1:] if not word.startswith("-")]
server = socket.create_server((words[0], int(words[1])))
print(server.getsockname()[1], flush=True)
while True:
    connection, address = server.accept()
    if os.fork() == 0:
        os.dup2(connection.fileno(), 0)
        os.dup2(connection.fileno(), 1)
        os.execvpe(words[2], words[2:], {**os.environ, "PROTO": "TCP", "TCPREMOTEIP": address[0]})
    connection.close()
    os.wait()
"""

POPUP = """
import os, sys
def line():
    text = b""
    while not text.endswith(b"\\n"):
        text += os.read(0, 1) or sys.exit(1)
    return text.strip().partition(b" ")[2]
os.write(1, b"+OK <1.2@host.example>\\r\\n")
name = line()
os.write(1, b"+OK \\r\\n")
reading, writing = os.pipe()
os.write(writing, name + b"\\0" + line() + b"\\0<1.2@host.example>\\0")
os.close(writing)
pid = os.fork()
if pid == 0:
    if reading != 3:
        os.dup2(reading, 3)
    os.set_inheritable(3, True)
    os.execvp(sys.argv[2], sys.argv[2:])
os.close(reading)
if os.waitpid(pid, 0)[1]:
    os.write(1, b"-ERR authorization failed\\r\\n")
sys.exit(1)
"""

CHECKER = """#!/bin/sh
packet=$(tr '\\0' '\\n' <&3)
[ "${{packet%<*}}" = "{name}
{password}
" ] || exit 1
exec 3<&-
USER={name} HOME={home}
export USER HOME
cd "$HOME" || exit 111
exec {become} "$@"
"""

POP3D = """#!/bin/sh
printf '+OK \\r\\n'
while read -r verb rest; do
    case $verb in
    stat*)
        octets=$(find "$1" -type f -exec cat {} + | wc -c)
        printf '+OK %s %s\\r\\n' "$(find "$1" -type f | wc -l)" "$octets" ;;
    *) printf '+OK \\r\\n'; exit 0 ;;
    esac
done
"""


def script(path: Path, text: str) -> Path:
    """An executable file that others may read; Python where it names no other interpreter."""
    path.write_text(text if text.startswith("#!") else f"#!{PYTHON} -IS\n{text}")
    path.chmod(0o755)
    return path


class Links:
    """The programs that may stand at each place of the chain: place -> kind -> program."""

    def __init__(self, at: Home) -> None:
        self.home = at
        become = f"setpriv --reuid={os.stat(at.home).st_uid} --regid={os.stat(at.home).st_gid} --clear-groups"
        checker = CHECKER.format(name=NAME, password=PASSWORD, home=at.home, become=become if ROOT else "")
        self.programs: dict[str, dict[str, str | Path]] = {
            "tcpserver": {"ours": OURS, "script": script(at.folder / "tcpserver", TCPSERVER)},
            "popup": {"ours": BIN / "qmail-popup", "script": script(at.folder / "popup", POPUP)},
            "checker": {
                "ours": BIN / "checkpassword",
                "flatfile": BIN / "checkpassword-flatfile",
                "script": script(at.folder / "checker", checker),
            },
            "pop3d": {"ours": BIN / "qmail-pop3d", "script": script(at.folder / "pop3d", POP3D)},
        }

    def program(self, place: str, kind: str) -> str | Path:
        if kind != "original":
            return self.programs[place][kind]
        if place == "tcpserver":
            return needs("tcpserver")
        if place == "checker":
            return os.environ["CHECKPASSWORD"]
        return Path(os.environ["QMAIL_BIN"]) / f"qmail-{place}"


@pytest.fixture(scope="module")
def links() -> Iterator[Links]:
    with home() as at:
        at.deliver(*MESSAGES)
        yield Links(at)


# The kinds for each place. C programs of qmail stand here where these variables name them: they are no Debian package.
KINDS = {
    "tcpserver": ["ours", "original", "script"],
    "popup": ["ours", "script"] + ["original"] * ("QMAIL_BIN" in os.environ),
    "checker": ["flatfile", "script", "ours"] + ["original"] * ("CHECKPASSWORD" in os.environ),
    "pop3d": ["ours", "script"] + ["original"] * ("QMAIL_BIN" in os.environ),
}
SYSTEM = ("ours", "original")  # checkers of accounts of the system
CHAINS = [dict(zip(KINDS, kinds, strict=True)) for kinds in itertools.product(*KINDS.values())]
OCTETS = sum(map(len, MESSAGES))


def chain(links: Links, kinds: dict[str, str]) -> list[str | Path]:
    popup, checker, pop3d = (links.program(place, kinds[place]) for place in ("popup", "checker", "pop3d"))
    return [popup, "host.example", checker, pop3d, "Maildir"]


def start(links: Links, kinds: dict[str, str], request: pytest.FixtureRequest) -> tuple[Server, list[bytes]]:
    """The chain's server, and the lines that log in there."""
    words = chain(links, kinds)
    tcpserver = links.program("tcpserver", kinds["tcpserver"])
    if kinds["checker"] not in SYSTEM:
        return serve(tcpserver, *words, env=links.home.environment()), [
            b"user " + NAME.encode(),
            b"pass " + PASSWORD.encode(),
        ]
    accounts: SystemAccounts = request.getfixturevalue("system_accounts")
    fill(accounts.home / "Maildir")
    env = environment(**reachable_python())
    return serve(tcpserver, *words, prefix=accounts.prefix, env=env), [b"user q-right", b"pass secret"]


def fill(maildir: Path) -> None:
    if maildir.exists():
        return
    for folder in (maildir, *(maildir / sub for sub in ("tmp", "new", "cur"))):
        folder.mkdir(mode=0o700)
        os.chown(folder, UID, GID)
    for number, message in enumerate(MESSAGES):
        path = maildir / "new" / f"{number}.host"
        path.write_bytes(message)
        os.utime(path, (number, number))  # what is as old as this second is left for the next session
        os.chown(path, UID, GID)


def converse(server: Server, *lines: bytes) -> list[bytes]:
    """The greeting and the answer to each line, which waits for the one before: C qmail-popup reads ahead, and what
    it has read too much is lost for the next program."""
    answers = []
    with server.connect() as connection, connection.makefile("rb") as file:
        answers.append(file.readline())
        for line in lines:
            connection.sendall(line + b"\r\n")
            answers.append(file.readline())
        answers += file.readlines()
    return [answer.rstrip(b"\r\n") for answer in answers]


@pytest.mark.parametrize("kinds", CHAINS, ids=lambda kinds: "-".join(kinds.values()))
def test_any_link_works_with_any_other(links: Links, kinds: dict[str, str], request: pytest.FixtureRequest) -> None:
    server, login = start(links, kinds, request)
    with server:
        lines = converse(server, *login, b"stat", b"quit")
        assert [line[:3] for line in lines] == [b"+OK"] * 5
        assert lines[0].endswith(b"@host.example>")
        assert lines[3] == b"+OK %d %d" % (len(MESSAGES), OCTETS)
        lines = converse(server, login[0], b"pass wrong")
        assert [line[:4].strip() for line in lines] == [b"+OK", b"+OK", b"-ERR"]


# Programs that stand in front of a link, and do one thing before, or while, it runs.

FRONTS = {
    "recordio": ["recordio"],
    "fixcrio": ["fixcrio"],
    "argv0": ["argv0"],
    "softlimit": ["softlimit", "-m", "64000000"],
    "envdir": ["envdir", "{folder}/env"],
    "setlock": ["setlock", "{folder}/lock"],
}
COPIERS = ("recordio", "fixcrio")  # need a connection on 0 and 1, and leave no 3 to a checker
PLACES = {"tcpserver": 0, "popup": 1, "checker": 3, "pop3d": 4}
ALL_OURS = {"popup": "ours", "checker": "flatfile", "pop3d": "ours"}
IN_FRONT = [
    (whose, name, place)
    for name, place in itertools.product(FRONTS, PLACES)
    for whose in ["the original", *["ours"] * (BIN / name).exists()]
    if name not in COPIERS or place in ("popup", "pop3d")
]


@pytest.mark.parametrize(("whose", "name", "place"), IN_FRONT)
def test_a_program_stands_in_front_of_a_link(links: Links, whose: str, name: str, place: str) -> None:
    at = links.home
    (at.folder / "env").mkdir(exist_ok=True)
    (at.folder / "env" / "FROMDIR").write_text("yes\n")
    (at.folder / "lock").touch()
    (at.folder / "lock").chmod(0o666)
    front = [word.format(folder=at.folder) for word in FRONTS[name]]
    front[0] = str(BIN / name) if whose == "ours" else needs(name)
    words = [OURS, "-1v", "-RHl0", "127.0.0.1", "0", *chain(links, ALL_OURS)]
    position = words.index({"tcpserver": OURS, **{p: links.program(p, ALL_OURS[p]) for p in ALL_OURS}}[place])
    words[position:position] = [*front, words[position]] if name == "argv0" else front
    if name == "argv0":  # argv0 PROGRAM NAME: the name that the program sees is another one
        words[position + len(front) + 1] = "another-name"
    with Server(words, at.environment()) as server:
        lines = server.talk(f"user {NAME}\r\npass {PASSWORD}\r\nstat\r\nquit\r\n".encode()).splitlines()
        assert [line[:3] for line in lines] == [b"+OK"] * 5
        assert lines[3] == b"+OK %d %d" % (len(MESSAGES), OCTETS)
        lines = server.talk(b"user nobody\r\npass x\r\n").splitlines()
        assert lines[-1] == b"-ERR authorization failed"


@pytest.mark.parametrize("tcpserver", ["ours", "the original"])
def test_a_variable_that_a_link_sets_reaches_the_last_program(links: Links, tcpserver: str) -> None:
    """What each link promises to those behind it, seen by a foreign program at the end."""
    program = OURS if tcpserver == "ours" else needs("tcpserver")
    words = [
        "qmail-popup",
        "host.example",
        "checkpassword-flatfile",
        "sh",
        "-c",
        'echo "$PROTO $USER $HOME $SHELL"; pwd',
    ]
    with serve(program, *words, env=links.home.environment()) as server:
        lines = server.talk(f"user {NAME}\r\npass {PASSWORD}\r\n".encode()).decode().splitlines()
    assert lines[2:] == [f"TCP {NAME} {links.home.home} /bin/sh", str(links.home.home)]


@pytest.mark.parametrize("tcpserver", ["ours", "the original"])
def test_the_last_program_finds_the_connection_and_the_log_and_no_password(links: Links, tcpserver: str) -> None:
    program = OURS if tcpserver == "ours" else needs("tcpserver")
    listing = '(for fd in /proc/$$/fd/*; do echo "${fd##*/} $(readlink $fd)"; done); :'
    words = ["qmail-popup", "host.example", "checkpassword-flatfile", "sh", "-c", listing]
    with serve(program, *words, env=links.home.environment()) as server:
        lines = server.talk(f"user {NAME}\r\npass {PASSWORD}\r\n".encode()).splitlines()
    assert [line.partition(b":")[0] for line in lines[2:]] == [b"0 socket", b"1 socket", b"2 pipe"]


def test_a_foreign_program_of_the_same_name_earlier_on_path_wins(links: Links, tmp_path: Path) -> None:
    with home() as at:
        folder = at.folder / "first"
        folder.mkdir()
        script(folder / "checkpassword-flatfile", "#!/bin/sh\nexec 3<&-\necho mine\nexit 0\n")
        env = environment()
        env["PATH"] = f"{folder}:{env['PATH']}"
        words = ["qmail-popup", "host.example", "checkpassword-flatfile", "qmail-pop3d", "Maildir"]
        with serve(OURS, *words, env=env) as server:
            assert server.talk(b"user a\r\npass b\r\n").endswith(b"mine\n")
