"""NAME
    qmail-rspawn - have messages delivered to remote hosts

SYNOPSIS
    qmail-rspawn

DESCRIPTION
    qmail-rspawn reads requests for deliveries from descriptor 0 and reports on descriptor 1 how each has ended, as
    qmail-lspawn(8) does and says. qmail-start(8) starts it for qmail-send(8).

    For each delivery it forks; the child becomes qmail-remote(8), or what the variable QMAILREMOTE names, found along
    PATH:

        qmail-remote DOMAIN SENDER RECIPIENT

    where DOMAIN is the part of RECIPIENT after its last @. The message is its descriptor 0, and what it writes on 1
    and 2 says what has become of the recipient and of the message; of these two qmail-rspawn makes one report.

    At its start qmail-rspawn has queue/lock/tcpto forget which hosts did not answer.

CONTROL FILES
    concurrencyremote    how many deliveries at a time, if it is more than 120; from 256 on numbers have two bytes, as
                         for qmail-lspawn(8)

ENVIRONMENT
    QMAILHOME      the home of the mail system. Default: /var/qmail
    QMAILREMOTE    a program in the place of qmail-remote

EXIT STATUS
    0      no more requests
    111    there is no queue, or a control file cannot be read

SECURITY
    It runs as qmailr, who may read the messages in the queue and own nothing there but lock/tcpto.

BUGS
    A qmail-send without the big-concurrency patch does not understand two bytes: with one, keep concurrencyremote below
    256.

SEE ALSO
    qmail-start(8), qmail-send(8), qmail-lspawn(8), qmail-remote(8), qmail-tcpto(8)
"""

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats.spawning import Request
from qmailpy.loops import spawner, workers
from qmailpy.mta import deliveryreports
from qmailpy.stores import spawning, tcpto
from qmailpy.unix import fds

PROGRAM = b"qmail-rspawn"

CONCURRENCY = b"concurrencyremote"
QMAILREMOTE = b"QMAILREMOTE"
REMOTE = b"qmail-remote"


class Deliveries(spawner.Crew):
    """All are made by program."""

    __slots__ = ("_env", "_program")

    def __init__(self, program: bytes, env: Env) -> None:
        self._program = program
        self._env = env

    def fork(self, request: Request, message: int, output: int, sock: workers.Socket | None, text: bytes | None) -> int:
        return chain.spawn(lambda: self._child(request, message, output), self._env, "qmail-rspawn")

    def _child(self, request: Request, message: int, output: int) -> int | Exec:
        try:
            spawner.attach(message, output)
        except OSError:
            return deliveryreports.REMOTE_NOT_RUN
        host = request.recipient.rpartition(b"@")[2]
        argv = [self._program, host, request.sender, request.recipient]
        return Exec(argv, self._env, code=deliveryreports.REMOTE_NOT_RUN)


def main(argv: list[bytes], env: Env) -> int:
    fds.fill_standard()
    try:
        place = spawning.Place(env, CONCURRENCY)
    except spawning.Failed as e:
        return strerr.fail(strerr.LATER, PROGRAM, e.text, error=e.error)
    env = place.env
    program = env.get(QMAILREMOTE) or REMOTE
    tcpto.clear(place.home)
    chain.preload([program], env)
    slots, wide = spawner.capacity(place.concurrency)
    keep = deliveryreports.REMOTE_LONGEST + 1
    spawner.Spawner(slots, wide, place.owner, Deliveries(program, env), deliveryreports.remote, keep).run()
    return 0
