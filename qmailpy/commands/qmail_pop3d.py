"""NAME
    qmail-pop3d - distribute mail via POP3

SYNOPSIS
    qmail-pop3d MAILDIR

DESCRIPTION
    qmail-pop3d serves the messages of MAILDIR to a POP3 client on descriptors 0 and 1. It is most often run by
    checkpassword, as the user and in the user's home directory:

        tcpserver 0 110 qmail-popup mail.example \\
            checkpassword qmail-pop3d Maildir

    The messages of a session are those that lay in new/ and cur/ when it began and were older than that very
    second, in order of their modification times. QUIT removes the messages marked by DELE and moves the
    others from new/ to cur/ with :2, appended. A session that ends without QUIT changes nothing. Files in
    tmp/ that nobody has accessed for 36 hours are removed.

    It understands STAT, LIST, UIDL, RETR, TOP, DELE, RSET, LAST, NOOP, CAPA and QUIT, with PIPELINING. A
    message's UIDL is its file's name up to the first colon. As in the original, the count of STAT includes
    deleted messages, the sizes are those of the files, with LF for a line's end, and a blank line is added to
    every message.

    A client that sends or takes nothing for 1200 seconds is dropped, as if it had left.

EXIT STATUS
    0    the session is over, however it ended
    1    invoked as uid 0

SECURITY
    qmail-pop3d refuses to run as root: a checker that has changed nothing would let its client read and
    remove what root may.

    It follows symbolic links in the Maildir, as its user could.

BUGS
    The whole list of messages is in memory: about 200 bytes per message.

SEE ALSO
    maildirmake(1), qmail-popup(8), checkpassword(8)
"""

import os
import time

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.protocols import pop3
from qmailpy.protocols.lines import Lines
from qmailpy.stores import maildir
from qmailpy.unix import signals
from qmailpy.unix.timed import Peer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmailpy.unix.stage import Stage

PROGRAM = b"qmail-pop3d"
INVOKED_AS_ROOT = b"qmail-pop3d invoked as uid 0, terminating\n"

TIMEOUT = 1200  # seconds per read and per write, qmail-pop3d(8)
READ_SIZE = 4096  # bytes of commands at a time
BLOCK = 65536  # bytes of a message at a time; also how much output may wait for one write

# Replies besides those of protocols.pop3
NO_MAILDIR = b"-ERR this user has no $HOME/Maildir\r\n"
NO_SCAN = b"-ERR unable to scan $HOME/Maildir\r\n"


class Session:
    """One client: the conversation, the paths of its messages, and the output that waits for the next write."""

    __slots__ = ("conversation", "paths", "peer", "waiting", "waiting_size")

    def __init__(self, peer: Peer, paths: list[bytes], sizes: list[int]) -> None:
        self.peer = peer
        self.paths = paths
        self.conversation = pop3.Transaction(paths, sizes)
        self.waiting: list[bytes] = []
        self.waiting_size = 0

    def send(self, data: bytes) -> None:
        """Replies go out together when no command is left to read (RFC 2449 §6.6), or when there are many."""
        self.waiting.append(data)
        self.waiting_size += len(data)
        if self.waiting_size >= BLOCK:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            self.peer.write(b"".join(self.waiting))
            self.waiting.clear()
            self.waiting_size = 0

    def run(self) -> None:
        """Talk until the client says QUIT or leaves."""
        lines = Lines(pop3.LINE_LIMIT)
        self.send(pop3.OKAY)
        self.flush()
        while not self.conversation.ended:
            block = self.peer.read(READ_SIZE)
            if not block:
                return
            for line in lines.feed(block):
                pieces, wanted = self.conversation.line(line)
                if wanted is not None:
                    self.retrieve(wanted)
                elif self.conversation.ended:
                    self.update()
                    break
                else:
                    for piece in pieces:
                        self.send(piece)
            self.flush()
        self.peer.drain()

    def retrieve(self, wanted: pop3.Retrieve) -> None:
        """Send a message. One that cannot be read is refused; if it stops being readable in the middle, OSError ends
        the session without the final dot, so that the client sees that it has not got all."""
        try:
            fd = os.open(self.paths[wanted.index], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.send(pop3.UNABLE_TO_OPEN)
            return
        try:
            try:
                block = os.read(fd, BLOCK)  # a directory opens, but does not read
            except OSError:
                self.send(pop3.UNABLE_TO_OPEN)
                return
            body = pop3.Body(wanted.limit)
            self.send(pop3.OKAY)
            while block:
                self.send(body.feed(block))
                ended = body.done or len(block) < BLOCK  # a short read of a file is its end
                block = b"" if ended else os.read(fd, BLOCK)
            self.send(body.end())
        finally:
            os.close(fd)

    def update(self) -> None:
        """QUIT: remove what is marked, move the rest from new/ to cur/. Source: qmail-pop3d(8), RFC 1939 §6.

        What the client has asked for before goes out first: if it has left, OSError, and nothing is removed."""
        self.flush()
        deleted = self.conversation.deleted
        for index in sorted(deleted):
            try:
                os.unlink(self.paths[index])
            except OSError:
                self.send(pop3.UNABLE_TO_UNLINK)
        for index in [index for index, path in enumerate(self.paths) if path.startswith(b"new/")]:
            if index not in deleted:
                try:
                    maildir.see(self.paths[index])
                except OSError:  # as in the original, the message just stays where it is
                    pass
        self.send(pop3.OKAY)


def serve(peer: Peer, path: bytes) -> None:
    try:
        os.chdir(path)
    except OSError:
        peer.write(NO_MAILDIR)
        return
    now = int(time.time())
    maildir.clean(now)
    try:
        paths, sizes = maildir.scan(now)
    except OSError:
        peer.write(NO_SCAN)
        return
    Session(peer, paths, sizes).run()


def rehearse(stage: "Stage", word: bytes, env: Env) -> None:
    """A session with one message."""
    path = stage.folder() + b"/Maildir"
    if not os.path.isdir(path):
        maildir.make(path)
        with open(path + b"/cur/1:2,", "wb") as f:
            f.write(b"Subject: rehearsal\n\n")
            os.utime(f.fileno(), (1, 1))

    def act() -> None:
        with Peer(TIMEOUT) as peer:
            serve(peer, path)

    stage.play(b"STAT\r\nUIDL\r\nLIST\r\nRETR 1\r\nQUIT\r\n", act)


def main(argv: list[bytes], env: Env) -> int:
    if os.getuid() == 0:
        strerr.say(INVOKED_AS_ROOT)
        return 1
    signals.ignore(signals.PIPE)
    try:
        with Peer(TIMEOUT) as peer:
            if len(argv) < 2:
                peer.write(NO_MAILDIR)
            else:
                serve(peer, argv[1])
    except OSError:  # the client is gone or silent for too long, or a message became unreadable
        pass
    return 0
