"""Every dialogue four ways: the engine, fed with all of it and byte by byte, and the commands, cold and warm; those
with the classic verbs also with the C programs, where QMAIL_BIN names their folder."""

from pathlib import Path

import pytest

from tests import smtp
from tests.dialogues import Dialogue, Engine, Home, Talk, anonymous, chain, home, load
from tests.helpers import BIN
from tests.pop3_original import originals
from tests.smtp import Mailhost, mailhost

__all__ = ["home", "mailhost"]

SMTP = "smtp-*"


@pytest.mark.parametrize("dialogue", load())
def test_the_engine_answers_a_dialogue_that_comes_at_once(dialogue: Dialogue) -> None:
    engine = Engine(dialogue)
    engine.feed(b"".join(step.sent for step in dialogue.steps) + b"STAT\r\nQUIT\r\n")  # nobody is there to answer these
    dialogue.compare(dialogue.steps, engine.answered)
    assert not dialogue.left or engine.left() == sorted(dialogue.left)


@pytest.mark.parametrize("dialogue", load())
def test_the_engine_answers_a_dialogue_byte_by_byte(dialogue: Dialogue) -> None:
    engine = Engine(dialogue)
    for step in dialogue.steps:
        for byte in step.sent:
            engine.feed(bytes((byte,)))
        dialogue.compare([step], engine.answered)
        engine.answered = b""
    assert not dialogue.left or engine.left() == sorted(dialogue.left)


def play(dialogue: Dialogue, home: Home, popup: str | Path, pop3d: str | Path, **changes: str) -> None:
    """The commands on a socket; each answer before the next step is sent."""
    for path, text in dialogue.messages:
        home.message(path, text)
    classic = dialogue.program == "qmail-pop3d"
    argv = [pop3d, "Maildir"] if classic else chain(popup, pop3d)
    with Talk(home, argv, env=home.environment(**changes)) as talk:
        for step in dialogue.steps:
            talk.send(step.sent)
            dialogue.compare([step], b"".join(anonymous(talk.line()) for _ in step.answers))
        dialogue.compare([], talk.rest())
        assert talk.end() == (0 if classic else 1, b"")
    assert not dialogue.left or home.files() == sorted(dialogue.left)


@pytest.mark.parametrize("dialogue", load())
def test_the_commands_answer_a_dialogue_cold(dialogue: Dialogue, home: Home) -> None:
    play(dialogue, home, BIN / "qmail-popup", BIN / "qmail-pop3d", QMAILPY_COLD="1")


@pytest.mark.parametrize("dialogue", load())
def test_the_commands_answer_a_dialogue_warm(dialogue: Dialogue, home: Home) -> None:
    play(dialogue, home, BIN / "qmail-popup", BIN / "qmail-pop3d")


ORIGINALS = list(zip(originals("qmail-popup"), originals("qmail-pop3d"), strict=True))

if ORIGINALS:

    @pytest.mark.parametrize(("popup", "pop3d"), ORIGINALS)
    @pytest.mark.parametrize("dialogue", load("classic-*"))
    def test_the_c_programs_answer_a_classic_dialogue(dialogue: Dialogue, home: Home, popup: str, pop3d: str) -> None:
        play(dialogue, home, popup, pop3d)


# SMTP


@pytest.mark.parametrize("dialogue", load(SMTP))
def test_the_smtp_engine_answers_a_dialogue_that_comes_at_once(dialogue: Dialogue) -> None:
    engine = smtp.Engine(dialogue)
    engine.feed(b"".join(step.sent for step in dialogue.steps) + b"NOOP\r\nQUIT\r\n")
    dialogue.compare(dialogue.steps, engine.answered)
    assert engine.queued == dialogue.queued


@pytest.mark.parametrize("dialogue", load(SMTP))
def test_the_smtp_engine_answers_a_dialogue_byte_by_byte(dialogue: Dialogue) -> None:
    engine = smtp.Engine(dialogue)
    for step in dialogue.steps:
        for byte in step.sent:
            engine.feed(bytes((byte,)))
        dialogue.compare([step], engine.answered)
        engine.answered = b""
    assert engine.queued == dialogue.queued


def receive(dialogue: Dialogue, host: Mailhost, program: str | Path, whole: bool = False, **changes: str) -> None:
    """The command on a socket: each answer before the next step is sent, or all of it ahead."""
    argv = [program, *smtp.words(dialogue.arguments)]
    sent = b"".join(step.sent for step in dialogue.steps) if whole else b""
    with Talk(host, argv, ahead=sent, env=host.environment(**dialogue.variables, **changes)) as talk:
        for step in dialogue.steps:
            if not whole:
                talk.send(step.sent)
            dialogue.compare([step], b"".join(anonymous(talk.line()) for _ in step.answers))
        dialogue.compare([], talk.rest())
        last = dialogue.steps[-1].answers[-1][1]
        assert talk.end()[0] == (0 if last.startswith(b"221 ") else 1)
    assert host.queued() == dialogue.queued


def prepared(dialogue: Dialogue, host: Mailhost) -> Mailhost:
    host.control(**{name.decode(): text for name, text in dialogue.files.items()})
    return host


@pytest.mark.parametrize("dialogue", load(SMTP))
def test_qmail_smtpd_answers_a_dialogue_cold(dialogue: Dialogue, mailhost: Mailhost) -> None:
    receive(dialogue, prepared(dialogue, mailhost), smtp.SMTPD, QMAILPY_COLD="1")


@pytest.mark.parametrize("dialogue", load(SMTP))
def test_qmail_smtpd_answers_a_dialogue_warm_and_sent_ahead(dialogue: Dialogue, mailhost: Mailhost) -> None:
    receive(dialogue, prepared(dialogue, mailhost), smtp.SMTPD, whole=True)


if smtp.ORIGINALS:

    @pytest.mark.parametrize("dialogue", load("smtp-classic-*"))
    def test_the_c_qmail_smtpd_answers_a_classic_dialogue(dialogue: Dialogue, mailhost: Mailhost) -> None:
        with smtp.original_control(prepared(dialogue, mailhost)):
            receive(dialogue, mailhost, smtp.ORIGINALS[0])
