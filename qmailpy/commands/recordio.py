"""NAME
    recordio - record what a program reads and writes

SYNOPSIS
    recordio PROGRAM [ARG...]

DESCRIPTION
    recordio runs PROGRAM and prints its input and output on descriptor 2, as lines

        PID < TEXT      input
        PID > TEXT      output

    where PID is the process id of the program. After the text comes a space if the line ended there, a plus sign
    if the packet ended there and the line goes on, or [EOF] where input or output ended. Each packet is printed
    at once; packets are not combined into lines. Packets of more than 256 bytes are cut, so that each line
    of the log is written atomically. Bytes are printed as they are.

    The process that was recordio becomes PROGRAM, with pipes as descriptors 0 and 1; a child of it does the
    copying and printing, until the program's output ends.

EXIT STATUS
    That of PROGRAM.

    100    wrong usage
    111    PROGRAM could not be run

SECURITY
    The log holds everything: passwords, mail, and whatever bytes a client sends to the terminal that shows it.

BUGS
    Since 0 and 1 are pipes, PROGRAM cannot ask a socket who its client is; tcp-environ(5) still says it.

SEE ALSO
    fixcrio(1), tcpserver(1), multilog(8), tcp-environ(5)
"""

import os

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.loops.relay import Flow, Pipes, relay, start_copier
from qmailpy.unix import signals
from qmailpy.unix.fds import write_all

PROGRAM = b"recordio"
USAGE = b"recordio program [ arg ... ]"
PACKET = 256  # bytes, at most, in one write to the log: below PIPE_BUF even if each of them is a line


def _lines(head: bytes, packet: bytes) -> bytes:
    """The lines of the log for one packet."""
    *lines, rest = packet.split(b"\n")
    log = b"".join([head + line + b" \n" for line in lines])
    return log + head + rest + b"+\n" if rest else log


def _record(head: bytes, block: bytes) -> None:
    """Log a block as the original does, which reads no more than a packet at once; an empty one is the end."""
    try:
        if not block:
            write_all(strerr.STDERR, head + b"[EOF]\n")
        for at in range(0, len(block), PACKET):
            write_all(strerr.STDERR, _lines(head, block[at : at + PACKET]))
    except OSError:  # nobody reads the log: no reason to stop the program
        pass


def _copy(pipes: Pipes, pid: int) -> int:
    signals.ignore(signals.PIPE)
    pipes.become_copier()
    received, sent = b"%d < " % pid, b"%d > " % pid
    relay(
        Flow(0, pipes.to_program, observe=lambda block: _record(received, block), hang_up=True),
        Flow(pipes.from_program, 1, observe=lambda block: _record(sent, block)),
    )
    return 0


def main(argv: list[bytes], env: Env) -> int | Exec:
    if len(argv) < 2:
        return strerr.usage(PROGRAM, USAGE)
    pid = os.getpid()
    failed = start_copier(PROGRAM, lambda child: chain.spawn(child, env, "recordio"), lambda pipes: _copy(pipes, pid))
    return failed or Exec(argv[1:], env, who=PROGRAM)
