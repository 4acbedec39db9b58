"""tai64nlocal: Debian's, wherever that one does not crash."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qmailpy.commands.tai64nlocal import _Dater
from qmailpy.formats.tai64n import SECONDS_1970
from tests.commands import filters
from tests.helpers import BIN, ROOT, environment, needs, run

ZONES = ["UTC0", "Europe/Berlin", "America/St_Johns", "AAA-5:45", ":/nonexistent"]
FARTHEST = 1 << 55  # seconds; about a thousand million years, which all C libraries take

LABEL = b"@400000006b09a96a0618f76c"


@pytest.fixture(params=["ours", "Debian's"])
def tai64nlocal(request: pytest.FixtureRequest) -> str | Path:
    return BIN / "tai64nlocal" if request.param == "ours" else needs("tai64nlocal")


@pytest.mark.parametrize(
    ("zone", "date"),
    [
        ("UTC0", b"2026-11-27 16:01:36.102299500"),
        ("Europe/Berlin", b"2026-11-27 17:01:36.102299500"),
        ("AAA+1:30", b"2026-11-27 14:31:36.102299500"),
    ],
)
def test_labels_become_dates_of_the_zone(tai64nlocal: str | Path, zone: str, date: bytes) -> None:
    text = LABEL + b" a\nb " + LABEL + b"\n\n @4\n" + LABEL + b"\n" + LABEL + b"@\n"
    shown = run([tai64nlocal], text, env=environment(TZ=zone))
    assert shown.stdout == date + b" a\nb " + LABEL + b"\n\n @4\n" + date + b"\n" + date + b"@\n"
    assert (shown.returncode, shown.stderr) == (0, b"")


def test_a_warm_step_follows_the_zone_of_its_environment(tmp_path: Path) -> None:
    (tmp_path / "TZ").write_text("AAA+1:30")
    for cold in ("", "1"):
        env = environment(TZ="UTC0", QMAILPY_COLD=cold)
        shown = run(["envdir", tmp_path, "tai64nlocal"], LABEL + b"\n", env=env)
        assert shown.stdout == b"2026-11-27 14:31:36.102299500\n", shown.stderr


def label(second: int, nanoseconds: int, zeros: int) -> bytes:
    return b"@%s%016x%08x" % (b"0" * zeros, (second + SECONDS_1970) % (1 << 64), nanoseconds)


LABELS = st.builds(
    label,
    st.one_of(st.integers(0, 1 << 33), st.integers(-FARTHEST, FARTHEST), st.sampled_from([0, 1, 1795795296])),
    st.one_of(st.integers(0, 999999999), st.integers(0, 0xFFFFFFFF)),
    st.sampled_from([0, 0, 0, 1, 8]),
)
OTHERS = st.sampled_from([b"\n", b"\n", b" ", b"x\n", b"g", b"A", b"_", b"\0\xff", b" @4 ", b"\r"])


@settings(max_examples=60)
@given(pieces=st.lists(LABELS | OTHERS, max_size=20), zone=st.sampled_from(ZONES))
@example(pieces=[LABEL, b"\n", LABEL[:20], b"_", b"\n", LABEL, b"A\n"], zone="UTC0")
def test_all_is_dated_as_debians_dates_it(pieces: list[bytes], zone: str) -> None:
    text = b"".join(pieces) + b"\n"
    env = environment(TZ=zone)
    ours, debians = (run([program], text, env=env) for program in (BIN / "tai64nlocal", needs("tai64nlocal")))
    if debians.returncode == 0:
        assert (ours.stdout, ours.stderr, ours.returncode) == (debians.stdout, debians.stderr, 0)


@pytest.mark.parametrize(
    "strange",
    [
        *(b"@", b"@4", b"@g", b"@ABCDEF0123456789ABCDEF01", b"@00000000", b"@4000000000000000", b"@" + b"f" * 24),
        *(b"@40000000000000000", b"@7fffffffffffffff00000000", b"@0000000000000000000000001", b"@" + b"4" * 2000),
    ],
)
def test_a_label_without_a_date_is_copied(strange: bytes) -> None:
    """The original dies of it."""
    text = b"before\n" + strange + b" x\n" + strange + b"\nafter\n" + strange
    result = run([BIN / "tai64nlocal"], text)
    assert (result.stdout, result.stderr, result.returncode) == (text, b"", 0)


def test_a_label_at_the_end_is_dated() -> None:
    """The original drops it."""
    result = run([BIN / "tai64nlocal"], b"x\n" + LABEL, env=environment(TZ="UTC0"))
    assert result.stdout == b"x\n2026-11-27 16:01:36.102299500"


@given(
    text=st.lists(st.sampled_from([LABEL, LABEL[:9], b"@", b"\n", b"x", b"0", b"\n" + LABEL]), max_size=20).map(
        b"".join
    ),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
)
def test_pieces_of_any_size_give_the_same(text: bytes, sizes: list[int]) -> None:
    def fed(cut: list[int]) -> bytes:
        dater = _Dater()
        output, at = b"", 0
        while at < len(text):
            output += dater.feed(text[at : at + cut[0]], False)
            at += cut[0]
            cut = [*cut[1:], cut[0]]
        return output + dater.feed(b"", True)

    assert fed(sizes) == fed([max(1, len(text))])


def test_each_line_is_passed_on_at_once(tai64nlocal: str | Path) -> None:
    program: list[str | Path] = ["env", "TZ=UTC0", tai64nlocal]
    date = b"2026-11-27 16:01:36.102299500"
    filters.answers(program, [b"one\n", LABEL + b" t", b"wo\n"], [b"one\n", date + b" t", b"wo\n"])


@pytest.mark.parametrize("closed", ["<&-", ">&-", ">/dev/full"])
def test_what_cannot_be_read_or_written_is_111_without_a_word(tai64nlocal: str | Path, closed: str) -> None:
    result = run(["sh", "-c", f'exec "$0" {closed}', tai64nlocal], b"line\n")
    assert (result.stdout, result.stderr, result.returncode) == (b"", b"", 111)


def test_it_ends_as_debians_when_nobody_reads_its_output() -> None:
    ours, debians = (
        filters.ended_without_reader(program, filters.SAMPLE) for program in (BIN / "tai64nlocal", needs("tai64nlocal"))
    )
    assert ours == debians


def test_what_tai64n_wrote_is_dated_between_before_and_after() -> None:
    script = 'date +"%F %T"; echo x | tai64n | tai64nlocal; date +"%F %T"'
    result = subprocess.run(["sh", "-c", script], capture_output=True, env=environment(), cwd=ROOT, check=True)
    before, line, after = result.stdout.splitlines()
    assert before <= line <= after + b"~"
    assert line.endswith(b" x")
