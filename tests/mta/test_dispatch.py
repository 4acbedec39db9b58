"""Deliveries as values: slots, jobs, the last attempt, and a week of retries without a clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import spawning
from qmailpy.mta import bounces
from qmailpy.mta.dispatch import Delivery, Dispatch, Job
from qmailpy.mta.rewriting import Rewriting
from qmailpy.mta.schedule import LIFETIME

BIRTH = 1004950987
LOCAL, REMOTE = 0, 1


def fresh(local: int = 2, remote: int = 2, lifetime: int = LIFETIME) -> Dispatch:
    return Dispatch((local, remote), lifetime)


def delivery(deliveries: Dispatch, channel: int, slot: int) -> Delivery:
    found = deliveries.reported(channel, slot)
    assert found is not None
    return found


def test_deliveries_take_the_first_free_slot_and_count_up() -> None:
    deliveries = fresh(3)
    job = deliveries.open(LOCAL, 7, b"a@b", BIRTH, BIRTH)
    assert [deliveries.start(job, 0, b"x") for _ in range(3)] == [(0, 1), (1, 2), (2, 3)]
    assert not deliveries.free(LOCAL)
    assert deliveries.free(REMOTE)
    deliveries.settle(1, delivery(deliveries, LOCAL, 1), False)
    assert deliveries.start(job, 0, b"x") == (1, 4)
    assert deliveries.status() == b"status: local 3/3 remote 0/2\n"
    deliveries.exiting = True
    assert deliveries.status() == b"status: local 3/3 remote 0/2 exitasap\n"


def test_only_what_is_in_a_slot_can_be_reported_and_only_once() -> None:
    deliveries = fresh()
    job = deliveries.open(REMOTE, 7, b"a@b", BIRTH, BIRTH)
    deliveries.start(job, 0, b"x")
    assert deliveries.reported(LOCAL, 0) is None
    assert deliveries.reported(REMOTE, 1) is None
    assert deliveries.reported(REMOTE, 200) is None
    assert deliveries.reported(REMOTE, 0) is not None
    assert deliveries.reported(REMOTE, 0) is None


def test_a_job_ends_with_its_pass_and_the_last_of_its_deliveries() -> None:
    deliveries = fresh()
    job = deliveries.open(LOCAL, 7, b"a@b", BIRTH, BIRTH)
    deliveries.start(job, 0, b"x")
    deliveries.start(job, 3, b"y")
    job.whole = True
    assert not deliveries.close(job)  # the pass
    for slot, done, last in ((1, True, False), (0, True, True)):
        deliveries.settle(slot, delivery(deliveries, LOCAL, slot), done)
        assert deliveries.close(job) == last
    assert job.complete
    assert deliveries.jobs() == []


@pytest.mark.parametrize(("done", "whole"), [(False, True), (True, False)])
def test_a_list_is_not_complete_if_anything_is_left(done: bool, whole: bool) -> None:
    deliveries = fresh()
    job = deliveries.open(LOCAL, 7, b"a@b", BIRTH, BIRTH)
    deliveries.start(job, 0, b"x")
    job.whole = whole
    deliveries.settle(0, delivery(deliveries, LOCAL, 0), done)
    assert not job.complete


def test_there_are_as_many_jobs_as_slots() -> None:
    deliveries = fresh(1, 1)
    first = deliveries.open(LOCAL, 1, b"", BIRTH, BIRTH)
    assert deliveries.may_open()
    deliveries.open(REMOTE, 1, b"", BIRTH, BIRTH)
    assert not deliveries.may_open()
    assert {(job.channel, job.number) for job in deliveries.jobs()} == {(LOCAL, 1), (REMOTE, 1)}
    assert deliveries.close(first)
    assert deliveries.may_open()
    deliveries.exiting = True
    assert not deliveries.may_open()
    assert not deliveries.free(LOCAL)


def test_the_end_waits_for_deliveries_but_not_for_those_of_a_spawner_that_is_lost() -> None:
    deliveries = fresh()
    assert deliveries.may_end()
    deliveries.start(deliveries.open(LOCAL, 1, b"", BIRTH, BIRTH), 0, b"x")
    assert not deliveries.may_end()
    deliveries.channels[LOCAL].alive = False
    assert deliveries.may_end()
    assert not deliveries.free(LOCAL)


@pytest.mark.parametrize(
    ("age", "report", "verdict"),
    [
        (100, b"Zlater\n", (b"Z", b"later\n")),
        (100, b"Kdone", (b"K", b"done")),
        (100, b"Dno", (b"D", b"no")),
        (100, b"", (b"", b"")),
        (100, b"xyz", (b"x", b"yz")),
        (LIFETIME, b"Zlater", (b"Z", b"later")),
        (LIFETIME + 1, b"Zlater", (b"D", b"later" + bounces.DYING)),
        (LIFETIME + 1, b"Z", (b"D", bounces.DYING)),
        (LIFETIME + 1, b"Kdone", (b"K", b"done")),
        (LIFETIME + 1, b"Z" + b"x" * 9997, (b"D", b"x" * 9997 + bounces.DYING)),
        (LIFETIME + 1, b"Z" + b"x" * 9998, (b"D", b"x" * 9997 + bounces.DYING)),  # its end makes room, as in C
    ],
)
def test_verdicts(age: int, report: bytes, verdict: tuple[bytes, bytes]) -> None:
    deliveries = fresh()
    deliveries.start(deliveries.open(LOCAL, 7, b"a@b", BIRTH, BIRTH + age), 0, b"x")
    assert deliveries.verdict(delivery(deliveries, LOCAL, 0), report) == verdict


class Message:
    """A message of whose recipients each has a list of reports: the last one counts again and again."""

    def __init__(self, recipients: dict[bytes, list[bytes]]) -> None:
        rules = Rewriting([b"me.example"], [], [b"virt.example:v"], b"n")
        self.reports = {rules.rewrite(recipient): list(reports) for recipient, reports in recipients.items()}
        self.left = {channel: [a for c, a in self.reports if c == channel] for channel in (LOCAL, REMOTE)}
        self.attempts: dict[bytes, list[int]] = {address: [] for _, address in self.reports}
        self.failed: dict[bytes, bytes] = {}

    def run(self, deliveries: Dispatch) -> int:
        """From its birth to its end; returns its age then."""
        now = BIRTH
        for channel in (LOCAL, REMOTE):
            if self.left[channel]:
                deliveries.channels[channel].waiting.add(now, 1)
        while True:
            dues = [channel.waiting.due(1 << 60) for channel in deliveries.channels]
            if min(dues) == 1 << 60:
                return now - BIRTH
            now = max(now, min(dues))
            channel = dues.index(min(dues))
            assert deliveries.channels[channel].waiting.take(now) == 1
            self.attempt(deliveries, channel, now)

    def attempt(self, deliveries: Dispatch, channel: int, now: int) -> None:
        assert deliveries.may_open()
        job = deliveries.open(channel, 1, b"a@b", BIRTH, now)
        for address in list(self.left[channel]):
            slot, _ = deliveries.start(job, 0, address)
            self.attempts[address].append(now - BIRTH)
            reports = self.reports[channel, address]
            self.report(
                deliveries, slot, delivery(deliveries, channel, slot), reports.pop(0) if reports[1:] else reports[0]
            )
        job.whole = True
        if deliveries.close(job) and not job.complete:
            deliveries.channels[channel].waiting.add(job.retry, 1)

    def report(self, deliveries: Dispatch, slot: int, found: Delivery, report: bytes) -> None:
        letter, text = deliveries.verdict(found, report)
        done = letter in (spawning.SUCCESS, spawning.FAILURE)
        if done:
            self.left[found.job.channel].remove(found.recipient)
        if letter == spawning.FAILURE:
            self.failed[found.recipient] = text
        deliveries.settle(slot, found, done)
        assert not deliveries.close(found.job)


def test_a_week_of_retries() -> None:
    """In seconds, by the original's formula: squares of the skip's multiples up to the first age above the lifetime."""
    message = Message({
        b"ok@me.example": [b"K"],
        b"busy@me.example": [b"Z", b"Z", b"K"],
        b"never@virt.example": [b"Zfull\n"],
        b"far@x.example": [b"Zno route\n"],
        b"no@x.example": [b"Z", b"Dno\n"],
    })  # fmt: skip
    age = message.run(fresh(1, 1))
    last_local, last_remote = (math.isqrt(LIFETIME) // skip + 1 for skip in (10, 20))
    assert message.attempts == {
        b"ok@me.example": [0],
        b"busy@me.example": [0, 100, 400],
        b"v-never@virt.example": [(10 * n) ** 2 for n in range(last_local + 1)],
        b"far@x.example": [(20 * n) ** 2 for n in range(last_remote + 1)],
        b"no@x.example": [0, 400],
    }
    assert message.failed == {
        b"no@x.example": b"no\n",
        b"v-never@virt.example": b"full\n" + bounces.DYING,
        b"far@x.example": b"no route\n" + bounces.DYING,
    }
    assert age == max((10 * last_local) ** 2, (20 * last_remote) ** 2)


@given(
    reports=st.lists(st.lists(st.sampled_from([b"K", b"Z", b"D", b"x"]), min_size=1, max_size=4), max_size=5),
    lifetime=st.integers(0, 100_000),
)
def test_every_recipient_comes_to_an_end(reports: list[list[bytes]], lifetime: int) -> None:
    for outcomes in reports:
        outcomes.append(b"Z")  # a mangled report is none to die of
    message = Message({b"%d@%s.example" % (n, b"x" if n % 2 else b"me"): r for n, r in enumerate(reports)})
    deliveries = fresh(1, 1, lifetime)
    message.run(deliveries)
    assert message.left == {LOCAL: [], REMOTE: []}
    assert deliveries.jobs() == []
    assert deliveries.may_end()


def test_a_job_knows_its_retry() -> None:
    job: Job = fresh().open(REMOTE, 1, b"", BIRTH, BIRTH + 500)
    assert (job.retry, job.dying) == (BIRTH + 42**2, False)
