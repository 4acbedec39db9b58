import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import envdir


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"", None),
        (b"\n", b""),
        (b" \t\n", b""),
        (b"value", b"value"),
        (b" a  b \t \nsecond line\n", b" a  b"),
        (b"a\r\n", b"a\r"),
        (b"a\0b\0\nc", b"a\nb\n"),
        (b"\0", b"\n"),
        (b"=x", b"=x"),
    ],
)
def test_a_value_is_the_first_line(text: bytes, value: bytes | None) -> None:
    assert envdir.variable(b"NAME", text) == (b"NAME", value)


def test_a_name_with_an_equals_sign_is_split_as_the_environment_is() -> None:
    assert envdir.variable(b"A=B", b"v\n") == (b"A", b"B=v")
    assert envdir.variable(b"A=B=C", b"v") == (b"A", b"B=C=v")
    assert envdir.variable(b"A=B", b"") == (b"A", b"B")
    assert envdir.variable(b"=", b"v") == (b"", b"=v")


@given(st.binary(min_size=1), st.binary())
def test_any_file_gives_what_an_environment_can_hold(name: bytes, text: bytes) -> None:
    variable, value = envdir.variable(name, text)
    assert b"=" not in variable
    assert (value is None) == (text == b"" and b"=" not in name)
    assert value is None or b"=" in name or (b"\0" not in value and value[-1:] not in (b" ", b"\t"))
