"""The header of a message, field by field, whatever blocks it comes in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats.header import Splitter, name

LINES = st.sampled_from([
    b"To: a", b"Subject : b", b" more", b"\tmore", b"", b" ", b"no field", b": x", b"a b: c", b"\xe9: x", b"From a b",
    b"From : a", b"X:\0", b"x",
])  # fmt: skip
MESSAGES = st.lists(LINES, max_size=8).map(b"\n".join) | st.binary(max_size=40)


def split(blocks: list[bytes]) -> tuple[list[bytes], bytes]:
    """The fields and the body."""
    splitter = Splitter()
    fields: list[bytes] = []
    while blocks:
        fields += splitter.feed(blocks.pop(0))
        if splitter.body is not None:
            return fields, splitter.body + b"".join(blocks)
    fields += splitter.finish()
    return fields, splitter.body or b""


def expected(message: bytes) -> tuple[list[bytes], bytes]:
    """The same, by a look at all lines at once."""
    fields: list[bytes] = []
    lines = message.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for at, line in enumerate(lines):
        if fields and line.startswith((b" ", b"\t")):
            fields[-1] += line + b"\n"
        elif line.startswith(b"From "):
            fields.append(b"MBOX-Line: " + line + b"\n")
        elif name(line):
            fields.append(line + b"\n")
        else:
            rest = b"\n".join(message.split(b"\n")[at:])
            rest += b"" if at < len(lines) - 1 or message.endswith(b"\n") else b"\n"
            return fields, rest if line == b"" else b"\n" + rest
    return fields, b""


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (b"To: joe\n", b"to"),
        (b"TO \t:joe", b"to"),
        (b"X-Y_z.1!:", b"x-y_z.1!"),
        (b"", b""),
        (b"To", b""),
        (b":", b""),
        (b"  : x", b""),
        (b"a b: c", b""),
        (b" a: b", b""),
        (b"\xe9: x", b""),
        (b"\x7f: x", b""),
    ],
)
def test_a_name_is_in_lower_case_and_without_blanks(field: bytes, found: bytes) -> None:
    assert name(field) == found


@pytest.mark.parametrize(
    ("message", "fields", "body"),
    [
        (b"", [], b""),
        (b"A: b\n\nbody", [b"A: b\n"], b"\nbody"),
        (b"A: b\n c\n\td\nE: f\n\n\n", [b"A: b\n c\n\td\n", b"E: f\n"], b"\n\n"),
        (b"A: b", [b"A: b\n"], b""),
        (b"A: b\n c", [b"A: b\n c\n"], b""),
        (b"\nbody\n", [], b"\nbody\n"),
        (b"body\n", [], b"\nbody\n"),
        (b"body", [], b"\nbody\n"),
        (b" A: b\n", [], b"\n A: b\n"),
        (b"A: b\nno field\nC: d\n", [b"A: b\n"], b"\nno field\nC: d\n"),
        (b"From a b\nA: b\nFrom c\n d\n\n", [b"MBOX-Line: From a b\n", b"A: b\n", b"MBOX-Line: From c\n d\n"], b"\n"),
    ],
)
def test_a_header_ends_where_the_original_ends_it(message: bytes, fields: list[bytes], body: bytes) -> None:
    assert split([message]) == (fields, body)


@given(message=MESSAGES, size=st.integers(1, 9))
def test_blocks_of_any_size_give_the_same_fields_and_lose_nothing(message: bytes, size: int) -> None:
    assert split([message[at : at + size] for at in range(0, len(message), size)]) == expected(message)
