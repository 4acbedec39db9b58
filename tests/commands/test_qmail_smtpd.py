"""qmail-smtpd: what it takes from control files and environment, the programs that it asks, what reaches the queue, and
hostile clients. Single sessions are in tests/dialogues.

Where QMAIL_BIN names the C program, it has to pass what is its own too.
"""

import base64
import contextlib
import re
import shutil
import socket
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmailpy.commands import qmail_smtpd
from qmailpy.unix import processes
from tests.commands.test_qmail_popup import family, memory
from tests.dialogues import Talk, anonymous
from tests.helpers import BIN, ROOT, eventually, run
from tests.smtp import CHECKER, ORIGINALS, SMTPD, Mailhost, made, mailhost, original_control
from tests.test_tree import HEAVY
from tests.ucspitls import TlsTalk, certificate

__all__ = ["certificate", "mailhost"]

GREETING = b"220 mail.example ESMTP\r\n"
ENVELOPE = b"MAIL FROM:<s@x>\r\nRCPT TO:<r@y>\r\n"
PLAIN = b"AUTH PLAIN " + base64.b64encode(b"\0max\0secret") + b"\r\n"
WRONG = b"AUTH PLAIN " + base64.b64encode(b"\0m x\\\xff\0wrong") + b"\r\n"

# qmail-smtpd with other times to wait for programs
IMPATIENT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from qmailpy import chain
from qmailpy.commands import qmail_smtpd
qmail_smtpd.LOGIN_S = qmail_smtpd.CHECK_S = 0.2
chain._Toolkit.folder = sys.argv[1] + "/bin"
env = dict(os.environb)
os._exit(qmail_smtpd.main([b"qmail-smtpd", *map(os.fsencode, sys.argv[2:])], env))
"""


def session(
    host: Mailhost, sent: bytes, *words: str, program: str | Path = SMTPD, **changes: str
) -> tuple[bytes, bytes]:
    """(answers behind the greeting, log) of a session that the client leaves open until it is answered."""
    with Talk(host, [program, *words], env=host.environment(**changes)) as talk:
        talk.send(sent)
        if not sent.endswith(b"QUIT\r\n"):
            talk.send(b"QUIT\r\n")
        answers = anonymous(talk.rest())
        log = talk.end()[1]
    assert answers.startswith(GREETING)
    return answers.removeprefix(GREETING), log


def last(answers: bytes) -> bytes:
    """The answer before that to QUIT."""
    return answers.removesuffix(b"221 mail.example\r\n").split(b"\r\n")[-2]


def program(host: Mailhost, text: str, name: str = "program") -> Path:
    path = host.path / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def test_what_it_imports_stays_small() -> None:
    """tcpserver has it in memory, and a process per connection inherits that."""
    code = "import sys; sys.path.append(sys.argv[1]); import qmailpy.commands.qmail_smtpd; print(*sys.modules)"
    loaded = run([sys.executable, "-IS", "-c", code, ROOT]).stdout.decode().split()
    assert "qmailpy.commands.qmail_smtpd" in loaded
    assert HEAVY.isdisjoint(loaded)


# The Received line

RECEIVED = [
    ({}, b"HELO h\r\n", b"from unknown (HELO h) (127.0.0.1)\n  by unknown with SMTP"),
    ({}, b"", b"from unknown (127.0.0.1)\n  by unknown with SMTP"),
    ({}, b"HELO\r\n", b"from unknown (HELO ) (127.0.0.1)\n  by unknown with SMTP"),
    ({"TCPREMOTEHOST": "H.test"}, b"EHLO h.TEST\r\n", b"from H.test (127.0.0.1)\n  by unknown with SMTP"),
    ({"TCPREMOTEINFO": "", "TCPLOCALIP": "::1"}, b"", b"from unknown (@127.0.0.1)\n  by ::1 with SMTP"),
    (
        {"TCPREMOTEINFO": "a b", "TCPREMOTEHOST": "x(y", "TCPLOCALHOST": "l", "TCPLOCALIP": "::1"},
        b"HELO <\xff>\r\n",
        b"from x?y (HELO ???) (a?b@127.0.0.1)\n  by l with SMTP",
    ),
]


@pytest.mark.parametrize("smtpd", [str(SMTPD), *ORIGINALS])
@pytest.mark.parametrize(("variables", "helo", "wanted"), RECEIVED)
def test_the_received_line(
    smtpd: str, variables: dict[str, str], helo: bytes, wanted: bytes, mailhost: Mailhost
) -> None:
    sent = helo + ENVELOPE + b"DATA\r\nx\r\n.\r\nQUIT\r\n"
    before = int(time.time())
    if smtpd in ORIGINALS:
        with original_control(mailhost):
            session(mailhost, sent, program=smtpd, **variables)
    else:
        session(mailhost, sent, program=smtpd, **variables)
    text = mailhost.queued(received=True)[0][2]
    match = re.fullmatch(rb"Received: (.*); (\d+ \w{3} \d{4} \d\d:\d\d:\d\d) -0000\nx\n", text, re.DOTALL)
    assert match is not None
    assert match[1] == wanted
    when = time.strptime(match[2].decode() + " UTC", "%d %b %Y %H:%M:%S %Z")
    assert before <= time.mktime(when) - time.timezone <= time.time()


def test_a_login_is_in_the_received_line_and_in_the_environment_of_qmail_queue(mailhost: Mailhost) -> None:
    names = 'echo "$RELAYCLIENT|$TCPREMOTEINFO|$SMTP_AUTH_USER" > "$OUT/env"\nexec '
    queue = program(mailhost, names + str(mailhost.recorder))
    mailhost.control(rcpthosts=b"none")
    variables = {"QMAILQUEUE": str(queue), "TCPREMOTEINFO": "ident", "RELAYCLIENT": "no"}
    session(mailhost, b"EHLO h\r\n" + PLAIN + ENVELOPE + b"DATA\r\n.\r\n", CHECKER, "true", **variables)
    (queued,) = mailhost.queued(received=True)
    assert queued[2].startswith(b"Received: from unknown (HELO h) (max@127.0.0.1)\n  by unknown with ESMTPA; ")
    assert queued[:2] == (b"s@x", [b"r@y"])
    assert (mailhost.out / "env").read_text() == "|max|max\n"


@pytest.mark.parametrize(
    ("variables", "parameter", "shown"),
    [
        ({"RELAYCLIENT": ""}, b"AUTH=max+40x", b"(max@x@127"),
        ({"RELAYCLIENT": ""}, b"AUTH=<>", b"(unknown@127"),
        ({"RELAYCLIENT": "", "TCPREMOTEINFO": "i"}, b"AUTH=max", b"(i@127"),
        ({}, b"AUTH=max", b"(127"),
    ],
)
def test_who_has_written_a_message_is_believed_of_a_relay(
    variables: dict[str, str], parameter: bytes, shown: bytes, mailhost: Mailhost
) -> None:
    session(mailhost, b"MAIL FROM:<s@x> " + parameter + b"\r\nRCPT TO:<r@y>\r\nDATA\r\n.\r\n", **variables)
    assert mailhost.queued(received=True)[0][2].startswith(b"Received: from unknown " + shown)


# Control files


@pytest.mark.parametrize("name", ["me", "rcpthosts", "badmailfrom", "databytes", "morercpthosts.cdb", "rcptcheck"])
def test_a_control_file_that_cannot_be_read_ends_it_before_the_greeting(name: str, mailhost: Mailhost) -> None:
    mailhost.control(rcpthosts=b"x")
    path = mailhost.path / "control" / name
    path.unlink(missing_ok=True)
    path.symlink_to(name)
    done = mailhost.run([SMTPD])
    assert (done.returncode, done.stdout) == (1, b"421 unable to read controls (#4.3.0)\r\n")
    assert done.stderr.startswith(b"qmail-smtpd: fatal: unable to read control/" + name.encode() + b": ")


def test_without_a_home_or_a_name_there_is_no_greeting(mailhost: Mailhost) -> None:
    done = mailhost.run([SMTPD], env=mailhost.environment(QMAILHOME="/nowhere"))
    assert (done.returncode, done.stdout) == (1, b"421 unable to read controls (#4.3.0)\r\n")
    (mailhost.path / "control" / "me").unlink()
    assert mailhost.run([SMTPD]).stdout == b"421 unable to read controls (#4.3.0)\r\n"
    mailhost.control(smtpgreeting=b"hello \n")
    assert mailhost.run([SMTPD]).stdout == b"220 hello ESMTP\r\n"


def test_hosts_in_morercpthosts_are_taken_besides(mailhost: Mailhost) -> None:
    mailhost.control(rcpthosts=b"a", morercpthosts=b"# more\nB.test \n.c.test")
    newmrh = run([BIN / "qmail-newmrh"], env=mailhost.environment())
    assert (newmrh.returncode, newmrh.stderr) == (0, b"")
    sent = b"MAIL FROM:<>\r\n" + b"".join(
        b"RCPT TO:<x@%b>\r\n" % host for host in (b"A", b"b.test", b"d.C.test", b"c.test")
    )
    replies = session(mailhost, sent)[0].split(b"\r\n")
    assert [reply[:3] for reply in replies[:-2]] == [b"250"] * 4 + [b"553"]


def test_a_broken_morercpthosts_is_try_later(mailhost: Mailhost) -> None:
    mailhost.control(rcpthosts=b"a", **{"morercpthosts.cdb": b"no cdb"})
    answers, log = session(mailhost, ENVELOPE)
    assert answers == b"250 ok\r\n421 unable to read controls (#4.3.0)\r\n"
    assert b"morercpthosts.cdb: protocol error" in log


@pytest.mark.parametrize(("value", "reply"), [("3", b"250"), ("2", b"552"), ("x", b"250"), ("2x", b"552")])
def test_databytes_of_the_environment_comes_before_that_of_the_file(
    value: str, reply: bytes, mailhost: Mailhost
) -> None:
    mailhost.control(databytes=b"1")
    answers, log = session(mailhost, ENVELOPE + b"DATA\r\nab\r\n.\r\n", DATABYTES=value)
    assert last(answers).startswith(reply)
    assert (b"not queued: 552" in log) == (reply == b"552")


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        (b"127.0.0.1", b"r@local"),
        (b"0.0.0.0", b"r@local"),
        (b"192.0.2.1", b"r@[192.0.2.1]"),
        (b"IPv6:::1", b"r@local"),
        (b"IPv6:2001:db8::1", b"r@[IPv6:2001:db8::1]"),
    ],
)
def test_an_address_of_this_host_is_replaced_by_its_name(address: bytes, wanted: bytes, mailhost: Mailhost) -> None:
    if b":1" in address and wanted == b"r@local" and not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback address")
    mailhost.control(localiphost=b"local")
    session(mailhost, b"MAIL FROM:<>\r\nRCPT TO:<r@[" + address + b"]>\r\nDATA\r\n.\r\n")
    assert mailhost.queued()[0][1] == [wanted]


MAPPED = [*[0] * 10, 255, 255]


def test_an_address_of_a_group_is_nobodys() -> None:
    for ip in (
        [224, 0, 0, 1],
        [239, 1, 2, 3],
        [255, 255, 255, 255],
        [127, 255, 255, 255],
        [0xFF, 2, *[0] * 13, 1],
        [*MAPPED, 224, 0, 0, 1],
    ):
        assert not qmail_smtpd.is_mine(bytes(ip))


def test_where_any_address_can_be_bound_only_that_of_the_connection_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = tmp_path / "setting"
    for name in ("NONLOCAL_4", "NONLOCAL_6"):
        monkeypatch.setattr(qmail_smtpd, name, str(setting))
    for text in ("0\n", "1\n"):
        setting.write_text(text)
        assert qmail_smtpd.is_mine(bytes((127, 0, 0, 1)))
        assert not qmail_smtpd.is_mine(bytes((192, 0, 2, 1)))
        assert not qmail_smtpd.is_mine(bytes((*MAPPED, 192, 0, 2, 1)))
    assert not qmail_smtpd.is_mine(bytes(4))  # which a bind would let through


def test_the_local_address_of_the_connection_is_ours(mailhost: Mailhost) -> None:
    mailhost.control(localiphost=b"local")
    sent = b"MAIL FROM:<>\r\nRCPT TO:<r@[192.0.2.9]>\r\nRCPT TO:<r@[192.0.2.8]>\r\nDATA\r\n.\r\n"
    session(mailhost, sent, TCPLOCALIP="192.0.2.9")
    assert mailhost.queued()[0][1] == [b"r@local", b"r@[192.0.2.8]"]


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_no_timeout_is_too_long(mailhost: Mailhost) -> None:
    mailhost.control(timeoutsmtpd=b"99999999999999")
    assert session(mailhost, b"NOOP\r\n")[0].startswith(b"250 ok")


def test_a_silent_client_is_told_and_left(mailhost: Mailhost) -> None:
    mailhost.control(timeoutsmtpd=b"0")
    with Talk(mailhost, [SMTPD]) as talk:
        assert talk.rest() == GREETING + b"451 timeout (#4.4.2)\r\n"
        assert talk.end() == (1, b"qmail-smtpd: 127.0.0.1 ended: 451 timeout (#4.4.2)\n")


# The queue


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("exit 31", b"554 mail server permanently rejected message (#5.3.0)"),
        ("exit 53", b"451 qq write error or disk full (#4.3.0)"),
        ("kill -9 $$", b"451 qq crashed (#4.3.0)"),
        ("cat >/dev/null; printf 'Dno virus please' >&6; exit 82", b"554 no virus please"),
        ("cat >/dev/null; printf 'Zask again (#4.7.1)' >&6; exit 88", b"451 ask again (#4.7.1)"),
    ],
)
def test_a_program_in_place_of_qmail_queue_refuses_with_its_own_text(
    text: str, reply: bytes, mailhost: Mailhost
) -> None:
    queue = program(mailhost, text)
    answers, _ = session(mailhost, ENVELOPE + b"DATA\r\nx\r\n.\r\n", QMAILQUEUE=str(queue))
    assert last(answers) == reply


@pytest.mark.parametrize("smtpd", [str(SMTPD), *ORIGINALS])
@pytest.mark.parametrize("sent", [b"Subject: 1\r\n", b"x\r\n.\r", b"x\ny\r\n.\r\n"])
def test_what_has_no_proper_end_is_not_queued(smtpd: str, sent: bytes, mailhost: Mailhost) -> None:
    with Talk(mailhost, [smtpd]) as talk:
        talk.send(ENVELOPE + b"DATA\r\n" + sent)
        talk.socket.shutdown(socket.SHUT_WR)
        talk.rest()
        assert talk.end()[0] == 1
    assert list(mailhost.out.glob("*.envelope")) == []


def queue_at(host: Mailhost) -> Path:
    made = host.run([BIN / "qmail-make-queue"], env=host.environment())
    assert made.returncode == 0, made.stderr
    return host.path / "queue"


def test_two_messages_of_one_session_are_in_the_queue_itself(mailhost: Mailhost) -> None:
    queue = queue_at(mailhost)
    env = mailhost.environment()
    del env["QMAILQUEUE"]
    with Talk(mailhost, [SMTPD], env=env) as talk:
        talk.send((ENVELOPE + b"DATA\r\nx\r\n.\r\n") * 2 + b"QUIT\r\n")
        assert anonymous(talk.rest()).count(b"250 ok TIME qp PID\r\n") == 2
        assert talk.end() == (0, b"")
    todo = [path.read_bytes() for path in (queue / "todo").iterdir()]
    assert [text[-15:] for text in todo] == [b"Fs@x\0Tr@y\0"[-15:]] * 2 or all(
        t.endswith(b"Fs@x\0Tr@y\0") for t in todo
    )
    assert len(todo) == 2


def test_a_connection_that_is_cut_leaves_nothing_in_the_queue(mailhost: Mailhost) -> None:
    queue = queue_at(mailhost)
    env = mailhost.environment()
    del env["QMAILQUEUE"]
    with Talk(mailhost, [SMTPD], env=env) as talk:
        talk.send(ENVELOPE + b"DATA\r\n" + b"x\r\n" * 100000)
        talk.socket.shutdown(socket.SHUT_WR)
        talk.rest()
        assert talk.end() == (1, b"")
    assert [path for path in queue.rglob("*") if path.is_file() and path.parent.name != "lock"] == []


def test_a_large_message_takes_no_memory(mailhost: Mailhost) -> None:
    line = b"x" * 76 + b"\r\n"
    with Talk(mailhost, [SMTPD]) as talk:
        talk.send(ENVELOPE + b"DATA\r\n")
        while not talk.line().startswith(b"354"):
            pass
        talk.send(line * 1000)
        before = resident(talk.process.pid)
        for _ in range(100):
            talk.send(line * 1000)
        assert resident(talk.process.pid) - before < 1000
        talk.send(b".\r\nQUIT\r\n")
        assert anonymous(talk.rest()) == b"250 ok TIME qp PID\r\n221 mail.example\r\n"
    assert mailhost.queued()[0][2] == line.replace(b"\r", b"") * 101000


def resident(pid: int) -> int:
    """kB."""
    match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1])


# Recipient checks


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("exit 0", b"250 ok"),
        ("echo yes; exit 0", b"250 ok"),
        ("exit 100", b"550 sorry, no mailbox here by that name (#5.1.1)"),
        ("echo 'no (#5.1.6)'; echo more; exit 100", b"550 no (#5.1.6)"),
        ("printf 'a\\r\\nb'; exit 100", b"550 a"),
        ("printf 'a\\rb\\377'; exit 100", b"550 a?b?"),
        ("yes x | tr -d '\\n' | head -c 1000; exit 100", b"550 " + b"x" * 200),
        ("exit 111", b"451 unable to verify recipient (#4.3.0)"),
        ("echo greylisted; exit 111", b"451 greylisted"),
        ("echo secret; exit 1", b"451 unable to verify recipient (#4.3.0)"),
        ("kill -9 $$", b"451 unable to verify recipient (#4.3.0)"),
        ("sleep 30 2>&- & exit 100", b"550 sorry, no mailbox here by that name (#5.1.1)"),
    ],
)
def test_a_recipient_check_decides_by_its_exit_code(text: str, reply: bytes, mailhost: Mailhost) -> None:
    check = program(mailhost, text)
    assert last(session(mailhost, ENVELOPE, RCPTCHECK=str(check))[0]) == reply


def test_a_recipient_check_has_addresses_and_nothing_of_the_client(mailhost: Mailhost) -> None:
    code = 'echo "$@|$SENDER|$RECIPIENT|$HELO" > "$OUT/asked"; ls -l /proc/self/fd > "$OUT/fds"; exit 100'
    mailhost.control(rcptcheck=str(program(mailhost, code)).encode() + b" one two \n")
    session(mailhost, b"HELO h\r\nMAIL FROM:<>\r\nRCPT TO:<-r f@y>\r\n")
    assert (mailhost.out / "asked").read_text() == "one two  -r f@y||-r f@y|h\n"
    assert "socket" not in (mailhost.out / "fds").read_text()


@pytest.mark.parametrize("check", ["/nowhere/check", "nosuch-check", "/"])
def test_a_recipient_check_that_cannot_be_run_is_try_later(check: str, mailhost: Mailhost) -> None:
    answers, log = session(mailhost, ENVELOPE, RCPTCHECK=check)
    assert last(answers) == b"451 unable to verify recipient (#4.3.0)"
    assert log.startswith(b"qmail-smtpd: warning: unable to run " + check.encode())


def test_a_recipient_check_that_hangs_is_try_later(mailhost: Mailhost) -> None:
    check = program(mailhost, "exec sleep 100")
    argv = ["python3", "-IS", "-c", IMPATIENT, str(ROOT)]
    with Talk(mailhost, argv, env=mailhost.environment(RCPTCHECK=str(check))) as talk:
        talk.send(ENVELOPE + b"QUIT\r\n")
        assert b"451 unable to verify recipient (#4.3.0)\r\n" in talk.rest()


@pytest.mark.parametrize(
    ("code", "words"),
    [("exec yes", ()), ("wait", ("sh", "-c"))],
)
def test_what_hangs_is_killed_with_all_that_it_has_started(
    code: str, words: tuple[str, ...], mailhost: Mailhost
) -> None:
    """Also if it never stops talking."""
    code = 'sleep 100 & echo $! > "$OUT/inner"; ' + code
    argv = ["python3", "-IS", "-c", IMPATIENT, str(ROOT), *([*words, code] if words else [])]
    sent = PLAIN if words else ENVELOPE
    with Talk(mailhost, argv, env=mailhost.environment(RCPTCHECK=str(program(mailhost, code)))) as talk:
        talk.send(sent + b"QUIT\r\n")
        answers = talk.rest()
    assert b"454 " in answers if words else b"451 unable to verify recipient (#4.3.0)\r\n" in answers
    inner = int((mailhost.out / "inner").read_text())
    assert eventually(lambda: not processes.started(inner))


@pytest.mark.parametrize("text", [b"", b"\n/check\n", b" \t\n"])
def test_a_file_rcptcheck_without_a_word_is_no_wish_for_no_check(text: bytes, mailhost: Mailhost) -> None:
    (mailhost.path / "control" / "rcptcheck").write_bytes(text)
    done = mailhost.run([SMTPD], b"QUIT\r\n")
    assert (done.returncode, done.stdout) == (1, b"421 unable to read controls (#4.3.0)\r\n")
    assert done.stderr.startswith(b"qmail-smtpd: fatal: unable to read control/rcptcheck: ")
    assert session(mailhost, ENVELOPE, RCPTCHECK="")[0].startswith(b"250 ok")


def test_a_check_is_for_recipients_here_only(mailhost: Mailhost) -> None:
    mailhost.control(rcpthosts=b"here")
    assert last(session(mailhost, ENVELOPE, RCPTCHECK="/nowhere")[0]).startswith(b"553 ")
    assert last(session(mailhost, ENVELOPE, RCPTCHECK="/nowhere", RELAYCLIENT="")[0]) == b"250 ok"
    mailhost.control(rcptcheck=b"/nowhere")
    assert last(session(mailhost, b"MAIL FROM:<>\r\nRCPT TO:<x@here>\r\n", RCPTCHECK="")[0]) == b"250 ok"


# AUTH: the arguments


def offered(answers: bytes) -> bytes:
    return b"".join(line for line in answers.split(b"\r\n") if line.startswith(b"250-AUTH"))


@pytest.mark.parametrize(
    "words", [(CHECKER, "true"), ("host.test", CHECKER, "true"), ("checkpassword-flatfile", "true")]
)
def test_both_forms_of_arguments_offer_auth(words: tuple[str, ...], mailhost: Mailhost) -> None:
    answers, log = session(mailhost, b"EHLO x\r\n" + PLAIN, *words)
    assert offered(answers) == b"250-AUTH LOGIN PLAIN"
    assert b"235 " in answers
    assert log == b""


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("host.test",), b"there is no checker behind the host name host.test"),
        (("host.test", "true"), b"true cannot be the checker: give HOST CHECKER true, or CHECKER true"),
        (("true",), b"true cannot be the checker: give HOST CHECKER true, or CHECKER true"),
        (("true", "true"), b"true cannot be the checker: give HOST CHECKER true, or CHECKER true"),
        (("/bin/true", "/bin/true"), b"/bin/true cannot be the checker: give HOST CHECKER true, or CHECKER true"),
        ((CHECKER,), CHECKER.encode() + b" cannot be the checker: give HOST CHECKER true, or CHECKER true"),
        (("missing-checker", "true"), b"true cannot be the checker: give HOST CHECKER true, or CHECKER true"),
        (("host.test", "missing-checker", "true"), b"unable to find missing-checker"),
    ],
)
def test_wrong_arguments_offer_no_auth_and_say_why(words: tuple[str, ...], why: bytes, mailhost: Mailhost) -> None:
    answers, log = session(mailhost, b"EHLO x\r\nHELO x\r\n" + PLAIN, *words)
    assert offered(answers) == b""
    assert last(answers) == b"503 auth not available (#5.3.3)"
    assert log == b"qmail-smtpd: warning: AUTH is not offered: " + why + b"\n"


@pytest.mark.parametrize("words", [("echo", "true"), ("host.test", "env", "true"), ("sh", "-c", "exit 0")])
def test_a_program_that_accepts_without_looking_lets_nobody_in(words: tuple[str, ...], mailhost: Mailhost) -> None:
    answers, log = session(mailhost, PLAIN + b"MAIL FROM:<>\r\n", *words)
    assert b"454 oops, problem with child and I can't auth (#4.3.0)\r\n" in answers
    assert b"235" not in answers
    assert b"accepts everybody: it does not read descriptor 3" in log


@pytest.mark.parametrize(
    ("smtpauth", "line"),
    [
        ("", b"250-AUTH LOGIN PLAIN"),
        ("any", b"250-AUTH LOGIN PLAIN"),
        ("cram", b"250-AUTH CRAM-MD5"),
        ("+cram", b"250-AUTH LOGIN PLAIN CRAM-MD5"),
        ("!+cram", b"250-AUTH LOGIN PLAIN CRAM-MD5"),
        ("-", b""),
        ("0", b""),
    ],
)
def test_smtpauth_names_the_mechanisms(smtpauth: str, line: bytes, mailhost: Mailhost) -> None:
    answers, log = session(mailhost, b"EHLO x\r\nMAIL FROM:<>\r\n", CHECKER, "true", SMTPAUTH=smtpauth)
    assert offered(answers) == line
    assert (b"530 5.7.1 Authorization required (#5.7.1) \r\n" in answers) == smtpauth.startswith("!")
    assert log == b""


@pytest.mark.parametrize(
    ("variables", "allowed"),
    [
        ({}, False),
        ({"TCPREMOTEIP": "127.9.9.9"}, True),
        ({"TCPREMOTEIP": "::1"}, True),
        ({"ALLOW_INSECURE_AUTH": "1"}, True),
        ({"ALLOW_INSECURE_AUTH": "0"}, False),
        ({"SSL_PROTOCOL": "TLSv1.3"}, True),
        ({"SSL": ""}, False),
        ({"SSL": "0"}, False),
        ({"SSL": "1"}, True),
        ({"SSL_PROTOCOL": "0"}, False),
        ({"PROTO": "SSL"}, True),
    ],
)
def test_auth_is_offered_where_nobody_can_listen(variables: dict[str, str], allowed: bool, mailhost: Mailhost) -> None:
    variables = {"TCPREMOTEIP": "192.0.2.1", **variables}
    answers, _ = session(mailhost, b"EHLO x\r\n" + PLAIN, CHECKER, "true", **variables)
    assert (offered(answers) != b"") == allowed
    assert (b"\r\n235 " in answers) == allowed


# AUTH: the checker


def checker(code: str) -> tuple[str, ...]:
    return ("sh", "-c", code)


@pytest.mark.parametrize(
    ("sent", "packet"),
    [
        (PLAIN, b"max\0secret\0\0"),
        (b"AUTH LOGIN\r\nbWF4\r\nc2VjcmV0\r\n", b"max\0secret\0\0"),
        (
            b"AUTH CRAM-MD5\r\n" + base64.b64encode(b"max " + b"0a" * 16) + b"\r\n",
            b"max\0" + b"0a" * 16 + b"\0<PID.TIME@h>\0",
        ),
    ],
)
def test_the_packet_on_descriptor_3(sent: bytes, packet: bytes, mailhost: Mailhost) -> None:
    words = ("h", *checker('cat <&3 >"$OUT/packet"'))
    answers, _ = session(mailhost, sent, *words, SMTPAUTH="+cram")
    assert last(answers) == b"235 ok, go ahead (#2.0.0)"
    assert anonymous((mailhost.out / "packet").read_bytes()) == packet


def test_the_checker_has_neither_the_connection_nor_an_ignored_sigpipe(mailhost: Mailhost) -> None:
    code = 'ls -l /proc/self/fd >"$OUT/fds"; grep SigIgn /proc/self/status >"$OUT/signals"; cat <&3; echo said'
    answers, _ = session(mailhost, PLAIN, *checker(code))
    assert answers == b"235 ok, go ahead (#2.0.0)\r\n221 mail.example\r\n"
    assert "socket" not in (mailhost.out / "fds").read_text()
    assert int((mailhost.out / "signals").read_text().split()[1], 16) & 1 << 12 == 0


@pytest.mark.parametrize(
    ("code", "reply", "log"),
    [
        ("exit 1", b"535 authentication failed (#5.7.1)", b"auth failed"),
        ("exit 3", b"535 authentication failed (#5.7.1)", b"auth failed"),
        ("exit 2", b"454 oops, problem with child and I can't auth (#4.3.0)", b"sh exited 2"),
        ("exit 111", b"454 oops, problem with child and I can't auth (#4.3.0)", b"sh exited 111"),
        ("kill -9 $$", b"454 oops, problem with child and I can't auth (#4.3.0)", b"sh was killed by signal 9"),
    ],
)
def test_what_the_client_hears_when_the_checker_has_ended(
    code: str, reply: bytes, log: bytes, mailhost: Mailhost
) -> None:
    answers, said = session(mailhost, PLAIN, *checker("cat <&3 >/dev/null; " + code), AUTHDELAY="0")
    assert last(answers) == reply
    assert log in said
    assert b"secret" not in said


def test_a_checker_that_hangs_is_ended(mailhost: Mailhost) -> None:
    argv = ["python3", "-IS", "-c", IMPATIENT, str(ROOT), "sh", "-c", "exec sleep 100"]
    with Talk(mailhost, argv) as talk:
        talk.send(PLAIN + b"QUIT\r\n")
        assert b"454 oops, problem with child and I can't auth (#4.3.0)\r\n" in talk.rest()
        assert b"sh did not end" in talk.end()[1]


def test_a_name_too_long_for_any_checker_is_wrong_without_one(mailhost: Mailhost) -> None:
    sent = b"AUTH PLAIN " + base64.b64encode(b"\0" + b"x" * 600 + b"\0y") + b"\r\n"
    answers, log = session(mailhost, sent, *checker('touch "$OUT/ran"; cat <&3'), AUTHDELAY="0")
    assert last(answers) == b"535 authentication failed (#5.7.1)"
    assert log == b"qmail-smtpd: 127.0.0.1 auth failed: user " + b"x" * 64 + b" mechanism PLAIN\n"
    assert not (mailhost.out / "ran").exists()


def test_a_failed_login_is_one_fixed_line_that_fail2ban_finds(mailhost: Mailhost) -> None:
    variables = {"TCPREMOTEIP": "2001:db8::7", "ALLOW_INSECURE_AUTH": "1", "AUTHDELAY": "0"}
    _, log = session(mailhost, WRONG, CHECKER, "true", **variables)
    assert log == b"qmail-smtpd: 2001:db8::7 auth failed: user m\\x20x\\x5c\\xff mechanism PLAIN\n"
    for before in ("", " ", " host smtpd[1]: ", "host.example smtpd: ", "@400000005f0000002f000000 "):
        found = re.search(filter_expression(), before + log.decode().rstrip())
        assert found is not None
        assert found["ip"] == "2001:db8::7"
    if shutil.which("fail2ban-regex"):
        line = "@400000005f0000002f000000 " + log.decode().rstrip()
        done = run(["fail2ban-regex", line, ROOT / "doc" / "fail2ban" / "qmail-smtpd.conf"])
        assert b"1 matched, 0 missed" in done.stdout


def filter_expression() -> str:
    text = (ROOT / "doc" / "fail2ban" / "qmail-smtpd.conf").read_text()
    match = re.search(r"^failregex = (.*)$", text, re.MULTILINE)
    assert match is not None
    return match[1].replace("<ADDR>", r"(?P<ip>[0-9a-fA-F.:]+)")


def test_no_name_of_a_user_looks_like_another_address_to_fail2ban(mailhost: Mailhost) -> None:
    sent = b"AUTH PLAIN " + base64.b64encode(b"\0x qmail-smtpd: 6.6.6.6 auth failed: user y\0wrong") + b"\r\n"
    _, log = session(mailhost, sent, CHECKER, "true", AUTHDELAY="0")
    assert log.count(b" qmail-smtpd: ") == 0


def test_the_wait_after_a_wrong_password_ends_when_the_client_leaves(mailhost: Mailhost) -> None:
    with Talk(mailhost, [SMTPD, CHECKER, "true"], env=mailhost.environment(AUTHDELAY="1000")) as talk:
        talk.send(WRONG)
        talk.line()
        assert talk.process.stderr is not None
        assert b"auth failed" in talk.process.stderr.readline()
        talk.socket.close()
        assert talk.end()[0] == 1


@pytest.mark.parametrize("cold", ["", "1"])
def test_the_password_is_in_no_memory_behind_the_login(cold: str, mailhost: Mailhost) -> None:
    secret = bytes(33 + number * 7 % 90 for number in range(200))
    response = base64.b64encode(b"\0max\0" + secret)
    with Talk(mailhost, [SMTPD, *checker("cat <&3 >/dev/null")], env=mailhost.environment(QMAILPY_COLD=cold)) as talk:
        talk.send(b"AUTH PLAIN\r\n")
        talk.line()
        talk.send(response[:100])
        talk.send(response[100:] + b"\r\n")
        while not talk.line().startswith(b"235"):
            pass
        for pid in family(talk.process.pid):
            assert memory(pid, b"qmail-smtpd")
            for part in (secret[16:28], response[16:40]):  # of memory that was freed the first bytes are overwritten
                assert not memory(pid, part)


# Before the greeting


def test_a_client_that_speaks_before_the_greeting_is_refused(mailhost: Mailhost) -> None:
    env = mailhost.environment(GREETDELAY="1000", DROP_PRE_GREET="1")
    with Talk(mailhost, [SMTPD], ahead=b"EHLO x\r\n", env=env) as talk:
        assert talk.rest() == b"554 SMTP protocol violation\r\n"
        assert talk.end() == (1, b"qmail-smtpd: 127.0.0.1 sent something before the greeting\n")


def test_a_client_that_waits_is_greeted_and_one_that_leaves_is_not_waited_for(mailhost: Mailhost) -> None:
    assert session(mailhost, b"NOOP\r\n", GREETDELAY="1")[0] == b"250 ok\r\n221 mail.example\r\n"
    for drop in ("", "1"):
        with Talk(mailhost, [SMTPD], env=mailhost.environment(GREETDELAY="1000", DROP_PRE_GREET=drop)) as talk:
            talk.socket.close()
            assert talk.end() == (1, b"")


def test_a_client_that_will_say_no_more_is_greeted_and_answered(mailhost: Mailhost) -> None:
    with Talk(mailhost, [SMTPD], ahead=b"NOOP\r\nQUIT\r\n", env=mailhost.environment(GREETDELAY="1")) as talk:
        talk.socket.shutdown(socket.SHUT_WR)
        assert talk.rest() == GREETING + b"250 ok\r\n221 mail.example\r\n"
    with Talk(mailhost, [SMTPD, CHECKER, "true"], env=mailhost.environment(AUTHDELAY="1")) as talk:
        talk.send(WRONG + b"QUIT\r\n")
        talk.socket.shutdown(socket.SHUT_WR)
        assert b"535 authentication failed (#5.7.1)\r\n" in talk.rest()


# Hostile clients


def test_an_end_that_is_no_quit_is_logged_with_the_last_command(mailhost: Mailhost) -> None:
    _, log = session(mailhost, b"XX\r\n" * 3, MAXUNKNOWN="3")
    wanted = b"ended: 421 too many unknown commands, goodbye (#4.7.0), after an unknown command\n"
    assert log == b"qmail-smtpd: 127.0.0.1 " + wanted
    _, log = session(mailhost, b"RCPT TO:<\x1b x>\r\n", MAXERRORS="1")
    assert log.endswith(b", after RCPT\n")


def test_no_word_of_the_client_but_names_of_users_is_logged(mailhost: Mailhost) -> None:
    """Or fail2ban would shut out whomever the client names."""
    forged = b"RCPT TO:<qmail-smtpd: 6.6.6.6 auth failed: user x mechanism PLAIN\r\n"
    _, log = session(mailhost, forged, MAXERRORS="1")
    assert log.endswith(b" goodbye (#4.7.0), after RCPT\n")
    for line in (b"qmail-smtpd: 127.0.0.1 ended: 421 x, after " + forged, b"x " + forged[9:], b"a b c: " + forged[9:]):
        assert re.search(filter_expression(), line.decode().rstrip()) is None


def test_the_last_reply_is_followed_by_the_end_and_not_by_a_reset(mailhost: Mailhost) -> None:
    with Talk(mailhost, [SMTPD], tcp=True) as talk:
        talk.send(ENVELOPE + b"DATA\r\nx\n" + b"x" * 10000)
        assert talk.rest().endswith(b"451 See https://cr.yp.to/docs/smtplf.html.\r\n")


def test_a_flood_of_commands_is_answered_in_order(mailhost: Mailhost) -> None:
    with Talk(mailhost, [SMTPD]) as talk:
        for _ in range(20):
            talk.send(b"NOOP\r\nXX\r\n" * 100)
            assert b"".join(talk.line() for _ in range(200)).count(b"250 ok\r\n502 ") >= 99


def test_a_client_that_is_gone_is_no_trouble(mailhost: Mailhost) -> None:
    done = mailhost.run([SMTPD], ENVELOPE)
    assert (done.returncode, done.stderr) == (1, b"")
    for closed in ("0<&-", "1>&-", "0<&- 1>&- 2>&-"):
        assert mailhost.run(["sh", "-c", f'exec "$0" {closed}', SMTPD]).returncode == 1


VERBS = st.sampled_from(
    [b"HELO x", b"MAIL FROM:", b"RCPT TO:", b"DATA", b"RSET", b"noop", b"VRFY", b"QUIT", b"XX", b""]
)
ARGUMENTS = st.sampled_from([b"", b" x ", b"<a@b>", b'<"a b"@[127.0.0.1]>', b"<@r:\\a@c.d", b" x@y z", b"\0", b"\xff"])
ENDS = st.sampled_from([b"\r\n"] * 5 + [b"\n", b" \r\r\n"])
LINES = st.tuples(VERBS, ARGUMENTS, ENDS).map(b"".join)
MESSAGES = st.lists(st.sampled_from([b"x", b"\r\n", b".", b"..", b"\0", b"Received:", b"\r\nx"]), max_size=8).map(
    b"".join
)
WHOLE = MESSAGES.map(lambda text: ENVELOPE + b"DATA\r\n" + text + b"\r\n.\r\n")
SESSIONS = st.lists(st.one_of(LINES, WHOLE), max_size=8).map(b"".join)

if ORIGINALS:

    @settings(max_examples=100)
    @given(sent=SESSIONS)
    def test_any_session_is_that_of_the_original(sent: bytes) -> None:
        sent = b"noop\n" + sent  # whoever has done that may go on so
        with made() as host:
            host.control(rcpthosts=b"b\n.d\ny", badmailfrom=b"x@y")
            found = []
            for smtpd in (str(SMTPD), ORIGINALS[0]):
                for path in host.out.iterdir():
                    path.unlink()
                with original_control(host):
                    done = host.run([smtpd], sent)
                found.append((anonymous(done.stdout), done.returncode, host.queued()))
            assert found[0] == found[1]


# STARTTLS


def extensions(talk: Talk) -> set[bytes]:
    """The words of EHLO."""
    talk.send(b"EHLO h\r\n")
    found = set()
    while not (line := talk.line()).startswith(b"250 "):
        found.add(line[4:].split()[0])
    return found


def asked(talk: Talk, line: bytes) -> bytes:
    talk.send(line + b"\r\n")
    return talk.line()


def begin(talk: TlsTalk) -> None:
    assert asked(talk, b"STARTTLS") in (b"220 ready for tls\r\n", b"220 2.0.0 ready for tls\r\n")
    assert talk.secure().startswith("TLSv1.")


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("pipes", [False, True])
def test_behind_starttls_login_and_mail_are_under_tls(
    pipes: bool, stays: bool, mailhost: Mailhost, certificate: Path
) -> None:
    mailhost.control(rcpthosts=b"none")
    argv: list[str | Path] = [SMTPD, CHECKER, "true"]
    with TlsTalk(mailhost, argv, certificate, pipes, stays, variables={"TCPLOCALHOST": "l"}) as talk:
        assert talk.line() == GREETING
        found = extensions(talk)
        assert b"STARTTLS" in found
        assert b"AUTH" not in found
        assert asked(talk, PLAIN[:-2]) == b"538 5.3.3 auth not available without TLS (#5.3.3)\r\n"
        begin(talk)
        found = extensions(talk)
        assert b"STARTTLS" not in found
        assert b"AUTH" in found
        talk.send(PLAIN + ENVELOPE + b"DATA\r\n")
        for code in (b"235", b"250", b"250", b"354"):
            assert talk.line().startswith(code + b" ")
        talk.send(b"x\r\n.\r\nQUIT\r\n")
        assert talk.line().startswith(b"250 2.0.0 ok ")
        assert talk.rest() == b"221 2.0.0 mail.example\r\n"
        assert talk.end() == (0, b"")
        assert talk.joined() == b"Y"
    ((_, recipients, text),) = mailhost.queued(received=True)
    assert recipients == [b"r@y"]
    how = rb" \(HELO h\) \(max@192\.0\.2\.7\)\n  by l with ESMTPSA \(TLSv1\.\d TLS_AES_\w+ encrypted\); "
    assert re.match(b"Received: from unknown" + how, text)


def test_starttls_makes_it_forget_everything_but_what_it_counts(mailhost: Mailhost, certificate: Path) -> None:
    mailhost.control(rcpthosts=b"y")
    changes = {"TCPREMOTEIP": "127.0.0.1", "MAXUNKNOWN": "2", "TCPREMOTEINFO": "before"}
    with TlsTalk(mailhost, [SMTPD, CHECKER, "true"], certificate, variables=changes) as talk:
        talk.line()
        extensions(talk)
        assert asked(talk, b"FOO").startswith(b"502 ")
        assert asked(talk, PLAIN[:-2]).startswith(b"235 ")
        assert asked(talk, b"MAIL FROM:<evil@x>").startswith(b"250 ")
        assert asked(talk, b"RCPT TO:<evil@elsewhere>").startswith(b"250 ")
        begin(talk)
        assert asked(talk, b"RCPT TO:<r@y>") == b"503 MAIL first (#5.5.1)\r\n"
        assert asked(talk, b"DATA") == b"503 MAIL first (#5.5.1)\r\n"
        assert asked(talk, b"MAIL FROM:<s@x>") == b"250 ok\r\n"
        assert asked(talk, b"RCPT TO:<evil@elsewhere>").startswith(b"553 ")
        assert asked(talk, b"RCPT TO:<r@y>") == b"250 ok\r\n"
        assert asked(talk, b"DATA") == b"354 go ahead\r\n"
        assert asked(talk, b"x\r\n.").startswith(b"250 ")
        assert asked(talk, b"STARTTLS") == b"502 unimplemented (#5.5.1)\r\n"
        assert talk.rest() == b"421 too many unknown commands, goodbye (#4.7.0)\r\n"
    ((_, _, text),) = mailhost.queued(received=True)
    assert text.startswith(b"Received: from unknown (before@127.0.0.1)\n  by unknown with ESMTPS (")


INJECTED = [
    b"MAIL FROM:<evil@x>\r\n",
    b"MAIL FROM:<evil@x>\r\nRCPT TO:<evil@y>\r\nDATA\r\nevil\r\n.\r\n",
    b"QUIT\r\n",
    b"EHLO evil\r\n",
    b"RSET",
    b"\x16\x03\x01\0\5evil!",
]


@pytest.mark.parametrize("ahead", [b"", b"EHLO h\r\n", b"RSET\r\n"])
@pytest.mark.parametrize("injected", INJECTED)
def test_what_is_sent_ahead_of_tls_is_thrown_away(
    injected: bytes, ahead: bytes, mailhost: Mailhost, certificate: Path
) -> None:
    """CVE-2011-0411: it would be taken for the client's own words, under TLS."""
    with TlsTalk(mailhost, [SMTPD], certificate) as talk:
        talk.line()
        talk.send(ahead + b"STARTTLS\r\n" + injected)
        while not (line := talk.line()).endswith(b"ready for tls\r\n"):
            assert line.startswith(b"250")
        talk.secure()
        assert asked(talk, b"RCPT TO:<r@y>") == b"503 MAIL first (#5.5.1)\r\n"
        talk.send(b"QUIT\r\n")
        assert talk.rest() == b"221 mail.example\r\n"
    assert mailhost.queued() == []


@pytest.mark.parametrize("injected", INJECTED)
def test_what_is_sent_ahead_byte_by_byte_is_thrown_away_or_breaks_the_handshake(
    injected: bytes, mailhost: Mailhost, certificate: Path
) -> None:
    with TlsTalk(mailhost, [SMTPD], certificate) as talk:
        talk.line()
        for byte in b"STARTTLS\r\n" + injected:
            with contextlib.suppress(OSError):
                talk.send(bytes((byte,)))
        assert talk.line() == b"220 ready for tls\r\n"
        try:
            talk.secure()
        except OSError:
            assert talk.end() == (1, b"")
        else:
            assert asked(talk, b"RCPT TO:<r@y>") == b"503 MAIL first (#5.5.1)\r\n"
    assert mailhost.queued() == []


@pytest.mark.parametrize("changes", [{"UCSPITLS": "-"}, {"DISABLETLS": "1"}, {"DENY_TLS": "1"}])
def test_starttls_can_be_turned_off(changes: dict[str, str], mailhost: Mailhost, certificate: Path) -> None:
    with TlsTalk(mailhost, [SMTPD], certificate, variables=changes) as talk:
        talk.line()
        assert talk.joined() == b""  # at once
        assert b"STARTTLS" not in extensions(talk)
        assert asked(talk, b"STARTTLS") == b"502 5.5.1 unimplemented (#5.5.1)\r\n"


@pytest.mark.parametrize("changes", [{"UCSPITLS": "!"}, {"FORCE_TLS": "1"}])
def test_mail_and_auth_can_be_made_to_need_tls(changes: dict[str, str], mailhost: Mailhost, certificate: Path) -> None:
    clear = {"TCPREMOTEIP": "127.0.0.1", "ALLOW_INSECURE_AUTH": "1", **changes}
    with TlsTalk(mailhost, [SMTPD, CHECKER, "true"], certificate, variables=clear) as talk:
        talk.line()
        assert b"AUTH" not in extensions(talk)
        assert asked(talk, b"MAIL FROM:<a@b>") == b"530 5.7.0 Must issue a STARTTLS command first (#5.7.0)\r\n"
        assert asked(talk, PLAIN[:-2]).startswith(b"538 ")
        begin(talk)
        assert asked(talk, PLAIN[:-2]).startswith(b"235 ")
        assert asked(talk, b"MAIL FROM:<a@b>") == b"250 ok\r\n"
    answers, _ = session(mailhost, b"MAIL FROM:<a@b>\r\n", TCPREMOTEIP="127.0.0.1", **changes)
    assert last(answers).startswith(b"530 ")
    answers, _ = session(mailhost, b"MAIL FROM:<a@b>\r\n", SSL_PROTOCOL="TLSv1.3", **changes)
    assert last(answers) == b"250 ok"


def test_where_mail_needs_a_login_the_client_hears_that_this_needs_tls(mailhost: Mailhost, certificate: Path) -> None:
    with TlsTalk(mailhost, [SMTPD, CHECKER, "true"], certificate, variables={"SMTPAUTH": "!"}) as talk:
        talk.line()
        assert asked(talk, b"MAIL FROM:<a@b>") == b"530 Must issue a STARTTLS command first (#5.7.0)\r\n"
        begin(talk)
        assert asked(talk, b"MAIL FROM:<a@b>") == b"530 Authorization required (#5.7.1) \r\n"
        assert asked(talk, PLAIN[:-2]).startswith(b"235 ")
        assert asked(talk, b"MAIL FROM:<a@b>") == b"250 ok\r\n"


@pytest.mark.parametrize(
    ("changes", "found"),
    [({}, False), ({"FORCETLS": "1"}, False), ({"FORCETLS": "0"}, True), ({"ALLOW_INSECURE_AUTH": "1"}, True)],
)
def test_auth_without_tls_is_the_administrators_word(
    changes: dict[str, str], found: bool, mailhost: Mailhost, certificate: Path
) -> None:
    with TlsTalk(mailhost, [SMTPD, CHECKER, "true"], certificate, variables=changes) as talk:
        talk.line()
        assert (b"AUTH" in extensions(talk)) is found


def test_no_other_program_gets_the_descriptors_of_tls(mailhost: Mailhost, certificate: Path) -> None:
    mailhost.control(rcpthosts=b"y")
    show = '(env | grep ^SSL; echo "$(ls /proc/self/fd | tr "\\n" " ")") > "$OUT/$1"\n'
    check = program(mailhost, show.replace("$1", "check"), "check")
    queue = program(mailhost, show.replace("$1", "queue") + f"exec {mailhost.recorder}", "queue")
    changes = {"RCPTCHECK": str(check), "QMAILQUEUE": str(queue)}
    for secured in (False, True):
        with TlsTalk(mailhost, [SMTPD], certificate, variables=changes) as talk:
            talk.line()
            if secured:
                begin(talk)
            talk.send(ENVELOPE + b"DATA\r\nx\r\n.\r\nQUIT\r\n")
            assert talk.rest().count(b"250 ok") == 3
            assert talk.joined() == (b"Y" if secured else b"")
        for name in ("check", "queue"):
            *variables, descriptors = (mailhost.out / name).read_text().splitlines()
            found = {line.partition("=")[0] for line in variables}
            assert found == ({"SSL_PROTOCOL", "SSL_CIPHER"} if secured else set())
            assert set(descriptors.split()) <= {"0", "1", "2", "3", "6"}, name


def test_starttls_with_words_behind_it_or_without_a_tls_process_is_refused(
    mailhost: Mailhost, certificate: Path
) -> None:
    with TlsTalk(mailhost, [SMTPD], certificate, gone=True) as talk:
        talk.line()
        talk.send(b"STARTTLS now\r\nSTARTTLS\r\nEHLO h\r\n")
        assert talk.line() == b"501 Syntax error (no parameters allowed) (#5.5.4)\r\n"
        assert talk.line() == b"454 TLS not available due to temporary reason (#4.7.0)\r\n"
        assert talk.line() == b"250-mail.example\r\n"
        assert talk.line() == b"250-PIPELINING\r\n"
        talk.send(b"QUIT\r\n")
        assert talk.end() == (0, b"qmail-smtpd: warning: unable to start TLS: nobody is left on SSLCTLFD\n")


def test_a_handshake_that_fails_ends_the_session_without_a_word(mailhost: Mailhost, certificate: Path) -> None:
    with TlsTalk(mailhost, [SMTPD], certificate) as talk:
        talk.line()
        asked(talk, b"STARTTLS")
        talk.send(b"EHLO h\r\n" * 10)
        with contextlib.suppress(ConnectionResetError):
            assert b"250" not in talk.rest()
        assert talk.end() == (1, b"")


def test_what_is_encrypted_otherwise_is_received_as_that(mailhost: Mailhost) -> None:
    mailhost.control(rcpthosts=b"y")
    sent = ENVELOPE + b"DATA\r\nx\r\n.\r\n"
    session(mailhost, sent, SSL_PROTOCOL="TLSv1.2", SSL_CIPHER="ECDHE-RSA-AES128 (x)")
    session(mailhost, sent, SSL="1")
    control, other = socket.socketpair()
    with control, other:  # as by ucspi-ssl, which names descriptors where TLS has begun, too
        named = {"SSLCTLFD": str(other.fileno()), "SSLREADFD": "900", "SSLWRITEFD": "901"}
        with Talk(mailhost, [SMTPD], env=mailhost.environment(**named), pass_fds={other.fileno()}) as talk:
            talk.send(b"EHLO h\r\n" + sent + b"QUIT\r\n")
            assert b"STARTTLS" not in talk.rest()
            assert talk.end() == (0, b"")
    session(mailhost, sent, SSL_CIPHER="X")
    words = [text.partition(b" with ")[2].partition(b";")[0] for _, _, text in mailhost.queued(received=True)]
    assert words == [b"ESMTPS (TLSv1.2 ECDHE-RSA-AES128??x? encrypted)", b"ESMTPS", b"ESMTPS", b"SMTP"]
