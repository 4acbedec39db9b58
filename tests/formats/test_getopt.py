import ctypes
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import getopt
from qmailpy.formats.options import OptionError

LETTERS = b"vq:r::x"

libc = ctypes.CDLL(None)
optarg = ctypes.c_char_p.in_dll(libc, "optarg")
optind = ctypes.c_int.in_dll(libc, "optind")
opterr = ctypes.c_int.in_dll(libc, "opterr")


@pytest.mark.parametrize(
    ("argv", "options", "words"),
    [
        ("joe pw -q 10M", [("q", "10M")], ["joe", "pw"]),
        ("-vx -q10M joe", [("v", ""), ("x", ""), ("q", "10M")], ["joe"]),
        ("-r joe", [("r", "")], ["joe"]),
        ("-r8 joe", [("r", "8")], ["joe"]),
        ("joe -- -x", [], ["joe", "-x"]),
        ("joe - -x", [("x", "")], ["joe", "-"]),
        ("-vq -x joe", [("v", ""), ("q", "-x")], ["joe"]),
    ],
)
def test_options_and_words(argv: str, options: list[tuple[str, str]], words: list[str]) -> None:
    found, rest = getopt.parse([b"name", *argv.encode().split()], LETTERS)
    assert [(letter.decode(), word.decode()) for letter, word in found] == options
    assert [word.decode() for word in rest] == words


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ("joe -z", b"invalid option -- 'z'"),
        ("-:", b"invalid option -- ':'"),
        ("-q", b"option requires an argument -- 'q'"),
    ],
)
def test_what_is_wrong_is_said_as_glibc_does(argv: str, text: bytes) -> None:
    with pytest.raises(OptionError) as caught:
        getopt.parse([b"name", *argv.encode().split()], LETTERS)
    assert caught.value.args[0] == text


@pytest.mark.skipif("POSIXLY_CORRECT" in os.environ, reason="glibc is asked for another behaviour")
@given(
    st.lists(st.sampled_from([b"joe", b"-v", b"-q", b"-q1", b"-r", b"-r2", b"-vr", b"-", b"--", b"-z", b"-vxq", b""]))
)
def test_it_does_what_the_one_of_libc_does(words: list[bytes]) -> None:
    array = (ctypes.c_char_p * (len(words) + 2))(b"name", *words, None)
    optind.value = 0
    opterr.value = 0
    options = []
    while (letter := libc.getopt(len(words) + 1, array, LETTERS)) != -1:
        options.append((b"%c" % letter, optarg.value or b""))
    rest = [array[at] for at in range(optind.value, len(words) + 1)]
    try:
        assert getopt.parse([b"name", *words], LETTERS) == (options, rest)
    except OptionError:
        assert b"?" in [letter for letter, _ in options]
