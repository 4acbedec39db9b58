"""relay - bytes from one descriptor to another: one way, both ways in one process, or beside a program.

    copy        one way, until the end of the source
    relay       two flows at once; neither waits for the other
    Pipes       between a program and the copier that runs as its child (recordio, fixcrio)
    converse    request | client | conversion (finger@ and its kin)

What the bytes become on the way is the caller's: conversions are functions.
"""

import os
import select
from _collections_abc import Callable

from qmailpy import strerr
from qmailpy.unix.fds import close_others, move, write_all

BLOCK = 65536  # bytes: what a pipe holds on Linux

# Bytes that a blocking descriptor takes at once when poll(2) calls it writable. With more, relay could be stuck in
# a write to a program that is itself stuck in a write to us.
ROOM = select.PIPE_BUF

ENDED = -1


def copy(source: int, target: int, convert: Callable[[bytes, bool], bytes]) -> None:
    """Copy to the end, each block as soon as it is there. convert(block, final) gives the bytes to write; final is
    True once, with an empty block. Raises OSError."""
    while block := os.read(source, BLOCK):
        write_all(target, convert(block, False))
    write_all(target, convert(b"", True))


def _unchanged(block: bytes) -> bytes:
    return block


def _unseen(block: bytes) -> None:
    pass


class Flow:
    """One direction of a relay.

    convert(block) gives the bytes to write for a block that was read; it may hold nothing back for the end.
    observe(block) sees each block as it was read, and b"" at the end of the source.
    hang_up: whether the end of the flow closes target, so that the reader sees it too.
    """

    __slots__ = ("convert", "hang_up", "observe", "pending", "source", "target")

    def __init__(
        self,
        source: int,
        target: int,
        convert: Callable[[bytes], bytes] = _unchanged,
        observe: Callable[[bytes], None] = _unseen,
        hang_up: bool = False,
    ) -> None:
        self.source = source
        self.target = target
        self.convert = convert
        self.observe = observe
        self.hang_up = hang_up
        self.pending = memoryview(b"")

    def advance(self) -> int:
        """One read or one write. Returns the descriptor to wait for before the next one, or ENDED."""
        if self.pending:
            try:
                written = os.write(self.target, self.pending[:ROOM])
            except OSError:
                return ENDED
            self.pending = self.pending[written:]
        else:
            try:
                block = os.read(self.source, BLOCK)
            except OSError:  # a connection that breaks has ended
                block = b""
            self.observe(block)
            if not block:
                return ENDED
            self.pending = memoryview(self.convert(block))
        return self.target if self.pending else self.source


def relay(inward: Flow, outward: Flow) -> None:
    """Copy both ways until outward ends. inward may end before: its source is at its end, or nobody reads its
    target any more. Wants SIGPIPE ignored."""
    poll = select.poll()
    waiting = {}

    def wait(flow: Flow, fd: int) -> None:
        waiting[fd] = flow
        poll.register(fd, select.POLLIN if fd == flow.source else select.POLLOUT)

    wait(inward, inward.source)
    wait(outward, outward.source)
    while True:
        for fd, _ in poll.poll():
            flow = waiting[fd]
            awaited = flow.advance()
            if awaited == fd:
                continue
            del waiting[fd]
            poll.unregister(fd)
            if awaited != ENDED:
                wait(flow, awaited)
                continue
            if flow.hang_up:
                os.close(flow.target)
            if flow is outward:
                return


class Pipes:
    """Two pipes between a program and its copier. The process that made them forks; each side takes its ends.

    If 0 or 1 was closed, an end may have that number already.
    """

    __slots__ = ("from_program", "program_reads", "program_writes", "to_program")

    def __init__(self) -> None:
        self.program_reads, self.to_program = os.pipe()
        self.from_program, self.program_writes = os.pipe()

    def become_program(self) -> None:
        """Have the program's ends on 0 and 1, and nothing else of them."""
        os.close(self.to_program)
        os.close(self.from_program)
        move(self.program_reads, 0)
        move(self.program_writes, 1)

    def become_copier(self) -> None:
        """Have 0, 1, 2 and the copier's ends, and no other descriptor."""
        os.close(self.program_reads)
        os.close(self.program_writes)
        close_others(0, 1, 2, self.to_program, self.from_program)


def start_copier(program: bytes, spawn: Callable[[Callable[[], int]], int], copier: Callable[[Pipes], int]) -> int:
    """Fork copier(pipes), and leave this process with the program's ends on 0 and 1. Returns 0, or an exit code when
    it has said why not. spawn(child) forks, ends the child with child()'s code, and returns the pid."""
    try:
        pipes = Pipes()
    except OSError as e:
        return strerr.fail(strerr.LATER, program, b"unable to create pipe", error=e)
    try:
        spawn(lambda: copier(pipes))
    except OSError as e:
        return strerr.fail(strerr.LATER, program, b"unable to fork", error=e)
    pipes.become_program()
    return 0


def converse(program: bytes, client, spawn, request: bytes, convert) -> int:  # type: ignore[no-untyped-def]
    """A pipeline: the client finds request on its descriptor 0, and what it writes on 1 goes to ours through
    convert, as in copy. Returns, when the client has ended, an exit code, which knows nothing of the client's.

    client: what the child becomes, a chain.Exec; spawn(child) forks, follows what child() returns, returns the pid.
    """

    def child():  # type: ignore[no-untyped-def]
        os.close(answer)
        move(given, 0)
        move(written, 1)
        return client

    try:
        given = os.memfd_create("request")
        write_all(given, request)
        os.lseek(given, 0, os.SEEK_SET)
        answer, written = os.pipe()
        pid = spawn(child)
        os.close(given)
        os.close(written)
        copy(answer, 1, convert)
        os.close(answer)
        os.waitpid(pid, 0)
    except OSError as e:
        return strerr.fail(strerr.LATER, program, b"unable to print the answer", error=e)
    return 0
