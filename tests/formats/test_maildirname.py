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
