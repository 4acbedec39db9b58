"""qmailfile: names of files, lines and plain words."""

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import qmailfile
from qmailpy.formats.qmailfile import BLANK, FORWARD, FORWARD_ONLY, MAILDIR, MBOX, PROGRAM


@pytest.mark.parametrize(
    ("dash", "ext", "found"),
    [
        (b"", b"", [(b".qmail", None), (b".qmaildefault", b"")]),
        (b"-", b"", [(b".qmail-", None), (b".qmail-default", b"")]),
        (b"-", b"A.b-C", [(b".qmail-a:b-c", None), (b".qmail-a:b-default", b"C"), (b".qmail-default", b"A.b-C")]),
        (b"-", b"a-Default", [
            (b".qmail-a-default", b"Default"), (b".qmail-a-default", b"Default"), (b".qmail-default", b"a-Default")
        ]),
        (b"-", b"-", [(b".qmail--", None), (b".qmail--default", b""), (b".qmail-default", b"-")]),
    ],
)  # fmt: skip
def test_the_files_that_may_be_meant(dash: bytes, ext: bytes, found: list[tuple[bytes, bytes | None]]) -> None:
    assert list(qmailfile.candidates(dash, ext)) == found


@given(st.binary(max_size=30))
def test_no_extension_leads_to_another_folder_by_dots(ext: bytes) -> None:
    for name, default in qmailfile.candidates(b"-", ext):
        assert b"." not in name[1:]
        assert default is None or ext.endswith(default)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", [(BLANK, b"")]),
        (b"\n", [(BLANK, b"")]),
        (b" \t\nx", [(BLANK, b""), (FORWARD, b"x")]),
        (b"#\n\n \n\0\nx", [(FORWARD, b"x")]),
        (b"./a \t", [(MBOX, b"./a")]),
        (b"/a/\t\n./b /", [(MAILDIR, b"/a/"), (MAILDIR, b"./b /")]),
        (b"/", [(MAILDIR, b"/")]),
        (b"|", [(PROGRAM, b"")]),
        (b"| a\0b ", [(PROGRAM, b" a\0b")]),
        (b"&\n& a\n&&a\n a", [(FORWARD, b""), (FORWARD, b" a"), (FORWARD, b"&a"), (FORWARD, b" a")]),
        (b"+list\n+\n+lists\n+list\0x\n+LIST", [(FORWARD_ONLY, b"+list"), (FORWARD_ONLY, b"+list\0x")]),
    ],
    ids=range(11),
)
def test_lines(text: bytes, found: list[tuple[str, bytes]]) -> None:
    assert list(qmailfile.instructions(text)) == found


@given(st.binary())
def test_any_text_has_instructions(text: bytes) -> None:
    for kind, line in qmailfile.instructions(text):
        assert b"\n" not in line
        assert kind in (BLANK, MBOX, MAILDIR, PROGRAM, FORWARD, FORWARD_ONLY)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (b"forward a@b", [b"forward", b"a@b"]),
        (b"\t preline  -f\tprocmail ", [b"preline", b"-f", b"procmail"]),
        (b"bouncesaying 'No, $no; (x)' x'y'z ''", [b"bouncesaying", b"No, $no; (x)", b"xyz", b""]),
        (b"''", [b""]),
        (b"", []),
        (b" ", []),
        (b"forward \"a\"", []),
        (b"forward 'a", []),
        (b"forward $EXT@b", []),
        (b"a;b", []),
        (b"a>b", []),
        (b"a~", []),
        (b"a *", []),
        (b"a \\b", []),
        (b"a #b", []),
        (b"a\xe9", []),
    ],
)  # fmt: skip
def test_plain_words(command: bytes, words: list[bytes]) -> None:
    assert qmailfile.plain_words(command) == words


@given(st.text(alphabet=" \tab-=@.,:%+/'\"$\\;#*~[{!&|<>()\u00e9", max_size=12))
def test_plain_words_are_those_of_the_shell(command: str) -> None:
    words = [word.decode() for word in qmailfile.plain_words(command.encode())]
    if words:
        assert shlex.split(command) == words
        shown = subprocess.run(
            ["/bin/sh", "-c", "printf '<%s>' " + command], capture_output=True, check=False, env={"LC_ALL": "C.UTF-8"}
        )
        assert shown.stdout.decode() == "".join(f"<{word}>" for word in words)
