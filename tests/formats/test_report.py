"""report: each exit code of qmail-queue has the text of the originals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import report

TEXTS = {
    0: b"",
    11: b"Denvelope address too long for qq (#5.1.3)",
    115: b"Denvelope address too long for qq (#5.1.3)",
    31: b"Dmail server permanently rejected message (#5.3.0)",
    51: b"Zqq out of memory (#4.3.0)",
    52: b"Zqq timeout (#4.3.0)",
    53: b"Zqq write error or disk full (#4.3.0)",
    54: b"Zqq read error (#4.3.0)",
    55: b"Zqq unable to read configuration (#4.3.0)",
    56: b"Zqq trouble making network connection (#4.3.0)",
    61: b"Zqq trouble in home directory (#4.3.0)",
    **dict.fromkeys(range(62, 67), b"Zqq trouble creating files in queue (#4.3.0)"),
    71: b"Zmail server temporarily rejected message (#4.3.0)",
    72: b"Zconnection to mail server timed out (#4.4.1)",
    73: b"Zconnection to mail server rejected (#4.4.1)",
    74: b"Zcommunication with mail server failed (#4.4.2)",
    81: b"Zqq internal bug (#4.3.0)",
    91: b"Zqq internal bug (#4.3.0)",
    120: b"Zunable to exec qq (#4.3.0)",
}


@pytest.mark.parametrize("code", range(256))
def test_each_code_has_the_original_text(code: int) -> None:
    other = b"Dqq permanent problem (#5.3.0)" if 11 <= code <= 40 else b"Zqq temporary problem (#4.3.0)"
    assert report.text(code) == TEXTS.get(code, other)
    assert report.status_text(code << 8) == report.text(code)


@pytest.mark.parametrize("status", [9, 11 | 128, 15])
def test_a_killed_queue_has_crashed(status: int) -> None:
    assert report.status_text(status, b"Dno") == b"Zqq crashed (#4.3.0)"


@pytest.mark.parametrize("code", [82, 88])
def test_a_program_may_refuse_in_its_own_words(code: int) -> None:
    assert report.text(code, b"Dno such user (#5.1.1)") == b"Dno such user (#5.1.1)"
    assert report.text(code, b"Zlater\n") == b"Zlater"
    assert report.text(code, b"Dtwo\r\nlines\0junk") == b"Dtwo  lines"
    assert report.text(code, b"D" + b"x" * 300) == b"D" + b"x" * 254


@pytest.mark.parametrize("said", [b"", b"D", b"Kno", b"no", b"\0Dno"])
def test_what_is_no_text_is_not_used(said: bytes) -> None:
    assert report.text(82, said) == b"Zqq temporary problem (#4.3.0)"


@pytest.mark.parametrize("code", [0, 31, 53, 111])
def test_other_codes_have_no_words_of_their_own(code: int) -> None:
    assert report.text(code, b"Dno such user") == report.text(code)


@given(code=st.integers(0, 255), said=st.binary())
def test_a_text_is_one_line_behind_a_letter(code: int, said: bytes) -> None:
    text = report.text(code, said)
    assert text == b"" if code == 0 else text[:1] in (b"D", b"Z")
    assert all(byte >= 32 and byte != 127 for byte in text)
