"""injection: which way a message goes, and what is said of each end."""

import os
import pwd
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qmailpy import chain
from qmailpy.chain import Env, Exec
from qmailpy.formats import report
from qmailpy.stores import injection, queue
from tests.helpers import BIN, PYTHON, ROOT, run
from tests.queuehomes import QueueHome, QueueService, nobody, queue_home, shared_home

__all__ = ["queue_home", "shared_home"]

BODY = b"Subject: test\n\ntext\n"
BIG = b"0123456789abcde\n" * 20000

OWN_TEXT = '#!/bin/sh\ncat >/dev/null; cat <&1 >/dev/null\nprintf "%s" "$TEXT" >&6\nexit "$CODE"\n'


def chained(env: dict[str, str]) -> Env:
    return {os.fsencode(name): os.fsencode(value) for name, value in env.items()}


def begin(home: QueueHome, **env: str) -> injection.Injection:
    known = chained(home.env(**env))
    return injection.open_injection(
        os.fsencode(home.path),
        known,
        lambda child: chain.spawn(child, known, "test"),  # type: ignore[arg-type]
        lambda argv, env: Exec(argv, env),
    )


def script(home: QueueHome, text: str) -> str:
    path = home.path / "replacement"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def as_user(uid: int, act: Callable[[], bytes]) -> bytes:
    """What act returns in a process of that user."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if uid != os.geteuid():
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            os.write(writer, act())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with open(reader, "rb") as file:
        text = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return text


@pytest.fixture(autouse=True)
def sigpipe() -> Iterator[None]:
    before = signal.getsignal(signal.SIGPIPE)
    yield
    signal.signal(signal.SIGPIPE, before)


@pytest.fixture(params=["direct", "program"])
def way(request: pytest.FixtureRequest) -> dict[str, str]:
    return {} if request.param == "direct" else {"QMAILQUEUE": str(BIN / "qmail-queue")}


def test_a_message_is_queued(queue_home: QueueHome, way: dict[str, str]) -> None:
    one = begin(queue_home, **way)
    for part in (BODY, BIG, b"", b"end"):
        one.write(part)
    assert one.close(b"a@b", [b"c@d", b"e@f"]) == b""
    queued = queue_home.message()
    assert (queued.body, queued.sender, queued.recipients) == (BODY + BIG + b"end", b"a@b", [b"c@d", b"e@f"])
    assert (queued.pid, queued.uid) == (one.qp, os.getuid())
    assert one.qp == os.getpid() or way


def test_the_owner_of_a_queue_needs_no_other_process(queue_home: QueueHome) -> None:
    assert isinstance(begin(queue_home), injection.Direct)


def test_one_after_the_other(queue_home: QueueHome, way: dict[str, str]) -> None:
    for number in range(3):
        one = begin(queue_home, **way)
        one.write(b"%d" % number)
        assert one.close(b"", []) == b""
    assert [queued.body for queued in queue_home.messages()] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("step", ["write", "begin_envelope", "add", "commit"])
def test_out_of_memory_leaves_nothing_and_is_told_at_close(
    queue_home: QueueHome, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    one = begin(queue_home)
    one.write(BIG)
    monkeypatch.setattr(queue.Draft, step, fail)
    one.write(BODY)
    one.write(BODY)
    assert one.close(b"a@b", [b"c@d"]) == b"Zqq out of memory (#4.3.0)"
    assert queue_home.files() == set()


def test_an_address_that_is_too_long_leaves_nothing(queue_home: QueueHome) -> None:
    one = begin(queue_home)
    one.write(BODY)
    assert one.close(b"a@b", [b"c@d"] * 20_000 + [b"x" * 1003]) == report.text(report.ADDRESS_TOO_LONG)
    assert queue_home.files() == set()


def test_as_many_recipients_as_anybody_likes(queue_home: QueueHome, way: dict[str, str]) -> None:
    recipients = [b"%d@there.example" % number for number in range(10_000)]
    one = begin(queue_home, **way)
    assert one.close(b"a@b", recipients) == b""
    assert queue_home.message().recipients == recipients


def test_a_message_that_failed_is_not_queued(queue_home: QueueHome, way: dict[str, str]) -> None:
    one = begin(queue_home, **way)
    one.write(BODY)
    one.fail()
    one.write(BODY)
    assert one.close(b"a@b", [b"c@d"]) == b"Zqq read error (#4.3.0)"
    assert queue_home.files() == set()


def test_fail_alone_leaves_nothing_behind_in_this_process(queue_home: QueueHome) -> None:
    one = begin(queue_home)
    one.write(BIG)
    assert queue_home.files()
    one.fail()
    assert queue_home.files() == set()


@pytest.mark.parametrize("size", [1002, 1003])
def test_an_address_that_is_too_long(queue_home: QueueHome, way: dict[str, str], size: int) -> None:
    one = begin(queue_home, **way)
    text = one.close(b"a" * size, [b"b" * 1002])
    assert text == (b"" if size == 1002 else b"Denvelope address too long for qq (#5.1.3)")
    assert len(queue_home.messages()) == (size == 1002)


@pytest.mark.parametrize(("missing", "text"), [
    ("queue/mess", b"Zqq trouble creating files in queue (#4.3.0)"),
    ("queue", b"Zqq trouble creating files in queue (#4.3.0)"),
    (".", b"Zqq trouble in home directory (#4.3.0)"),
])  # fmt: skip
def test_trouble_with_the_queue_shows_at_the_end(
    queue_home: QueueHome, way: dict[str, str], missing: str, text: bytes
) -> None:
    (queue_home.path / missing).resolve().rename(queue_home.path.parent / "elsewhere")
    one = begin(queue_home, **way)
    one.write(BODY)
    assert one.close(b"a@b", [b"c@d"]) == text


def test_no_descriptor_is_left_open(queue_home: QueueHome, way: dict[str, str]) -> None:
    before = os.listdir("/proc/self/fd")
    for recipient in (b"c@d", b"x" * 2000):
        one = begin(queue_home, **way)
        one.write(BODY)
        one.close(b"a@b", [recipient])
    begin(queue_home, **way).fail()
    assert len(os.listdir("/proc/self/fd")) <= len(before) + (3 if way else 0)  # fail has not ended that program


@pytest.mark.parametrize("code", [0, 11, 31, 51, 54, 71, 91, 111])
def test_the_code_of_a_program_is_translated(queue_home: QueueHome, code: int) -> None:
    one = begin(queue_home, QMAILQUEUE=script(queue_home, OWN_TEXT), CODE=str(code), TEXT="Dnot heard")
    one.write(BODY)
    assert one.close(b"a@b", [b"c@d"]) == report.text(code)
    assert queue_home.files() == set()


@pytest.mark.parametrize("code", ["82", "88"])
@pytest.mark.parametrize("text", ["Dspam (#5.7.1)", "Zbusy (#4.3.2)"])
def test_a_program_may_refuse_in_its_own_words(queue_home: QueueHome, code: str, text: str) -> None:
    one = begin(queue_home, QMAILQUEUE=script(queue_home, OWN_TEXT), CODE=code, TEXT=text)
    one.write(BIG)
    assert one.close(b"a@b", [b"c@d"]) == text.encode()


def test_a_program_that_reads_nothing_is_believed(queue_home: QueueHome) -> None:
    """And if it says that it has queued what it did not read, it is not."""
    for code, text in (("31", report.text(31)), ("0", report.text(54))):
        one = begin(queue_home, QMAILQUEUE=script(queue_home, f"#!/bin/sh\nexec <&-\nexec >&-\nexit {code}\n"))
        while not one._code:
            one.write(BIG)  # until the pipe has broken
        assert one.close(b"a@b", [b"c@d"]) == text


def test_a_program_that_is_killed_has_crashed(queue_home: QueueHome) -> None:
    one = begin(queue_home, QMAILQUEUE=script(queue_home, "#!/bin/sh\nkill -9 $$\n"))
    assert one.close(b"a@b", [b"c@d"]) == b"Zqq crashed (#4.3.0)"


@pytest.mark.parametrize("name", ["/nonexistent/queue", "qmail-queue"])
def test_a_program_that_is_not_there_cannot_be_run(queue_home: QueueHome, name: str) -> None:
    """PATH, which has a qmail-queue, is not searched."""
    one = begin(queue_home, QMAILQUEUE=name)
    assert one.close(b"a@b", [b"c@d"]) == b"Zunable to exec qq (#4.3.0)"


def test_a_program_is_found_from_the_home_and_gets_nothing_but_0_1_2_and_6(queue_home: QueueHome) -> None:
    ours = {name for name in os.listdir("/proc/self/fd") if int(name) > 2}
    script(queue_home, "#!/bin/sh\n(pwd; echo $# $0; ls /proc/$$/fd | tr '\\n' ' ') >seen\nexit 31\n")
    one = begin(queue_home, QMAILQUEUE="replacement")
    assert one.close(b"a@b", [b"c@d"]).startswith(b"D")
    folder, words, fds = (queue_home.path / "seen").read_text().splitlines()
    assert (folder, words) == (str(queue_home.path), "0 ./replacement")
    assert {"0", "1", "2", "6"} <= set(fds.split()) <= {"0", "1", "2", "6", "10", *ours}  # 10 is the shell's own


@pytest.mark.parametrize("closed", [(0,), (0, 1), (0, 1, 2)])
def test_descriptors_that_are_closed_are_no_trouble(queue_home: QueueHome, closed: tuple[int, ...]) -> None:
    """Then the pipes have the numbers that they are moved to."""

    def act() -> bytes:
        for fd in closed:
            os.close(fd)
        one = begin(queue_home, QMAILQUEUE=str(BIN / "qmail-queue"))
        one.write(BIG)
        return one.close(b"a@b", [b"c@d"]) or b"queued"

    assert as_user(os.getuid(), act) == b"queued"
    assert queue_home.message().body == BIG


def test_an_empty_qmailqueue_is_none(queue_home: QueueHome) -> None:
    assert isinstance(begin(queue_home, QMAILQUEUE=""), injection.Direct)


def test_anothers_qmail_queue_in_the_home_is_run(queue_home: QueueHome) -> None:
    (queue_home.path / "bin").mkdir()
    program = queue_home.path / "bin" / "qmail-queue"
    program.write_text("#!/bin/sh\nexit 31\n")
    program.chmod(0o755)
    one = begin(queue_home)
    assert isinstance(one, injection.Program)
    assert one.close(b"a@b", [b"c@d"]) == b"Dmail server permanently rejected message (#5.3.0)"
    program.unlink()
    program.symlink_to(BIN / "qmail-queue")
    assert isinstance(begin(queue_home), injection.Direct)


def test_without_pipes_there_is_no_injection(queue_home: QueueHome, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> Any:
        raise OSError(24, "")

    before = len(os.listdir("/proc/self/fd"))
    for failing_at in (1, 2, 3):
        real = os.pipe
        made = 0

        def pipe() -> tuple[int, int]:
            nonlocal made
            made += 1
            return none() if made == failing_at else real()  # noqa: B023

        monkeypatch.setattr(os, "pipe", pipe)
        with pytest.raises(OSError):
            begin(queue_home, QMAILQUEUE="/bin/false")
        monkeypatch.undo()
    monkeypatch.setattr(os, "fork", none)
    with pytest.raises(OSError):
        begin(queue_home, QMAILQUEUE="/bin/false")
    monkeypatch.undo()
    assert len(os.listdir("/proc/self/fd")) == before


def test_root_writes_as_the_owner_of_the_queue(shared_home: QueueHome) -> None:
    owner = (shared_home.queue / "mess").stat()
    before = len(os.listdir("/proc/self/fd"))
    one = begin(shared_home)
    assert isinstance(one, injection.Forked)
    for part in (BODY, BIG):
        one.write(part)
    assert one.close(b"a@b", [b"c@d"]) == b""
    assert len(os.listdir("/proc/self/fd")) == before
    queued = shared_home.message()
    assert (queued.uid, queued.pid, queued.body, queued.recipients) == (0, one.qp, BODY + BIG, [b"c@d"])
    assert b"invoked by uid 0)" in queued.received
    for name in shared_home.files():
        status = (shared_home.queue / name).stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (owner.st_uid, owner.st_gid, 0o644)


@pytest.mark.parametrize("folder", ["pid", "intd"])
def test_root_follows_no_link_of_the_owner(shared_home: QueueHome, folder: str) -> None:
    secret = shared_home.path / "roots"
    secret.mkdir(mode=0o700)
    (shared_home.queue / folder).rmdir()
    (shared_home.queue / folder).symlink_to(secret)
    one = begin(shared_home)
    one.write(BODY)
    assert one.close(b"a@b", [b"c@d"]) == b"Zqq trouble creating files in queue (#4.3.0)"
    assert os.listdir(secret) == []


def test_a_message_of_root_that_failed_is_not_queued(shared_home: QueueHome) -> None:
    one = begin(shared_home)
    one.write(BIG)
    one.fail()
    assert one.close(b"a@b", [b"c@d"]) == b"Zqq read error (#4.3.0)"
    assert shared_home.files() == set()
    assert begin(shared_home).close(b"a" * 2000, []) == b"Denvelope address too long for qq (#5.1.3)"


def test_the_service_is_told_the_real_uid(shared_home: QueueHome) -> None:
    uid, _ = nobody()
    other = pwd.getpwnam("games").pw_uid

    def act() -> bytes:
        os.setresuid(uid, other, other)
        one = begin(shared_home)
        assert os.getresuid() == (uid, other, other)
        return one.close(b"a@b", [b"c@d"]) or b"queued"

    with QueueService(shared_home):
        assert as_user(0, act) == b"queued"
    assert shared_home.message().uid == uid


def test_others_are_served_by_the_queue_service(shared_home: QueueHome) -> None:
    uid, _ = nobody()

    def act() -> bytes:
        one = begin(shared_home)
        assert isinstance(one, injection.Service)
        for part in (BODY, BIG):
            one.write(part)
        return one.close(b"a@b", [b"c@d"]) or b"qp %d" % one.qp

    with QueueService(shared_home):
        said = as_user(uid, act)
    queued = shared_home.message()
    assert said == b"qp %d" % queued.pid
    assert (queued.uid, queued.body, queued.recipients) == (uid, BODY + BIG, [b"c@d"])
    assert b"invoked by uid %d)" % uid in queued.received


def test_a_service_that_is_not_there_is_trouble_with_the_queue(shared_home: QueueHome) -> None:
    uid, _ = nobody()

    def act() -> bytes:
        one = begin(shared_home)
        one.write(BIG)
        return one.close(b"a@b", [b"c@d"])

    assert as_user(uid, act) == b"Zqq trouble creating files in queue (#4.3.0)"


def test_a_failure_in_the_service_is_told(shared_home: QueueHome) -> None:
    uid, _ = nobody()

    def act() -> bytes:
        one = begin(shared_home)
        one.write(BODY)
        return one.close(b"a" * 2000, [b"c@d"])

    def broken() -> bytes:
        one = begin(shared_home)
        one.write(BIG)
        one.fail()
        return one.close(b"a@b", [b"c@d"])

    with QueueService(shared_home):
        assert as_user(uid, act) == b"Denvelope address too long for qq (#5.1.3)"
        assert as_user(uid, broken) == b"Zqq read error (#4.3.0)"
    assert {name.split("/")[0] for name in shared_home.files()} <= {"mess", "intd"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"12 0 ", (12, 0, b"")),
        (b"12 82 Dno such user", (12, 82, b"Dno such user")),
        (b"", (0, 74, b"")),
        (b"12 0", (0, 74, b"")),
        (b"x 0 ", (0, 74, b"")),
        (b"12 -1 ", (0, 74, b"")),
        (b"1" * 5000, (0, 74, b"")),
    ],
)
def test_answers_of_a_service(said: bytes, expected: tuple[int, int, bytes]) -> None:
    reader, writer = os.pipe()
    os.write(writer, said)
    os.close(writer)
    assert injection.answer(reader) == expected


def test_the_in_process_way_imports_nothing_heavy() -> None:
    text = "import sys; sys.path.append(sys.argv[1]); import qmailpy.stores.injection; print(*sys.modules)"
    loaded = run([PYTHON, "-IS", "-c", text, ROOT])
    heavy = {"re", "enum", "typing", "socket", "subprocess", "dataclasses", "collections", "ctypes"}
    assert not heavy & set(loaded.stdout.decode().split())
