"""service/pop3d under every supervisor, and what doc/SUPERVISION.md says: its commands and scripts are run here."""

import json
import os
import re
import shutil
import signal
import socket
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.helpers import PYTHON, ROOT, eventually, needs, run
from tests.peers.supervisors import LOGIN, SUPERVISORS, Service, below, peer, surroundings
from tests.servers import MESSAGES, TIMEOUT, Home, home, public_folder, read_all

PAGE = (ROOT / "doc" / "SUPERVISION.md").read_text()
UNIT = (ROOT / "doc" / "qmailpy-svscan.service").read_text()

INDENTED = re.compile(r"(?:^ {4}.*\n|^\n(?= {4}))+", re.MULTILINE)
BLOCKS = [textwrap.dedent(found[0]).strip("\n") for found in INDENTED.finditer(PAGE)]

# The last lines of those that are a picture, or take a running systemd or Docker.
NOT_RUN = ("        supervise/", "docker exec ", "systemctl enable ", "systemctl kill ")

LONGEST_IN_INITTAB = 127  # bytes of a command, inittab(5)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its ids: run the tests as root")


def block(end: str) -> str:
    """The one whose last line begins with end."""
    (found,) = (text for text in BLOCKS if text.splitlines()[-1].startswith(end))
    return found


@pytest.fixture
def at() -> Iterator[Home]:
    with home() as made:
        made.deliver(*MESSAGES)
        yield made


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """What `make home` makes, without what it would fetch."""
    with public_folder() as folder:
        (folder / "lib" / "libpass-0.dist-info").mkdir(parents=True)
        assert run([PYTHON, ROOT / "tools" / "home.py", folder], timeout=120).returncode == 0
        yield folder


@pytest.fixture
def qmail(at: Home, installed: Path) -> Home:
    """The home of the page, with folders for what is elsewhere there: see here()."""
    for name in ("bin", "lib"):
        shutil.copytree(installed / name, at.folder / name)
    for name in ("users", "scanned", "sv", "local"):
        (at.folder / name).mkdir()
    shutil.copy(at.passwords, at.folder / "users" / "flatfile")
    return at


PLACES = {
    "/var/qmail": "",
    "/etc/service": "scanned",
    "/run/service": "scanned",
    "/etc/sv": "sv",
    "/usr/local/bin": "local",
    "/dev/console": "console",
}


def here(text: str, at: Home) -> str:
    """What stands on the page, for this machine."""
    for place, own in PLACES.items():
        text = text.replace(place, str(at.folder / own))
    return text.replace("qmaill", "nobody")


def path(at: Home) -> dict[str, str]:
    return {"PATH": f"{at.folder}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}


def script(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text + "\n")
    file.chmod(0o755)


def shell(text: str, at: Home) -> str:
    """Run what stands on the page; what it prints."""
    done = run(["sh", "-euc", here(text, at)], env=path(at), cwd=at.folder)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def started(at: Home, command: str) -> Service:
    """service/pop3d under our svscan, by a command of the page."""
    return Service(at, "ours", argv=["sh", "-c", here(command, at)], env=path(at))


def placed(at: Home) -> Service:
    """service/pop3d, which nobody supervises yet."""
    service = Service(at, "ours", argv=["true"], env=path(at))
    service.process.wait(TIMEOUT)
    return service


def svscan(service: Service) -> int:
    """The process that scans the service's folder, of those that are there."""
    pids = [pid for pid in below(service.scan) if os.readlink(f"/proc/{pid}/cwd") == str(service.scan)]
    assert len(pids) == 1
    return pids[0]


def ends_in_order(service: Service, pid: int) -> bool:
    """Whether TERM to pid stops all."""
    os.kill(pid, signal.SIGTERM)
    return service.process.wait(TIMEOUT) == 0 and service.is_over()


# The service under each of them


@pytest.mark.parametrize("tools", ["ours", "Debian's"])
@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_a_service_serves_logs_comes_back_and_stops(supervisor: str, tools: str, at: Home) -> None:
    with Service(at, supervisor, tools) as service:
        assert service.is_up()
        assert service.serves()
        current = service.folder / "log" / "main" / "current"
        assert eventually(lambda: " tcpserver: ok " in current.read_text())
        lines = current.read_text().splitlines()
        assert [line for line in lines if not re.match(r"@[0-9a-f]{24} tcpserver: ", line)] == []
        before = service.pid()
        os.kill(before, signal.SIGKILL)
        assert service.is_up()
        assert service.pid() != before
        assert service.serves()
        service.tell(service.control.down)
        assert eventually(lambda: service.pid() == 0)
        assert service.is_closed()
        service.tell(service.control.up)
        assert service.is_up()
        assert service.stop() == service.supervisor.code
        assert service.is_over()


def test_a_directory_goes_from_one_supervisor_to_the_next(at: Home) -> None:
    with Service(at, "ours") as service:
        for name, supervisor in [*SUPERVISORS.items(), ("ours", SUPERVISORS["ours"])]:
            assert service.is_up()
            assert service.serves()
            assert service.stop() == service.supervisor.code
            assert service.is_over()
            service.supervisor, service.control = supervisor, supervisor.control
            service.start([*peer(supervisor.argv), service.scan], surroundings(at, name))
        assert service.is_up()
        assert service.serves()


@pytest.mark.parametrize("supervisor", ["ours", "ours -s", "runit", "s6"])
def test_finish_delays_the_next_start(supervisor: str, at: Home) -> None:
    folder = at.folder / "service" / "late"
    folder.mkdir(parents=True)
    script(folder / "run", "#!/bin/sh\necho >>starts\nexit 111")
    script(folder / "finish", block('[ "$1" != 111 ]'))

    def names() -> list[str]:
        return [Path(f"/proc/{pid}/comm").read_text() for pid in below(folder)]

    with Service(at, supervisor) as service:
        assert service.is_up()
        assert eventually(lambda: "sleep\n" in names())
        assert (folder / "starts").read_text() == "\n"


@pytest.mark.parametrize(
    ("supervisor", "told"), [("ours", "-1 9"), ("ours -s", "-1 9"), ("runit", "-1 9"), ("s6", "256 9")]
)
def test_finish_is_told_how_run_has_ended(supervisor: str, told: str, at: Home) -> None:
    folder = at.folder / "service" / "killed"
    folder.mkdir(parents=True)
    script(folder / "run", "#!/bin/sh\nkill -9 $$")
    script(folder / "finish", '#!/bin/sh\necho "$1 $2" >told.new; mv told.new told; exec sleep 1000')
    with Service(at, supervisor):
        assert eventually((folder / "told").exists)
        assert (folder / "told").read_text() == f"{told}\n"


# The page


def test_every_block_of_the_page_is_run() -> None:
    used = re.findall(r'\bblock\(\s*["\'](.+?)["\']\)', Path(__file__).read_text())
    assert [text for text in BLOCKS if not text.splitlines()[-1].startswith((*used, *NOT_RUN))] == []


def test_svc_does_under_our_svscan_what_the_page_says(qmail: Home) -> None:
    with started(qmail, block("svscan /var/qmail/service")) as service:
        assert service.is_up()
        stat, down, up, term, rotate, read = block("tai64nlocal ").splitlines()
        assert [line.split()[1] for line in shell(stat, qmail).splitlines()] == ["up", "up"]
        shell(down, qmail)
        assert service.is_closed()
        shell(up, qmail)
        assert service.is_up()
        before = service.pid()
        shell(term, qmail)
        assert service.is_up()
        assert service.pid() not in (0, before)
        assert re.match(r"\d{4}-\d\d-\d\d \S+ tcpserver: ", shell(read, qmail))
        shell(rotate, qmail)
        assert eventually(lambda: len(list((service.folder / "log" / "main").glob("@*.s"))) == 1)
        assert service.serves()
        shell(block("svc -dx -w 20 /var/qmail/service/.pop3d/log"), qmail)
        assert service.is_closed()
        assert below(qmail.folder) == [svscan(service)]
        os.kill(svscan(service), signal.SIGTERM)
        assert service.process.wait(TIMEOUT) == 0


@needs_root
def test_the_log_gives_up_root(qmail: Home) -> None:
    with Service(qmail, "ours") as service:
        assert service.is_up()
        service.stop()
        shutil.rmtree(service.folder / "log" / "main")
        shell(block("install -d ").splitlines()[1], qmail)
        script(service.folder / "log" / "run", here(block("exec setuidgid qmaill multilog"), qmail))
        service.start(["sh", "-c", here(block("svscan /var/qmail/service"), qmail)], path(qmail))
        current = service.folder / "log" / "main" / "current"
        assert eventually(lambda: current.exists() and "status: 0/100" in current.read_text())
        assert current.owner() == "nobody"
        assert service.talk()[0][:3] == b"+OK"
        assert ends_in_order(service, svscan(service))


@needs_root
def test_svscan_is_process_1_of_a_container(qmail: Home) -> None:
    if run([needs("unshare"), "-pf", "--mount-proc", "true"]).returncode:
        pytest.skip("no pid namespace can be made here: run the tests where unshare -p works")
    lines = [line.partition(" ")[::2] for line in block("ENTRYPOINT ").splitlines()]
    words = {name: here(rest, qmail) for name, rest in lines}
    env = dict(here(rest, qmail).split("=", 1) for name, rest in lines if name == "ENV")
    with placed(qmail) as service:
        removed = re.findall(r"&& (rm -r .*)", words["RUN"])
        assert len(removed) == 1
        shell(removed[0], qmail)
        assert not (service.folder / "log").exists()
        service.start([needs("unshare"), "-pf", "--mount-proc", *json.loads(words["ENTRYPOINT"])], env)
        service.log.line(r"pop3d \| tcpserver: status: 0/100")
        assert service.talk()[0][:3] == b"+OK"
        inner = int(Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text())
        os.kill(inner, signal.SIGTERM)
        assert service.process.wait(TIMEOUT) == 0
        assert eventually(lambda: below(qmail.folder) == [])


# systemd


def unit(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT, re.MULTILINE)


def test_systemd_takes_the_unit(qmail: Home, tmp_path: Path) -> None:
    file = tmp_path / "qmailpy-svscan.service"
    file.write_text(here(UNIT, qmail))
    done = run([needs("systemd-analyze"), "verify", "--man=no", file])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def confined() -> Sequence[str]:
    """The unit's limits, as far as they exist without systemd."""
    if os.geteuid():
        return ()
    names = [name.removeprefix("CAP_").lower() for line in unit("CapabilityBoundingSet") for name in line.split()]
    assert unit("NoNewPrivileges") == ["yes"]
    return (needs("setpriv"), "--no-new-privs", "--bounding-set", ",".join(["-all", *(f"+{name}" for name in names)]))


def test_the_units_privileges_are_enough_and_a_crash_stops_nothing(qmail: Home) -> None:
    env = dict(here(line, qmail).split("=", 1) for line in unit("Environment"))
    argv = [*confined(), *here(unit("ExecStart")[0], qmail).split()]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(TIMEOUT)
        manager.bind(str(qmail.folder / "notify"))
        env["NOTIFY_SOCKET"] = str(qmail.folder / "notify")
        with Service(qmail, "ours", argv=argv, env=env) as service:
            assert manager.recv(100) == b"READY=1"
            assert service.is_up()
            assert service.serves()
            before = service.pid()
            service.process.kill()  # and nobody else, which is KillMode=process
            service.process.wait()
            assert unit("KillMode") == ["process"]
            assert service.talk()[0][:3] == b"+OK"
            service.start(argv, env)
            assert manager.recv(100) == b"READY=1"
            assert service.pid() == before
            service.process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert service.process.wait(TIMEOUT) == 0
            assert service.is_over()


@needs_root
def test_a_log_goes_to_the_journal(qmail: Home) -> None:
    text = here(block("exec setuidgid qmaill splogger"), qmail)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.settimeout(TIMEOUT)
        journal.bind(str(qmail.folder / "journal"))
        (qmail.folder / "journal").chmod(0o666)
        script(qmail.folder / "run", text.replace("splogger -j", f"splogger -j -s {qmail.folder}/journal"))
        assert run([qmail.folder / "run"], b"status: 0/100\n", env=path(qmail)).returncode == 0
        fields = journal.recv(4096).split(b"\n")
    assert b"SYSLOG_IDENTIFIER=pop3d" in fields
    assert b"MESSAGE=status: 0/100" in fields


# runit and s6


def test_runit_runs_a_service_by_a_link(qmail: Home) -> None:
    folder = qmail.folder / "scanned"
    with Service(qmail, "runit", argv=[needs("runsvdir"), folder], env=path(qmail)) as service:
        shell(block("ln -s /var/qmail/service/pop3d /etc/service/"), qmail)
        assert service.is_up()
        assert service.serves()
        assert shell("svstat /etc/service/pop3d", qmail).partition(": ")[2].startswith("up ")
        shell("svc -d -w 20 /etc/service/pop3d", qmail)
        assert service.is_closed()
        shell("svc -u -w 20 /etc/service/pop3d", qmail)
        assert service.is_up()
        assert service.stop() == 111
        assert service.is_over()


def test_s6_runs_a_service_by_a_link(qmail: Home) -> None:
    folder = qmail.folder / "scanned"
    with Service(qmail, "s6", argv=[needs("s6-svscan"), folder], env=path(qmail)) as service:
        assert eventually(lambda: (folder / ".s6-svscan" / "control").exists())
        shell(block("s6-svscanctl -a "), qmail)
        assert service.is_up()
        assert service.serves()
        assert service.stop() == 0
        assert service.is_over()


@pytest.mark.parametrize("supervisor", ["runit", "s6"])
def test_our_svscan_runs_under_it_with_all_services(supervisor: str, qmail: Home) -> None:
    above = SUPERVISORS[supervisor]
    script(qmail.folder / "sv" / "qmailpy" / "run", here(block("exec svscan /var/qmail/service"), qmail))
    if supervisor == "runit":
        link, stat, hup, stop = block("sv -w 20 stop ").splitlines()
    else:
        link = "ln -s /etc/sv/qmailpy /run/service/"
        stat, hup, stop = block("s6-svc -wD ").splitlines()
    shell(link, qmail)
    argv = [*peer(above.argv), qmail.folder / "scanned"]
    with Service(qmail, "ours", argv=argv, env=path(qmail)) as service:
        assert service.is_up()
        assert re.search(r"\(pid \d+", shell(stat, qmail))
        before = service.pid()
        with socket.create_connection(("127.0.0.1", service.port), TIMEOUT) as session:
            for crash in False, True:
                old = svscan(service)
                if crash:
                    os.kill(old, signal.SIGKILL)
                else:
                    shell(hup, qmail)
                assert eventually(lambda old=old: old not in below(service.scan) and service.pid() == before)  # type: ignore[misc]
            session.sendall(LOGIN)
            assert b"+OK %d " % len(MESSAGES) in read_all(session)
        shell(stop, qmail)
        assert service.is_closed()
        assert service.log_is_complete()
        assert below(service.scan) == []
        os.kill(service.process.pid, above.ending)
        assert service.process.wait(TIMEOUT) == above.code
        assert eventually(lambda: below(qmail.folder) == [])


@pytest.mark.parametrize("supervisor", ["runit", "s6"])
def test_it_stops_our_svscan_and_all_services_when_it_ends(supervisor: str, qmail: Home) -> None:
    above = SUPERVISORS[supervisor]
    text = here(block("exec svscan /var/qmail/service"), qmail)
    script(qmail.folder / "scanned" / "qmailpy" / "run", text)
    argv = [*peer(above.argv), qmail.folder / "scanned"]
    with Service(qmail, "ours", argv=argv, env=path(qmail)) as service:
        assert service.is_up()
        assert service.serves()
        service.process.send_signal(above.ending)
        assert service.process.wait(TIMEOUT) == above.code
        assert service.is_over()


# daemontools


def test_svscanboot_takes_our_svscan(qmail: Home) -> None:
    text = Path(needs("svscanboot")).read_text()
    assert "PATH=/command:/usr/local/bin:" in text
    script(qmail.folder / "svscanboot", here(text, qmail))
    commands, link, boot = block("svscanboot").splitlines()
    shell(commands, qmail)
    with placed(qmail) as service:
        shell(link, qmail)
        service.start([qmail.folder / boot], path(qmail))
        current = service.folder / "log" / "main" / "current"
        assert eventually(lambda: current.exists() and "status: 0/100" in current.read_text())
        assert service.talk()[0][:3] == b"+OK"
        service.scan = qmail.folder / "scanned"
        assert ends_in_order(service, svscan(service))


def test_init_starts_our_svscan_by_a_line_of_inittab(qmail: Home) -> None:
    name, _, action, command = block("SV:").split(":", 3)
    assert (name, action) == ("SV", "respawn")
    assert len(command) <= LONGEST_IN_INITTAB
    with started(qmail, f"exec {command}") as service:
        current = service.folder / "log" / "main" / "current"
        assert eventually(lambda: current.exists() and "status: 0/100" in current.read_text())
        assert service.talk()[0][:3] == b"+OK"
        assert ends_in_order(service, service.process.pid)
        assert "tcpserver: status: 0/100" in (qmail.folder / "console").read_text()


def test_svscan_s_takes_the_supervise_that_path_finds(qmail: Home) -> None:
    with started(qmail, f"exec env {block('PATH=/usr/bin:/bin ')}") as service:
        assert service.is_up()
        assert service.serves()
        assert service.supervise() == os.path.realpath(needs("supervise"))
        assert ends_in_order(service, service.process.pid)
