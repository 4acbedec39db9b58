import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import authd, fd3


def string(limit: int) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=limit).map(lambda b: b.replace(b"\0", b"0"))


QUESTION = b"27:192.0.2.1\0max\0secret\0stamp\0,"


def question(data: "bytes | bytearray") -> tuple[bytes, bytes, bytes] | None:
    found = authd.parse(bytearray(data))
    return None if found is None else (found[0], found[1], bytes(found[2]))


@given(string(authd.ADDRESS), string(150), string(200), string(150))
def test_what_is_built_is_parsed_to_address_name_and_packet(
    address: bytes, name: bytes, password: bytes, stamp: bytes
) -> None:
    built = authd.build(address, name, bytearray(password), stamp)
    assert len(built) <= authd.LIMIT
    found = authd.parse(built)
    assert found is not None
    assert found == (address, name, fd3.build(name, password, stamp))


def test_a_question_looks_like_this() -> None:
    assert authd.build(b"192.0.2.1", b"max", bytearray(b"secret"), b"stamp") == QUESTION
    assert question(QUESTION) == (b"192.0.2.1", b"max", b"max\0secret\0stamp\0")


@pytest.mark.parametrize("end", range(len(QUESTION)))
def test_each_beginning_of_a_question_needs_more(end: int) -> None:
    assert question(QUESTION[:end]) is None


def test_512_bytes_without_a_last_nul_become_the_same_512() -> None:
    """A packet of descriptor 3 need not end in NUL."""
    packet = bytearray(b"max\0secret\0".ljust(fd3.LIMIT, b"x"))
    found = authd.parse(authd.build(b"", *fd3.parse(packet)))
    assert found is not None
    assert found[2] == packet


def test_the_longest_question_is_within_the_limit() -> None:
    packet = bytearray(b"m\0s\0".ljust(fd3.LIMIT, b"x"))
    assert len(authd.build(b"a" * authd.ADDRESS, *fd3.parse(packet))) == authd.LIMIT


def test_an_address_that_is_too_long_is_left_out() -> None:
    assert question(authd.build(b"a" * 65, b"m", bytearray(b"s"), b"")) == (b"", b"m", b"m\0s\0\0")


@pytest.mark.parametrize(
    "data",
    [
        b":",
        b"x",
        b"-1:,",
        b" 4:\0\0\0\0,",
        b"0000",
        b"1234",
        b"579:",
        b"999:",
        b"4:\0\0\0\0;",
        b"4:\0\0\0\0,,",
        b"3:\0\0\0,",
        b"5:\0\0\0\0\0,",
        b"5:\0\0\0\0x,",
        b"69:" + b"a" * 65 + b"\0\0\0\0,",
        b"518:\0" + b"x" * 514 + b"\0\0\0,",
        b"0:,",
    ],
)
def test_what_is_no_question_is_malformed(data: bytes) -> None:
    with pytest.raises(authd.Malformed):
        question(data)


pieces = st.lists(st.sampled_from([b"4", b"27", b":", b"\0", b",", b"max", b"K", b"D", QUESTION]), max_size=8)


@given(st.binary(max_size=authd.LIMIT) | pieces.map(b"".join))
def test_any_bytes_are_a_question_or_malformed_or_need_more(data: bytes) -> None:
    for parse in (question, authd.parse_answer):
        try:
            parse(data)
        except authd.Malformed:
            continue


@given(pieces.map(b"".join))
def test_what_needs_more_is_shorter_than_the_limit(data: bytes) -> None:
    """Else a reader with room for the longest question would wait for ever."""
    try:
        found = question(data.ljust(authd.LIMIT, b"\0"))
    except authd.Malformed:
        return
    assert found is not None


@pytest.mark.parametrize(
    ("answer", "data"),
    [((b"K", b"max"), b"4:Kmax,"), ((b"D", b""), b"1:D,"), ((b"Z", b""), b"1:Z,"), ((b"K", b","), b"2:K,,")],
)
def test_an_answer_is_a_letter_and_with_yes_the_user(answer: tuple[bytes, bytes], data: bytes) -> None:
    assert authd.build_answer(*answer) == data
    assert authd.parse_answer(data) == answer
    assert [authd.parse_answer(data[:end]) for end in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize(
    "data", [b"0:,", b"1:K,", b"4:Dmax,", b"4:Kmax;", b"4:Kmax,x", b"1:Y,", b"3:Ka\0,", b"HTTP/1.1"]
)
def test_a_yes_without_a_user_and_the_like_are_malformed(data: bytes) -> None:
    with pytest.raises(authd.Malformed):
        authd.parse_answer(data)
