"""dispatch - which deliveries there are, which may begin, and what becomes of a message by their reports. Pure.

A job is one pass over the recipients of a message on one channel: it gets a slot for each recipient that is left, and
ends once it has been at the end of the list and all its deliveries have been reported. One pass at a time reads its
list on each channel, but those before it may still have deliveries in slots.
"""

from qmailpy.formats import sendlog, spawning
from qmailpy.mta import bounces, schedule
from qmailpy.mta.schedule import Waiting

CONCURRENCY = (10, 20)  # of the local and the remote channel
CHANNELS = (0, 1)


class Job:
    """A pass. retry: when the next one comes if recipients are left; dying: there is none, what fails now has failed.

    left: recipients that are not done, of those that it has come to; whole: it has been at the end of the list.
    time: that of the list, at the beginning, in nanoseconds.
    """

    __slots__ = ("channel", "dying", "left", "number", "references", "retry", "sender", "time", "whole")

    def __init__(self, channel: int, number: int, sender: bytes, retry: int, dying: bool) -> None:
        self.channel = channel
        self.number = number
        self.sender = sender
        self.retry = retry
        self.dying = dying
        self.left = 0
        self.references = 1  # the pass, and each delivery
        self.whole = False
        self.time = 0

    @property
    def complete(self) -> bool:
        """Whether no recipient of the list is left."""
        return self.whole and not self.left


class Delivery:
    """What a slot holds. serial: its number in the log; position: where the recipient stands in the list; reported: no
    other report is waited for."""

    __slots__ = ("job", "position", "recipient", "reported", "serial")

    def __init__(self, job: Job, position: int, recipient: bytes, serial: int) -> None:
        self.job = job
        self.position = position
        self.recipient = recipient
        self.serial = serial
        self.reported = False


class Channel:
    """local or remote. alive: its spawner is there."""

    __slots__ = ("alive", "deliveries", "slots", "used", "waiting")

    def __init__(self, slots: int) -> None:
        self.alive = True
        self.slots = slots
        self.used = 0
        self.deliveries: list[Delivery | None] = [None] * slots
        self.waiting = Waiting()


class Dispatch:
    """All deliveries of a qmail-send. exiting: none begins any more."""

    __slots__ = ("_jobs", "_lifetime", "_serial", "channels", "exiting")

    def __init__(self, concurrency: tuple[int, int], lifetime: int) -> None:
        self.channels = (Channel(concurrency[0]), Channel(concurrency[1]))
        self._lifetime = lifetime
        self._jobs: set[Job] = set()
        self._serial = 0
        self.exiting = False

    def may_open(self) -> bool:
        """Whether there is room for another job."""
        return not self.exiting and len(self._jobs) < self.channels[0].slots + self.channels[1].slots

    def open(self, channel: int, number: int, sender: bytes, birth: int, now: int) -> Job:
        """A pass begins, which close ends."""
        retry = schedule.next_retry(birth, now, channel)
        job = Job(channel, number, sender, retry, schedule.is_dying(birth, now, self._lifetime))
        self._jobs.add(job)
        return job

    def jobs(self) -> list[Job]:
        """Those that are not closed."""
        return list(self._jobs)

    def free(self, channel: int) -> bool:
        """Whether a delivery may begin."""
        chosen = self.channels[channel]
        return chosen.used < chosen.slots and chosen.alive and not self.exiting

    def start(self, job: Job, position: int, recipient: bytes) -> tuple[int, int]:
        """A delivery begins, in the first slot that is free; returns the slot and the delivery's serial number."""
        channel = self.channels[job.channel]
        slot = channel.deliveries.index(None)
        self._serial += 1
        channel.deliveries[slot] = Delivery(job, position, recipient, self._serial)
        channel.used += 1
        job.left += 1
        job.references += 1
        return slot, self._serial

    def reported(self, channel: int, slot: int) -> Delivery | None:
        """The delivery that a report names; None if it cannot be meant: no such slot, none in it, or reported before.
        The slot is free after settle."""
        deliveries = self.channels[channel].deliveries
        delivery = deliveries[slot] if slot < len(deliveries) else None
        if delivery is None or delivery.reported:
            return None
        delivery.reported = True
        return delivery

    def verdict(self, delivery: Delivery, report: bytes) -> tuple[bytes, bytes]:
        """Letter and text of a report. At the last attempt a deferral is a failure."""
        letter, text = report[:1], report[1:]
        if letter == spawning.DEFERRAL and delivery.job.dying:
            return spawning.FAILURE, text[: spawning.LONGEST - 3] + bounces.DYING
        return letter, text

    def settle(self, slot: int, delivery: Delivery, done: bool) -> None:
        """A delivery is over, and its job is to be closed. done: so is the recipient."""
        channel = self.channels[delivery.job.channel]
        channel.deliveries[slot] = None
        channel.used -= 1
        if done:
            delivery.job.left -= 1

    def close(self, job: Job) -> bool:
        """The pass, or a delivery, needs the job no more. Whether nobody does: then its message waits again, or is done
        on this channel."""
        job.references -= 1
        if job.references:
            return False
        self._jobs.discard(job)
        return True

    def status(self) -> bytes:
        """The line of the log."""
        local, remote = self.channels
        return sendlog.status((local.used, local.slots), (remote.used, remote.slots), self.exiting)

    def may_end(self) -> bool:
        """Whether nothing is waited for. Of the deliveries of a spawner that is lost nothing will be heard."""
        return not any(channel.used and channel.alive for channel in self.channels)
