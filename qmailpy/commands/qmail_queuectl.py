"""NAME
    qmail-queuectl - list, hold, release, retry, bounce or delete messages in the queue

SYNOPSIS
    qmail-queuectl [-jn] VERB [CONDITION]...

DESCRIPTION
    qmail-queuectl does with the messages in the queue for which all conditions hold, while qmail-send runs or not,
    what VERB says:

    list       prints a line for each, the oldest first
    show       prints all that is known of each, with its header
    hold       makes no more attempts, until it is released
    release    takes back hold, and bounce and delete that have not been carried out, and makes an attempt now
    retry      makes the next attempt now, not when it would be due; what is held stays held
    bounce     gives up: the recipients that are left fail, and the sender is told as usual
    delete     gives up without telling anybody

    So this forgets all that one sender has sent to hosts that do not answer, and says how many messages that were:

        qmail-queuectl delete --from '*@a.example' --error 'timed out'

    The verbs other than list and show want a condition, or --all. They take messages that qmail-send has taken up;
    newer ones, which are in the queue for less than a second as a rule, are only listed and shown. An order takes
    the place of an earlier one for the same message, and outlives a restart of qmail-send. The lifetime of a message
    goes on while it is held. Deliveries that have begun are not stopped.

    A line of list has the number of the message, its size in bytes, its age, how many recipients are left of how
    many, the next attempt, the sender, and a recipient that is left with the reason why the last attempt failed:

        372  1234  3h12m  1/3  in 5m  <joe@a.example>  mary@b.x: no MX

    In place of the next attempt stands `due`, `new` for a message not taken up yet, or `held`, `bounce` or `delete`
    for one about which there is such an order. Bytes that cannot be printed are shown as cat -v shows them. For how
    many messages a verb has done its work is printed at the end, as `delete: 3 messages`.

CONDITIONS
    N                  the number of the message; of several numbers one is enough
    --from GLOB        the sender
    --older AGE        AGE is in seconds, or such as 90m, 2h or 1d12h; the units are s, m, h, d and w
    --younger AGE      the other way round
    --larger SIZE      SIZE is in bytes, or such as 100k, 5M or 1G
    --smaller SIZE     the other way round
    --held             it is held
    --not-held         it is not
    --new              qmail-send has not taken it up yet
    --all              all messages; without other conditions

    --to GLOB          a recipient that is left, as qmail-send has rewritten it
    --host GLOB        its host
    --channel WORD     local or remote
    --error GLOB       some part of the reason why the last attempt for it failed

    The last four hold together for one of the recipients that are left. In a GLOB * stands for any number of bytes, ?
    for one, and large and small letters are the same; the empty sender is ''. --from=GLOB is --from GLOB.

OPTIONS
    -j    print one JSON object per line instead: one for each message
    -n    change nothing; print which messages are meant, and for how many there would be something to do

    Options, VERB and conditions may stand in any order.

JSON
    Strings have \\xNN for bytes that are not UTF-8; times are in seconds since 1970. Of list and show:

    number, size    of the message, in bytes
    birth, age      when it was taken up, and how many seconds ago
    sender          without < and >
    state           new, waiting, held, bounce, or delete
    bouncing        whether recipients have failed already
    left, done      how many recipients
    next            the next attempt; null if it is new, or nobody is left
    error           {address, when, text} of the last attempt that failed; null if none is known

    Of show also

    recipients      a list of {channel, address, done, error}, where error is {when, text}, or null, and channel is
                    null for a new message
    header          a string

    Of the other verbs: number, sender, verb, dry (whether that was -n), and result, which is `done`, `ended` (the
    message was gone), `new` (it is not taken up yet), `held` (retry leaves it alone), `free` (there was no order to
    take back), or `failed`.

ENVIRONMENT
    QMAILHOME    the home, /var/qmail if unset

EXIT STATUS
    0      done
    1      there were conditions, and no message for which they hold
    100    wrong usage
    111    something could not be read or done, or qmail-send has not answered

SECURITY
    It runs as root, or as the owner of the queue. As root it becomes the owner of info at once; only a process that
    removes what delete has left in mess, while no qmail-send runs, becomes the owner of mess.

BUGS
    Orders are for the qmail-send of this toolkit, which answers within five seconds. The original does not know them:
    qmail-queuectl says that there was no answer, and the orders wait for a qmail-send that does. Signal ALRM has the
    original retry everything. Nor does it tell when its next attempts are and why the last ones failed.

    While no qmail-send runs, none can start before hold, release, retry, bounce or delete is done. Whoever gives orders
    waits until others who do are done.

    Where qmails, who may not remove files in mess, runs delete while no qmail-send runs, what is left there is garbage
    that qmail-send removes after 36 hours.

SEE ALSO
    qmail-qread(8), qmail-qstat(8), qmail-send(8), qmail-make-queue(8)
"""

import os
import time

from qmailpy import strerr
from qmailpy.chain import Env, spawn
from qmailpy.formats import ages
from qmailpy.formats.visible import visible
from qmailpy.mta import selection
from qmailpy.stores import lasterrors, orders, queue
from qmailpy.stores.home import home
from qmailpy.unix import fds, ids, signals

PROGRAM = b"qmail-queuectl"
USAGE = b"qmail-queuectl [ -jn ] verb [ condition ... ]"

STDOUT = 1
NOTHING = 1  # exit code

ANSWER_S = 5.0  # seconds that qmail-send has
LOOK_S = 0.02  # between two looks for the answer
NUMBER = 8  # bytes of a request to the process that removes files
REMOVED, LEFT = b"+", b"!"  # its answers

HEADER_SIZE = 65536  # bytes of a header that are shown

LIST, SHOW, HOLD, RELEASE, RETRY, GIVE_UP, FORGET = (
    b"list", b"show", b"hold", b"release", b"retry", b"bounce", b"delete"
)  # fmt: skip
VERBS = (LIST, SHOW, HOLD, RELEASE, RETRY, GIVE_UP, FORGET)
ORDER = {HOLD: orders.HELD, RELEASE: orders.PLAIN, GIVE_UP: orders.BOUNCE, FORGET: orders.DELETE}

# Results
DONE, ENDED, NEW, HELD, FREE, FAILED = "done", "ended", "new", "held", "free", "failed"

# What is said of results other than done.
SAID = {
    ENDED: b"%d ended meanwhile",
    NEW: b"%d not taken up yet",
    HELD: b"%d held",
    FREE: b"%d without an order",
    FAILED: b"%d failed",
}

STATES = {orders.DELETE: b"delete", orders.BOUNCE: b"bounce", orders.HELD: b"held", orders.PLAIN: b"waiting"}
BLANKS = bytes(ord(" ") if byte in b"\t\n" else byte for byte in range(256))


class Entry:
    """A message, with what is known of the last attempts."""

    __slots__ = ("age", "errors", "facts", "message", "recipients")

    def __init__(self, message: queue.Listed, errors: lasterrors.Errors, now: int) -> None:
        self.message = message
        self.errors = errors
        self.age = max(now - message.birth, 0)
        self.recipients = [each for each in message.recipients if not isinstance(each, OSError)]
        left = [
            selection.Recipient(channel, address, self.said(channel, address)[1])
            for channel, done, address in self.recipients
            if not done
        ]
        held = orders.of(message.mode) == orders.HELD and not message.new
        self.facts = selection.Facts(message.number, message.sender, message.size, self.age, held, message.new, left)

    def said(self, channel: bytes, address: bytes) -> tuple[int, bytes]:
        """When and why the last attempt for a recipient has failed; an empty text if that is not known."""
        return self.errors.get((channel, address), (0, b""))

    @property
    def state(self) -> bytes:
        return b"new" if self.message.new else STATES[orders.of(self.message.mode)]

    @property
    def next(self) -> int | None:
        """The next attempt, in seconds since 1970."""
        channels = {recipient.channel for recipient in self.facts.left}
        return min((when for channel, when in self.message.next.items() if channel in channels), default=None)

    @property
    def error(self) -> tuple[int, bytes, bytes] | None:
        """(when, address, text) of the last attempt that has failed, of those for recipients that are left."""
        known = [(*self.said(each.channel, each.address), each.address) for each in self.facts.left if each.error]
        return max(((when, address, text) for when, text, address in known), default=None)

    def describe_next(self, now: int) -> bytes:
        """due, in 5m, or the state that keeps it from an attempt."""
        if self.state != b"waiting":
            return self.state
        return b"due" if self.next is None or self.next <= now else b"in " + ages.show(self.next - now)

    def row(self, now: int) -> list[bytes]:
        """The columns of list."""
        error = self.error
        counts = b"%d/%d" % (len(self.facts.left), len(self.recipients))
        last = b"".join([_line(each.address) for each in self.facts.left[:1]])
        if error is not None:
            last = _line(error[1]) + b": " + _line(error[2])
        return [
            b"%d" % self.message.number, b"%d" % self.message.size, ages.show(self.age), counts,
            self.describe_next(now), b"<%s>" % _line(self.message.sender), last,
        ]  # fmt: skip

    def record(self) -> dict[str, object]:
        """The object of list."""
        error = self.error
        message = self.message
        left = len(self.facts.left)
        return {
            "number": message.number,
            "size": message.size,
            "birth": message.birth,
            "age": self.age,
            "sender": _string(message.sender),
            "state": _string(self.state),
            "bouncing": message.bouncing,
            "left": left,
            "done": len(self.recipients) - left,
            "next": self.next,
            "error": None
            if error is None
            else {"address": _string(error[1]), "when": error[0], "text": _string(error[2])},
        }

    def whole_record(self, header: bytes) -> dict[str, object]:
        """The object of show."""
        recipients = []
        for channel, done, address in self.recipients:
            when, text = self.said(channel, address)
            recipients.append(
                {
                    "channel": _string(channel) or None,
                    "address": _string(address),
                    "done": done,
                    "error": {"when": when, "text": _string(text)} if text and not done else None,
                }
            )
        return {**self.record(), "recipients": recipients, "header": _string(header)}

    def whole_text(self, header: bytes, now: int) -> bytes:
        """The lines of show."""
        message = self.message
        lines = [
            b"message %d" % message.number,
            b"    size %d" % message.size,
            b"    age %s" % ages.show(self.age),
            b"    sender <%s>" % _line(message.sender),
            b"    state %s" % self.state,
        ]
        if message.bouncing:
            lines.append(b"    recipients have failed, of which the sender will be told")
        for channel, done, address in self.recipients:
            lines.append(b"    to %s%s" % (channel + b" " if channel else b"", _line(address)))
            if done:
                lines.append(b"        done")
                continue
            when, text = self.said(channel, address)
            if text:
                lines.append(b"        failed %s ago: %s" % (ages.show(now - when), _line(text)))
            due = message.next.get(channel)
            if self.state == b"waiting" and due is not None:
                lines.append(b"        next attempt " + (b"now" if due <= now else b"in " + ages.show(due - now)))
        lines.append(b"    header")
        lines += [b"        " + visible(line) for line in header.splitlines()]
        return b"\n".join(lines) + b"\n"


def _line(text: bytes) -> bytes:
    """On one line, and safe for a terminal."""
    return visible(text.strip(b"\n").translate(BLANKS))


def _string(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def _aligned(rows: list[list[bytes]]) -> bytes:
    """Lines of columns: all but the last two have the same width, and the numbers among them end in line."""
    widths = [max([len(row[place]) for row in rows], default=0) for place in range(5)]
    lines = []
    for row in rows:
        columns = [row[place].rjust(width) for place, width in enumerate(widths)]
        lines.append(b"  ".join([*columns, *row[5:]]).rstrip(b" ") + b"\n")
    return b"".join(lines)


class Stopped(Exception):
    """Nothing more can be done, and that is said. args[0]: the exit code."""


class Cleaner:
    """Removes what is left of a message in S2, as the owner of mess: for root, in a process of its own."""

    __slots__ = ("_answers", "_asked", "_layout", "_may", "_pid", "_queue")

    def __init__(self, fd: int, layout: queue.Layout, env: Env) -> None:
        """Raises OSError."""
        self._queue = fd
        self._layout = layout
        self._pid = 0
        uid, gid = queue.owner(fd)
        self._may = os.geteuid() in (0, uid)
        if os.geteuid() or not uid:
            return
        requests, self._asked = os.pipe()
        self._answers, answers = os.pipe()
        signals.ignore(signals.PIPE)  # if that process is lost, we are not
        try:
            self._pid = spawn(lambda: self._serve(uid, gid, requests, answers), env, "qmail-queuectl")
        finally:
            os.close(requests)
            os.close(answers)

    def _serve(self, uid: int, gid: int, requests: int, answers: int) -> int:
        fds.close_others(2, self._queue, requests, answers)
        try:
            ids.drop(uid, gid)
            while len(number := fds.read_all(requests, NUMBER)) == NUMBER:
                fds.write_all(answers, REMOVED if self._remove(int.from_bytes(number, "big")) else LEFT)
        except OSError as e:
            return strerr.fail(strerr.LATER, PROGRAM, b"unable to remove messages", error=e)
        return 0

    def _remove(self, number: int) -> bool:
        intd, mess = self._layout.todo(b"intd", number), self._layout.spread(b"mess", number)
        return queue.remove(self._queue, intd, mess)

    def remove(self, number: int) -> bool:
        """Remove intd/N and mess/S/N; False if that was not possible. For others than root and the owner there is
        nothing to do: qmail-send will."""
        if not self._may:
            return True
        if not self._pid:
            return self._remove(number)
        try:
            fds.write_all(self._asked, number.to_bytes(NUMBER, "big"))
            return fds.read_all(self._answers, len(REMOVED)) == REMOVED
        except OSError:
            return False

    def end(self) -> None:
        """To be called once."""
        if self._pid:
            os.close(self._asked)
            os.close(self._answers)
            os.waitpid(self._pid, 0)


class Tool:
    """One run. code: the exit code so far."""

    __slots__ = ("_chosen", "_cleaner", "_fd", "_json", "_layout", "_now", "_verb", "code")

    def __init__(self, fd: int, layout: queue.Layout, chosen: selection.Selection, cleaner: Cleaner | None):
        self._fd = fd
        self._layout = layout
        self._verb = chosen.verb
        self._chosen = chosen
        self._json = b"j" in chosen.letters
        self._cleaner = cleaner
        self._now = int(time.time())
        self.code = 0

    def run(self) -> None:
        """Raises Stopped."""
        if self._verb in (LIST, SHOW):
            entries = self._find()
            self._print(self._listing(entries) if self._verb == LIST else self._showing(entries))
        elif b"n" in self._chosen.letters:
            entries = self._find()
            results = [self._foreseen(entry) for entry in entries]
            if not self._json:
                self._print(self._listing(entries))
            self._report(entries, results, dry=True)
        else:
            self._change()

    def _trouble(self, what: bytes, error: OSError) -> None:
        strerr.warn(PROGRAM, b"unable to ", what, error=error)
        self.code = strerr.LATER

    def _print(self, text: bytes) -> None:
        try:
            fds.write_all(STDOUT, text)
        except OSError as e:
            raise Stopped(strerr.fail(strerr.LATER, PROGRAM, b"unable to write output", error=e))

    # Which messages

    def _find(self) -> list[Entry]:
        """The messages that are chosen, the oldest first."""
        try:
            noted = lasterrors.noted(self._fd)
            new = set(queue.waiting(self._fd, self._layout))
            numbers = self._chosen.numbers or {*new, *queue.preprocessed(self._fd, self._layout)}
        except queue.Unlisted as e:
            raise Stopped(strerr.fail(strerr.LATER, PROGRAM, b"unable to read queue/", e.name, error=e))
        entries = []
        for number in numbers:
            entry = self._look(number, number in new, number in noted)
            if entry is not None and self._chosen.chooses(entry.facts):
                entries.append(entry)
        if not entries and not (self._chosen.is_empty or self.code):
            self.code = NOTHING
        return sorted(entries, key=lambda entry: (entry.message.birth, entry.message.number))

    def _look(self, number: int, new: bool, has_errors: bool) -> Entry | None:
        """None if there is no such message (any more)."""
        try:
            if new:
                try:
                    return Entry(queue.look_new(self._fd, self._layout, number), {}, self._now)
                except FileNotFoundError:  # it has been taken up meanwhile
                    pass
            message = queue.look(self._fd, self._layout, number)
        except OSError as e:
            if not isinstance(e, FileNotFoundError) or self._is_there(number):
                self._trouble(b"read message %d" % number, e)
            return None
        for recipient in message.recipients:
            if isinstance(recipient, OSError):
                self._trouble(b"read the recipients of message %d" % number, recipient)
        return Entry(message, lasterrors.read(self._fd, number) if has_errors else {}, self._now)

    def _is_there(self, number: int) -> bool:
        try:
            orders.read(self._fd, self._layout, number)
        except OSError:
            return False
        return True

    # What is printed of them

    def _listing(self, entries: list[Entry]) -> bytes:
        if self._json:
            return _objects([entry.record() for entry in entries])
        return _aligned([entry.row(self._now) for entry in entries])

    def _showing(self, entries: list[Entry]) -> bytes:
        if self._json:
            return _objects([entry.whole_record(self._header(entry)) for entry in entries])
        return b"\n".join([entry.whole_text(self._header(entry), self._now) for entry in entries])

    def _header(self, entry: Entry) -> bytes:
        try:
            text = queue.beginning(self._fd, self._layout, entry.message.number, HEADER_SIZE)
        except FileNotFoundError:
            return b""
        except OSError as e:
            self._trouble(b"read message %d" % entry.message.number, e)
            return b""
        header, end, _ = text.partition(b"\n\n")
        return header + b"\n" if end else text

    def _report(self, entries: list[Entry], results: list[str], dry: bool) -> None:
        if self._json:
            self._print(_objects([
                {
                    "number": entry.message.number, "sender": _string(entry.message.sender),
                    "verb": _string(self._verb), "dry": dry, "result": result,
                }
                for entry, result in zip(entries, results, strict=True)
            ]))  # fmt: skip
            return
        done = results.count(DONE)
        said = [b"%s: %d message%s" % (self._verb, done, b"" if done == 1 else b"s")]
        said += [text % results.count(result) for result, text in SAID.items() if result in results]
        self._print(b", ".join(said) + b"\n")

    # What is done to them

    def _foreseen(self, entry: Entry) -> str:
        """The result, unless something happens meanwhile."""
        if entry.message.new:
            return NEW
        return self._spared(orders.of(entry.message.mode))

    def _spared(self, order: int) -> str:
        """Why the verb leaves a message alone about which there is this order; else DONE."""
        if self._verb == RETRY and order == orders.HELD:
            return HELD
        if self._verb == RELEASE and order == orders.PLAIN:
            return FREE
        return DONE

    def _change(self) -> None:
        try:
            lock = orders.lock(self._fd)
        except OSError as e:
            raise Stopped(strerr.fail(strerr.LATER, PROGRAM, b"unable to lock queue/info", error=e))
        try:
            self._change_alone()
        finally:
            os.close(lock)

    def _change_alone(self) -> None:
        try:
            mutex = orders.take_over(self._fd)
        except OSError as e:
            raise Stopped(strerr.fail(strerr.LATER, PROGRAM, b"unable to lock queue/lock/sendmutex", error=e))
        running = mutex < 0
        try:
            entries = self._find()
            results = [self._treat(entry, running) for entry in entries]
        finally:
            if not running:
                os.close(mutex)
        if running and DONE in results:
            self._tell()
        self._report(entries, results, dry=False)

    def _treat(self, entry: Entry, running: bool) -> str:
        message = entry.message
        if message.new or queue.is_new(self._fd, self._layout, message.number):
            return NEW
        try:
            info = orders.open_info(self._fd, self._layout, message)
        except FileNotFoundError:
            return ENDED
        except OSError as e:
            self._trouble(b"open info of message %d" % message.number, e)
            return FAILED
        try:
            return self._order(info, message.number, running)
        except OSError as e:
            self._trouble(b"%s message %d" % (self._verb, message.number), e)
            return FAILED
        finally:
            os.close(info)

    def _order(self, info: int, number: int, running: bool) -> str:
        """Raises OSError."""
        spared = self._spared(orders.current(info))
        if spared != DONE:
            return spared
        if self._verb != RETRY:
            orders.give(info, ORDER[self._verb])
        if self._verb != HOLD:  # what is to be done is done when the next attempt is made
            orders.hurry(self._fd, self._layout, number, self._now)
        if running:
            return ENDED if orders.has_ended(info) else DONE
        if self._verb == FORGET:
            self._remove(number)
        return DONE

    def _remove(self, number: int) -> None:
        """Raises OSError."""
        orders.discard(self._fd, self._layout, number)
        if self._cleaner is not None and not self._cleaner.remove(number):
            self.code = strerr.LATER
            strerr.warn(PROGRAM, b"unable to remove mess of message %d, which is garbage now" % number)

    def _tell(self) -> None:
        try:
            told = orders.tell(self._fd)
            limit = time.monotonic() + ANSWER_S
            while not orders.answered(self._fd, told):
                if time.monotonic() > limit:
                    strerr.warn(PROGRAM, b"qmail-send has not answered; the next one will find what was ordered")
                    self.code = strerr.LATER
                    return
                time.sleep(LOOK_S)
                if orders.asked(self._fd) != told:  # its answer to an earlier question has come in between
                    told = orders.tell(self._fd)
        except OSError as e:
            self._trouble(b"tell qmail-send", e)


def _objects(records: list[dict[str, object]]) -> bytes:
    import json  # heavy, and for programs that wait

    return b"".join([json.dumps(record).encode() + b"\n" for record in records])


def _open(place: bytes) -> tuple[int, queue.Layout]:
    """A descriptor for paths below the queue, and its layout. Raises Stopped."""
    try:
        fd = os.open(place + b"/queue/.", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise Stopped(strerr.fail(strerr.LATER, PROGRAM, b"unable to open ", place, b"/queue", error=e))
    try:
        return fd, queue.find_layout(fd)
    except OSError as e:
        os.close(fd)
        raise Stopped(strerr.fail(strerr.LATER, PROGRAM, b"unable to read queue/mess", error=e))


def _become_keeper(fd: int) -> None:
    """Raises Stopped."""
    try:
        keeper = orders.keeper(fd)
        if keeper is not None:
            ids.drop(*keeper)
    except OSError as e:
        raise Stopped(strerr.fail(strerr.LATER, PROGRAM, b"unable to become the owner of queue/info", error=e))


def _work(fd: int, layout: queue.Layout, chosen: selection.Selection, env: Env) -> int:
    """The exit code. Raises Stopped."""
    cleaner = None
    if chosen.verb == FORGET and b"n" not in chosen.letters:
        try:
            cleaner = Cleaner(fd, layout, env)
        except OSError as e:
            raise Stopped(strerr.fail(strerr.LATER, PROGRAM, b"unable to fork", error=e))
    try:
        _become_keeper(fd)
        tool = Tool(fd, layout, chosen, cleaner)
        tool.run()
        return tool.code
    finally:
        if cleaner is not None:
            cleaner.end()


def main(argv: list[bytes], env: Env) -> int:
    try:
        chosen = selection.parse(argv[1:], b"jn", VERBS)
    except selection.SelectionError as e:
        return strerr.fail(strerr.NEVER, PROGRAM, visible(e.args[0]))
    if not chosen.verb:
        return strerr.usage(PROGRAM, USAGE)
    if chosen.verb not in (LIST, SHOW) and chosen.is_empty and not chosen.every:
        return strerr.fail(strerr.NEVER, PROGRAM, chosen.verb, b" wants a condition, or --all")
    try:
        fd, layout = _open(home(env))
        try:
            return _work(fd, layout, chosen, env)
        finally:
            os.close(fd)
    except Stopped as e:
        return int(e.args[0])
