"""Lines of several services on one screen."""

import os
import pty

from hypothesis import given
from hypothesis import strategies as st

from qmailpy.loops.view import LONGEST, Screen, Tail


def shown(blocks: list[bytes], env: dict[bytes, bytes] | None = None, terminal: bool = False) -> tuple[bytes, bytes]:
    """What the screen shows of a service `pop3d` that writes blocks, beside one `smtpd/log`; and the last line."""
    reading, writing = pty.openpty() if terminal else os.pipe()
    screen = Screen(b"svscan", writing, env or {})
    screen.expect(b"smtpd/log")
    tail = Tail(screen, b"pop3d")
    for block in blocks:
        os.write(tail.writing, block)
        tail.ready()
    tail.ready()
    screen.show(b"smtpd/log", b"end")
    text = b""
    while b"end" not in text:
        text += os.read(reading, 65536)
    tail.close()
    os.close(reading)
    os.close(writing)
    return text.replace(b"\r\n", b"\n"), tail.last


def test_each_line_stands_behind_the_name_of_its_service() -> None:
    text, last = shown([b"one\ntw", b"o\nthr"])
    assert text == b"pop3d     | one\npop3d     | two\nsmtpd/log | end\n"
    assert last == b"two"


def test_names_are_coloured_on_a_terminal_unless_it_is_not_wanted() -> None:
    assert b"\033[33mpop3d     | \033[0mone\n" in shown([b"one\n"], terminal=True)[0]
    for env in ({b"NO_COLOR": b"1"}, {b"TERM": b"dumb"}):
        assert shown([b"one\n"], env, terminal=True)[0].startswith(b"pop3d     | one\n")


def test_what_could_play_tricks_on_a_terminal_is_shown_in_letters() -> None:
    assert shown([b"\033[2J\x07\r\n"])[0].startswith(b"pop3d     | ^[[2J^G\n")


def test_a_line_without_end_does_not_take_all_memory() -> None:
    text, last = shown([b"x" * (2 * LONGEST + 1) + b"\n"])
    assert text.count(b"pop3d     | " + b"x" * LONGEST + b"\n") == 2
    assert b"pop3d     | x\n" in text
    assert len(last) == LONGEST


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=20))
def test_any_bytes_come_out_as_lines_with_heads(blocks: list[bytes]) -> None:
    text, _ = shown(blocks)
    lines = text.split(b"\n")
    assert lines[-2:] == [b"smtpd/log | end", b""]
    assert len(lines) - 2 == b"".join(blocks).count(b"\n")
    assert all(line.startswith(b"pop3d     | ") for line in lines[:-2])
