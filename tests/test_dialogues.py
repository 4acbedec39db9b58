"""Every dialogue four ways: the engine, fed with all of it and byte by byte, and the commands, cold and warm; those
with the classic verbs also with the C programs, where QMAIL_BIN names their folder."""

from pathlib import Path

import pytest

from tests.dialogues import Dialogue, Engine, Home, Talk, anonymous, chain, home, load
from tests.helpers import BIN
from tests.pop3_original import originals

__all__ = ["home"]


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
