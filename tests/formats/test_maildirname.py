"""maildirname: ids and moves of messages, whatever their names hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import maildirname

NAME = st.binary(min_size=1).filter(lambda name: b"/" not in name and b"\0" not in name)


@pytest.mark.parametrize(
    ("path", "id"),
    [
        (b"new/1700000000.M1P2.host", b"1700000000.M1P2.host"),
        (b"cur/1700000000.M1P2.host,S=5:2,RS", b"1700000000.M1P2.host,S=5"),
        (b"cur/a:b:2,", b"a"),
        (b"cur/:2,S", b""),
        (b"new/a\r\n.\r\nb", b"a=0D=0A.=0D=0Ab"),
    ],
)
def test_the_id_is_the_name_up_to_the_first_colon(path: bytes, id: bytes) -> None:
    assert maildirname.unique(path) == id


@given(NAME)
def test_the_id_outlives_the_move_and_never_breaks_a_line(name: bytes) -> None:
    id = maildirname.unique(b"new/" + name)
    moved = maildirname.seen(b"new/" + name)
    assert moved is not None
    assert maildirname.unique(moved) == id
    assert b"\r" not in id and b"\n" not in id and b":" not in id


@given(NAME)
def test_only_messages_in_new_are_moved(name: bytes) -> None:
    assert maildirname.seen(b"new/" + name) == b"cur/" + name + b":2,"
    assert maildirname.seen(b"cur/" + name) is None


@pytest.mark.parametrize(
    ("name", "size", "trashed"),
    [
        (b"1.2.host,S=5", 5, False),
        (b"1.2.host,S=5,W=6:2,T", 5, True),
        (b"1,S=4,S=5:2,RST", 5, True),
        (b"1.2.host:2,S=7", None, False),
        (b"1.2.host,S=:2,S", None, False),
        (b"1.2.host,S=x5", None, False),
        (b"T:2,", None, False),
        (b"", None, False),
    ],
)
def test_a_name_may_tell_size_and_deletion(name: bytes, size: int | None, trashed: bool) -> None:
    assert (maildirname.size(name), maildirname.is_trashed(name)) == (size, trashed)


@given(NAME.filter(lambda name: b":" not in name), st.integers(0, 1 << 62))
def test_the_size_that_a_name_got_is_the_one_that_it_tells(name: bytes, size: int) -> None:
    assert maildirname.size(maildirname.with_size(name, size) + b":2,S") == size
