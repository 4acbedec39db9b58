import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import manpage
from tests.helpers import needs

PAGE = """NAME
    prog@ - do a thing

SYNOPSIS
    prog@ [-vq] [-t SECONDS] FILE PROGRAM
        [ARG...]

DESCRIPTION
    prog@ opens FILE, as open(2) does, and `cat -v` shows it. It ends here.
    A-sentence-that-begins-with-a-word-for-the-next-line-of-roff; FILE.TXT and a file-like
    'thing' with a \\ stay what they are.

        $ prog@ -v 'a file'
        .dotted  `line`

    The answer, which may be
    long, is
        one literal line
    and more.

OPTIONS
    -v             say everything, to whoever
                   listens
    -t SECONDS     give up

                   and say so

    LONG_NAME, ANOTHER_NAME
                   both

SEE ALSO
    other-prog(1), prog@(1)
"""


def render(text: str, name: str = "prog@") -> str:
    return manpage.render(text, name, 1, "2026-11-23", "qmailpy 0.1.0")


def section(heading: str) -> list[str]:
    """The lines of roff of one section of PAGE."""
    return re.split(r"^\.SH ", render(PAGE), flags=re.M)[1:][HEADINGS.index(heading)].splitlines()[1:]


HEADINGS = [line for line in PAGE.splitlines() if line[:1].isalpha()]


def shown(program: str, roff: str, *options: str) -> str:
    """The page as a terminal shows it, without fonts."""
    found = subprocess.run([needs(program), *options], input=roff.encode(), capture_output=True, check=False)
    assert (found.returncode, found.stderr) == (0, b"")
    return re.sub(".\b|\x1b\\[[0-9;]*m", "", found.stdout.decode()).replace("\N{NO-BREAK SPACE}", " ")


def test_the_title_names_page_section_date_and_source() -> None:
    assert render(PAGE).startswith('.TH PROG@ 1 "2026-11-23" "qmailpy 0.1.0"\n')


def test_name_is_one_line_for_whatis() -> None:
    assert section("NAME") == ["prog@ \\- do a thing"]


def test_synopsis_shows_options_bold_and_arguments_slanted_and_breaks_no_brackets() -> None:
    assert section("SYNOPSIS") == [
        ".SY prog@",
        "[\\fB\\-vq\\fR] [\\fB\\-t\\fR\\~\\fISECONDS\\fR] \\fIFILE\\fR \\fIPROGRAM\\fR",
        "[\\fIARG\\fR...]",
        ".YS",
        ".nh",
    ]


def test_running_text_shows_names_and_ends_no_line_of_roff_like_a_sentence() -> None:
    text = section("DESCRIPTION")
    assert text[:2] == [
        "\\fBprog@\\fR opens \\fIFILE\\fR, as \\fBopen\\fR(2) does, and \\fBcat \\-v\\fR shows",
        "it. It ends here.\\&",
    ]
    assert not any(line.endswith(".") for line in text[:2])


def test_each_hyphen_is_one_that_can_be_searched_and_copied() -> None:
    assert not re.search(r"(?<!\\)-", render(PAGE).partition("\n")[2])


def test_literal_lines_stay_lines_whatever_they_begin_with() -> None:
    text = "\n".join(section("DESCRIPTION"))
    assert ".RS 4\n.nf\n$ prog@ \\-v \\(aqa file\\(aq\n\\&.dotted  \\(galine\\(ga\n.fi\n.RE" in text
    assert "The answer, which may be long, is\n.PP\n.RS 4\n.nf\none literal line\n.fi\n.RE\n.PP\nand more." in text


def test_items_hang_and_those_without_a_gap_stand_close() -> None:
    assert section("OPTIONS") == [
        ".TP 15",
        "\\fB\\-v\\fR",
        "say everything, to whoever listens",
        ".PD 0",
        ".TP 15",
        "\\fB\\-t\\fR \\fISECONDS\\fR",
        "give up",
        ".PD",
        ".IP",
        "and say so",
        ".TP 15",
        "LONG_NAME, ANOTHER_NAME",
        "both",
    ]


def test_references_are_bold_but_for_the_section() -> None:
    assert section("SEE ALSO") == ["\\fBother\\-prog\\fR(1), \\fBprog@\\fR(1)"]


def test_a_terminal_shows_what_the_docstring_says() -> None:
    page = shown("mandoc", render(PAGE), "-Tutf8")
    assert "       prog@ [-vq] [-t SECONDS] FILE PROGRAM [ARG...]\n" in page
    assert "           $ prog@ -v 'a file'\n           .dotted  `line`\n" in page
    assert "       -t SECONDS     give up\n\n                      and say so\n" in page
    assert "       LONG_NAME, ANOTHER_NAME\n                      both\n" in page


@pytest.mark.parametrize("program", ["mandoc", "groff"])
def test_both_formatters_agree_on_every_character_of_a_literal(program: str) -> None:
    line = r""".'"\- \fB^~`|{}[]()<>#$%&*+,/:;=?@_!\n\(co é→"""
    roff = render(f"NAME\n    prog@ - x\n\nDESCRIPTION\n        {line}\n")
    assert line in shown(program, roff, *(["-Tutf8"] if program == "mandoc" else ["-man", "-Tutf8", "-ww"]))


LINE = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=40)
DEPTH = st.sampled_from(["", "    ", "        ", "    term    ", "           "])


@given(st.lists(st.one_of(st.just(""), st.builds(str.__add__, DEPTH, LINE)), max_size=20))
def test_no_text_makes_a_request_of_its_own(lines: list[str]) -> None:
    roff = render("\n".join(["NAME", "    prog@ - x", "", "SYNOPSIS", *lines, "DESCRIPTION", *lines]))
    requests = {line.split(" ")[0] for line in roff.splitlines() if line[:1] in (".", "'")}
    assert requests <= {
        ".TH",
        ".nh",
        ".ad",
        ".SH",
        ".SY",
        ".YS",
        ".PP",
        ".RS",
        ".RE",
        ".nf",
        ".fi",
        ".TP",
        ".PD",
        ".IP",
    }
    assert roff.isascii()
