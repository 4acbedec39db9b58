"""qmaildefault: the action of a .qmail-default, and what it is."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import qmaildefault
from qmailpy.formats.qmaildefault import BOUNCED, DELETED, FOLDER, FORWARDED, RUN, WRONG


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (b"bounce-no-mailbox", BOUNCED), (b"delete", DELETED), (b"/home/x", FOLDER), (b"./x/", FOLDER), (b"|x", RUN),
        (b"x@y", FORWARDED), (b"&x@y", FORWARDED), (b"bounce", FORWARDED), (b"", WRONG), (b"&", WRONG),
    ],
)  # fmt: skip
def test_an_action_is_one_of_these(action: bytes, kind: str) -> None:
    assert qmaildefault.kind(action) == kind


@pytest.mark.parametrize(
    ("text", "action"),
    [
        (b"| /home/vpopmail/bin/vdelivermail '' bounce-no-mailbox\n", b"bounce-no-mailbox"),
        (b"|/home/vpopmail/bin/vdelivermail '' delete", b"delete"),
        (b"# of qmailadmin\n\n| vdelivermail '' '|x y'\n./Maildir/\n", b"|x y"),
        (b"| vdelivermail '' 'a;b@c'\n", b"a;b@c"),
        (b"| preline -f /opt/vdelivermail '' /a/b\n", b"/a/b"),
        (b"| spamc -f | vdelivermail '' x@y\n", b"x@y"),
        (b"| vdelivermail '' x@y | cat\n", b"x@y"),
        (b"| if a; then vdelivermail '' delete; fi\n", b"delete"),
        (b"| vdelivermail.sh && vdelivermail '' delete\n", b"delete"),
        (b"| vdelivermail '' $ACTION\n", None),
        (b"| vdelivermail '' \"x\"\n", None),
        (b"| vdelivermail delete\n", None),
        (b"| vdelivermail '' a b\n", None),
        (b"| vdelivermail '' 'a\n", None),
        (b"# | vdelivermail '' delete\n", None),
        (b"./Maildir/\n", None),
        (b"", None),
    ],
)
def test_the_action_is_the_word_behind_the_empty_one(text: bytes, action: bytes | None) -> None:
    assert qmaildefault.action(text) == action


@given(
    st.binary()
    | st.text("|'; vdelivermail\n\\\"$&", max_size=40).map(lambda text: b"|vdelivermail '' " + text.encode())
)
def test_any_text_has_an_action_or_none(text: bytes) -> None:
    action = qmaildefault.action(text)
    assert action is None or (b"\n" not in action and qmaildefault.kind(action))


@given(st.text(alphabet="ab @./|'&;$\\\"#\n-", max_size=12).map(str.encode))
def test_what_is_written_is_what_a_shell_and_we_read(action: bytes) -> None:
    try:
        text = qmaildefault.line(b"/x/vdelivermail", action)
    except ValueError:
        assert b"'" in action or b"\n" in action
        return
    assert qmaildefault.action(text) == action
    command = text.removeprefix(b"| /x/vdelivermail").removesuffix(b"\n")
    shown = subprocess.run(["/bin/sh", "-c", b"printf '<%s>'" + command], capture_output=True, check=True)
    assert shown.stdout == b"<><%s>" % action
