"""UCSPI-TLS: the names of descriptors, and the answer of the TLS process in any pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import ucspitls

NAMES = st.text(alphabet=ucspitls.NAME_BYTES.decode(), max_size=20).map(lambda text: b"SSL_CLIENT_" + text.encode())
VALUES = st.binary(max_size=40).map(lambda value: value.replace(b"\0", b""))
GOOD = {b"SSLCTLFD": b"5", b"SSLREADFD": b"6", b"SSLWRITEFD": b"6"}


def read(blocks: list[bytes]) -> dict[bytes, bytes] | None:
    answer = ucspitls.Answer()
    for block in blocks:
        answer.feed(block)
    return answer.variables


def test_descriptors_are_named_by_three_variables() -> None:
    found = ucspitls.named({**GOOD, b"PATH": b"/bin"})
    assert found is not None
    assert (found.control, found.reading, found.writing) == (5, 6, 6)
    assert found.variables() == GOOD
    assert ucspitls.without({**GOOD, b"PATH": b"/bin"}) == {b"PATH": b"/bin"}


def test_without_a_control_socket_there_is_nothing() -> None:
    assert ucspitls.named({b"SSLREADFD": b"6", b"SSLWRITEFD": b"7"}) is None


@pytest.mark.parametrize("word", [b"", b"-1", b"+1", b"1 ", b"x", b"1x", b"\xb2", b"9" * 10])
@pytest.mark.parametrize("name", ucspitls.NAMES)
def test_what_is_no_number_names_no_descriptor(name: bytes, word: bytes) -> None:
    with pytest.raises(ucspitls.Malformed):
        ucspitls.named({**GOOD, name: word})


@pytest.mark.parametrize("name", [b"SSLREADFD", b"SSLWRITEFD"])
def test_all_three_are_needed(name: bytes) -> None:
    with pytest.raises(ucspitls.Malformed):
        ucspitls.named({key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({}, b"\0\0"),
        ({b"SSL_PROTOCOL": b"TLSv1.3"}, b"SSL_PROTOCOL=TLSv1.3\0\0"),
        ({b"SSL_CIPHER": b"", b"SSL_SERVER_B": b"x=y"}, b"SSL_CIPHER=\0SSL_SERVER_B=x=y\0\0"),
    ],
)
def test_the_answer(variables: dict[bytes, bytes], text: bytes) -> None:
    assert ucspitls.build(variables) == text
    assert read([text]) == variables


@pytest.mark.parametrize(
    ("name", "value"), [(b"", b""), (b"SSL_CIPHER=", b""), (b"RELAYCLIENT", b""), (b"SSL_CIPHER", b"\0")]
)
def test_what_cannot_be_told_is_not(name: bytes, value: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        ucspitls.build({name: value})


@given(variables=st.dictionaries(NAMES, VALUES, max_size=5), behind=st.binary(max_size=5), size=st.integers(1, 9))
def test_any_answer_is_read_in_any_pieces(variables: dict[bytes, bytes], behind: bytes, size: int) -> None:
    text = ucspitls.build(variables)
    assert read([text[start : start + size] for start in range(0, len(text), size)]) == variables
    assert read([text + behind]) == variables
    assert read([text[:-1]]) is None


def test_other_variables_than_those_of_tls_are_not_taken() -> None:
    others = b"RELAYCLIENT=\0PATH=/tmp\0SSLCTLFD=3\0SSL_CERT_FILE=/tmp/ca\0SSL_CIPHER B=\0=\0"
    assert read([others + b"SSL_CIPHER=b\0\0"]) == {b"SSL_CIPHER": b"b"}


@pytest.mark.parametrize("text", [b"SSL_A\0\0", b"\0x\0\0", b"SSL_A=b\0x\0\0", b"x" * (ucspitls.LIMIT + 1)])
def test_what_is_no_answer_is_refused(text: bytes) -> None:
    with pytest.raises(ucspitls.Malformed):
        read([text])


@given(blocks=st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_are_an_answer_or_refused(blocks: list[bytes]) -> None:
    try:
        variables = read(blocks)
    except ucspitls.Malformed:
        return
    assert variables is None or all(name.startswith(b"SSL_") and b"\0" not in variables[name] for name in variables)
