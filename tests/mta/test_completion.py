"""Addresses get the host and domain that they lack."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats.addresses822 import AT, DOT, LITERAL, Unparsable, parse, unquote_reversed
from qmailpy.mta.completion import Completion

HERE = Completion(b"host", b"domain.example", b"plus.example")


def completed(address: bytes, completion: Completion = HERE) -> bytes:
    tokens = parse(address)[::-1]
    completion.complete(tokens)
    return unquote_reversed(tokens)


@pytest.mark.parametrize(
    ("address", "whole"),
    [
        (b"joe", b"joe@host.domain.example"),
        (b"joe@mail", b"joe@mail.domain.example"),
        (b"joe@mail.x", b"joe@mail.x"),
        (b"joe@mail+", b"joe@mail.plus.example"),
        (b"joe@a.mail+", b"joe@a.mail.plus.example"),
        (b"joe@+", b"joe@.plus.example"),
        (b"joe@[1.2.3.4]", b"joe@[1.2.3.4]"),
        (b"joe+", b"joe+@host.domain.example"),
        (b"a.b", b"a.b@host.domain.example"),
        (b'"a b"', b"a b@host.domain.example"),
        (b"joe@", b"joe@host.domain.example"),
        (b"joe@mail.", b"joe@mail.domain.example"),
        (b"@a.x,@b.x:joe@h.x", b"joe@h.x"),
        (b"@a.x:joe", b"joe@host.domain.example"),
        (b"", b""),
        (b".", b""),
        (b"@", b""),
        (b"@a.x:", b""),
        (b"joe@[]", b"joe@[]"),
    ],
)
def test_an_address_becomes_a_whole_one(address: bytes, whole: bytes) -> None:
    assert completed(address) == whole


def test_the_default_host_may_have_a_domain_or_ask_for_the_plus_domain() -> None:
    assert completed(b"joe", Completion(b"a.b", b"d", b"p")) == b"joe@a.b"
    assert completed(b"joe", Completion(b"a+", b"d", b"p")) == b"joe@a.p"


@pytest.mark.parametrize("names", [(b")", b"d", b"p"), (b"h", b'"', b"p"), (b"h", b"d", b"(")])
def test_a_name_that_is_none_is_unparsable(names: tuple[bytes, bytes, bytes]) -> None:
    with pytest.raises(Unparsable):
        Completion(*names)


@given(text=st.text("ab.@+,:<>\"\\[]() \t;'", max_size=12))
def test_any_address_gets_a_host_with_a_dot_unless_it_is_a_literal(text: str) -> None:
    try:
        tokens = parse(text.encode())[::-1]
    except Unparsable:
        return
    HERE.complete(tokens)
    if tokens:
        kinds = [kind for kind, _ in tokens]
        assert {DOT, LITERAL} & set(kinds[: kinds.index(AT)])
