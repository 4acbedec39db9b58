"""What a domain says of the TLS of its mail exchangers: record, policy, and the policy as it is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import mtasts
from qmailpy.formats.mtasts import ENFORCE, NONE, TESTING, Kept, Policy

POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], b"20160831085700Z"),
        ([b"v=STSv1;id=1"], b"1"),
        ([b"v=STSv1 ; x=y; id = 1 ;"], b"1"),
        ([b"other", b"v=STSv1; id=1"], b"1"),
        ([b"v=STSv1; id=1", b"v=STSv1; id=1"], None),
        ([b"v=STSv1; id=1", b"v=STSv1"], None),
        ([b"v=STSv2; id=1"], None),
        ([b" v=STSv1; id=1"], None),
        ([b"id=1; v=STSv1"], None),
        ([b"v=STSv1;"], None),
        ([b"v=STSv1; id="], None),
        ([b"v=STSv1; id=a-b"], None),
        ([b"v=STSv1; id=" + b"x" * 33], None),
        ([], None),
    ],
)
def test_a_domain_has_a_policy_if_one_record_says_so(records: list[bytes], found: bytes | None) -> None:
    assert mtasts.policy_id(records) == found


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_policy_is_read(end: bytes) -> None:
    found = mtasts.parse(POLICY.replace(b"\r\n", end).rstrip())
    assert (found.mode, found.age_s) == (ENFORCE, 604800)
    assert found.patterns == [b"mail.example.com", b"*.example.net"]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (b"enforce", b"testing", (TESTING, 604800, 2)),
        (b"enforce", b" none \t", (NONE, 604800, 2)),
        (b"604800", b"99999999999", (ENFORCE, 31557600, 2)),
        (b"mode", b"x: y\r\nmax_age: 5\r\nmode", (ENFORCE, 5, 2)),
        (b"version:", b"version : ", (ENFORCE, 604800, 2)),
        (b"mail.example.com", b"Mail.Example.COM.", (ENFORCE, 604800, 2)),
        (b"\r\nmx", b"\r\n\r\nmx", (ENFORCE, 604800, 2)),
    ],
)
def test_a_policy_may_be_written_in_other_ways(old: bytes, new: bytes, found: tuple[bytes, int, int]) -> None:
    policy = mtasts.parse(POLICY.replace(old, new))
    assert (policy.mode, policy.age_s, len(policy.patterns)) == found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"STSv1", b"STSv2"),
        (b"enforce", b"force"),
        (b"mode", b"mood"),
        (b"604800", b""),
        (b"604800", b"-1"),
        (b"604800", b"1 week"),
        (b"max_age", b"age"),
        (b"mx: ", b"m: "),
        (b"mail.example.com", b""),
        (b"mail.example.com", b"*."),
        (b"mail.example.com", b"two words"),
        (b"mail.example.com", b"a\0b"),
        (b"\r\nmx", b"\rmx"),
    ],
)
def test_a_broken_policy_is_none(old: bytes, new: bytes) -> None:
    with pytest.raises(mtasts.Malformed):
        mtasts.parse(POLICY.replace(old, new))


def test_without_exchanges_a_policy_may_only_be_none() -> None:
    text = b"version: STSv1\nmode: none\nmax_age: 1\n"
    assert mtasts.parse(text).patterns == []
    for mode in (b"enforce", b"testing"):
        with pytest.raises(mtasts.Malformed):
            mtasts.parse(text.replace(b"none", mode))


@pytest.mark.parametrize(
    ("pattern", "host", "good"),
    [
        (b"mail.example.com", b"Mail.Example.com.", True),
        (b"mail.example.com", b"example.com", False),
        (b"*.example.com", b"mail.example.com", True),
        (b"*.example.com", b"a.mail.example.com", False),
        (b"*.example.com", b"example.com", False),
        (b"*.example.com", b".example.com", False),
        (b"ma*.example.com", b"mail.example.com", False),
        (b"mail.*.com", b"mail.example.com", False),
        (b"mail.example.com", b"", False),
        (b"", b"", False),
    ],
)
def test_a_star_is_one_label(pattern: bytes, host: bytes, good: bool) -> None:
    assert mtasts.matches(pattern, host) is good
    assert Policy(ENFORCE, 1, [b"x", pattern]).names(host) is good


POLICIES = st.none() | st.builds(
    Policy,
    st.sampled_from([ENFORCE, TESTING, NONE]),
    st.integers(0, mtasts.LONGEST_AGE_S),
    st.lists(st.sampled_from([b"a", b"*.b.c", b"mail.example.com"]), min_size=1, max_size=4),
)


@given(st.sampled_from([b"1", b"20160831085700Z"]), st.integers(0, 1 << 40), st.integers(0, 1 << 40), POLICIES)
def test_what_is_kept_comes_back(id_: bytes, fetched: int, failed: int, policy: Policy | None) -> None:
    found = mtasts.decode(Kept(id_, fetched, failed, policy).encode())
    assert (found.id, found.fetched, found.failed) == (id_, fetched, failed)
    if policy is None:
        assert found.policy is None
    else:
        assert found.policy is not None
        assert (found.policy.mode, found.policy.age_s) == (policy.mode, policy.age_s)
        assert found.policy.patterns == policy.patterns


def test_a_file_that_was_cut_is_malformed() -> None:
    whole = Kept(b"1", 5, 6, mtasts.parse(POLICY)).encode()
    without = len(Kept(b"1", 5, 6, None).encode())
    for length in (length for length in range(len(whole)) if length != without):
        with pytest.raises(mtasts.Malformed):
            mtasts.decode(whole[:length])


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda end: POLICY + end))
def test_any_bytes_are_a_policy_or_malformed(text: bytes) -> None:
    for read in (mtasts.parse, mtasts.decode):
        try:
            read(text)
        except mtasts.Malformed:
            pass
    mtasts.policy_id([text, b"v=STSv1;" + text])
