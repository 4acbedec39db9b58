"""selection: which messages the words of a command line mean."""

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.mta import selection
from qmailpy.mta.selection import Facts, Recipient

VERBS = (b"list", b"hold")

LEFT = [
    Recipient(b"local", b"alias-joe@Here.example", b""),
    Recipient(b"remote", b"mary@b.example", b"Connected to 192.0.2.7 but connection Timed out.\n"),
    Recipient(b"remote", b"x@c.example", b"no MX"),
]
MESSAGE = Facts(23, b"Joe@a.example", 1000, 7200, False, False, LEFT)


def chooses(line: str, facts: Facts = MESSAGE) -> bool:
    return selection.parse(line.encode().split(), b"jn", VERBS).chooses(facts)


@pytest.mark.parametrize(
    "line",
    [
        "", "--all", "23", "7 23", "--from joe@a.example", "--from=*@A.EXAMPLE", "--from ?oe@*", "--from *",
        "--older 7199", "--older 1h59m", "--younger 7201", "--larger 999", "--smaller 1k", "--not-held",
        "--to mary@*", "--to *@here.example", "--host b.example", "--host *.example", "--channel local",
        "--error timed", "--error CONNECTED*out", "--error ????.", "--to mary@* --error timed --host b.*",
        "--channel remote --host c.example --error MX",
        "23 --from joe* --older 1h --to x@*", "-j --from joe* -n",
    ],
)  # fmt: skip
def test_all_conditions_hold(line: str) -> None:
    assert chooses(line)


@pytest.mark.parametrize(
    "line",
    [
        "7", "--from joe", "--from oe@a.example", "--from ?joe@a.example", "--from joe@a.exampl?e", "--older 7200",
        "--younger 2h", "--larger 1000", "--smaller 1000", "--held", "--new", "--to mary", "--host example",
        "--host mary@b.example", "--error refused", "--to x@* --error timed", "--channel local --error timed",
        "--from joe* --from mary*", "7 --from joe*", "23 --held",
    ],
)  # fmt: skip
def test_one_does_not_hold(line: str) -> None:
    assert not chooses(line)


def test_a_message_without_recipients_left_has_none_that_a_condition_could_mean() -> None:
    facts = Facts(1, b"", 0, 0, True, True, [])
    assert not chooses("--to *", facts)
    assert chooses("--held --new", facts)
    assert selection.parse([b"--from", b""], b"", ()).chooses(facts)
    assert selection.parse([b"--from="], b"", ()).chooses(facts)


def test_a_recipient_without_an_error_has_none_that_a_condition_could_mean() -> None:
    assert not chooses("--to alias-* --error *")


def test_the_sender_of_double_bounces_is_no_set_of_letters() -> None:
    assert chooses("--from #@[]", Facts(1, b"#@[]", 0, 0, False, False, []))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("x", b"x is neither a verb nor the number of a message"),
        ("list 5 hold", b"hold is neither a verb nor the number of a message"),
        ("-5", b"there is no option -5"),
        ("-", b"- is neither a verb nor the number of a message"),
        ("9" * 20, b"9" * 20 + b" is neither a verb nor the number of a message"),
        ("--old 5", b"there is no condition --old"),
        ("--", b"there is no condition --"),
        ("--held=yes", b"there is no condition --held=yes"),
        ("--from", b"--from wants a value"),
        ("--older x", b"--older wants an age such as 90s, 2h or 1d12h, not x"),
        ("--smaller=1kk", b"--smaller wants a size such as 5000, 100k or 1M, not 1kk"),
        ("--larger k", b"--larger wants a size such as 5000, 100k or 1M, not k"),
        ("--channel post", b"--channel is local or remote, not post"),
        ("--all 23", b"--all cannot have conditions"),
        ("--all --held", b"--all cannot have conditions"),
    ],
)
def test_what_is_no_condition_is_said(line: str, complaint: bytes) -> None:
    with pytest.raises(selection.SelectionError) as raised:
        chooses(line)
    assert raised.value.args == (complaint,)


@pytest.mark.parametrize(("line", "size"), [("0", 0), ("5k", 5120), ("5K", 5120), ("1M", 1 << 20), ("2g", 2 << 30)])
def test_sizes(line: str, size: int) -> None:
    assert chooses(f"--larger {line}", Facts(1, b"", size + 1, 0, False, False, []))
    assert not chooses(f"--larger {line}", Facts(1, b"", size, 0, False, False, []))


def test_options_and_emptiness_are_known() -> None:
    chosen = selection.parse([b"-n", b"-jn"], b"jn", VERBS)
    assert (chosen.letters, chosen.is_empty, chosen.every) == (b"njn", True, False)
    assert (chosen.verb, selection.parse([b"-n", b"7", b"hold"], b"jn", VERBS).verb) == (b"", b"hold")
    assert selection.parse([b"--all"], b"", ()).every
    assert not selection.parse([b"--held"], b"", ()).is_empty
    assert selection.parse([b"7", b"8"], b"", ()).numbers == {7, 8}


def test_the_value_of_a_condition_may_look_like_another() -> None:
    assert not selection.parse([b"--error", b"--all"], b"", ()).is_empty


@given(st.text("ab*?[.\n", max_size=12), st.text("abAB[.\n", max_size=12))
def test_patterns_are_those_of_fnmatch_without_its_sets(pattern: str, text: str) -> None:
    wanted = re.match(fnmatch.translate(pattern.replace("[", "[[]").lower()), text.lower()) is not None
    assert selection.glob(pattern.encode())(text.encode()) == wanted


def test_a_pattern_of_many_stars_takes_no_longer() -> None:
    assert not selection.glob(b"*a" * 500 + b"*b")(b"a" * 1000)


@given(st.lists(st.one_of(st.binary(max_size=8), st.sampled_from([b"--from", b"--older", b"--error", b"--held"]))))
def test_any_words_are_conditions_or_wrong(words: list[bytes]) -> None:
    try:
        chosen = selection.parse(words, b"jn", VERBS)
    except selection.SelectionError as e:
        assert e.args[0]
    else:
        chosen.chooses(MESSAGE)
