"""NAME
    checkpassword-authd - have a password checked by qmail-authd

SYNOPSIS
    checkpassword-authd [-s SOCKET] [-u USER] PROGRAM [ARG...]

DESCRIPTION
    checkpassword-authd has the interface of checkpassword(8) and needs no privileges: it reads name, password and
    stamp from descriptor 3, asks qmail-authd(8), which may look at passwords, and if the answer is yes runs PROGRAM
    with the variable USER set to the account's name:

        qmail-smtpd mail.example checkpassword-authd true

    It does not become the account: PROGRAM runs as whoever has started checkpassword-authd, in the same folder, with
    HOME and SHELL as they were. So it decides about a login, and is no way into a mailbox.

    TCPREMOTEIP is handed on to qmail-authd, which counts failures by it. While there are too many, an answer takes up
    to ten seconds, or is later.

OPTIONS
    -s SOCKET   the socket of qmail-authd; default: run/qmail-authd in QMAILHOME
    -u USER     the user that qmail-authd runs as, a name or a number; default: root, or whoever asks. A service of
                somebody else is told nothing

ENVIRONMENT
    QMAILHOME     default: /var/qmail
    TCPREMOTEIP   the client's address
    USER          set to the account's name

EXIT STATUS
    That of PROGRAM, if the password is right.

    1      the password is not acceptable
    2      misuse: no PROGRAM, an unknown user, or descriptor 3 does not hold two strings
    111    later: qmail-authd cannot be reached, or says so. In the first case there is a line on descriptor 2, in the
           second there is one in the log of qmail-authd

SECURITY
    The password is overwritten in memory once it is sent, and goes to nobody but the user of -u.

SEE ALSO
    qmail-authd(8), checkpassword(8), qmail-smtpd(8), qmail-popup(8)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import authd, fd3, options
from qmailpy.stores.accounts import Refusal, handover
from qmailpy.stores.home import home
from qmailpy.unix import ids, local

PROGRAM = b"checkpassword-authd"
USAGE = b"checkpassword-authd [ -s socket ] [ -u user ] program [ arg ... ]"

SOCKET = b"/run/qmail-authd"
TIMEOUT = 120  # seconds for a step: more than qmail-authd holds a question and runs a checker

CODES = {authd.NO: fd3.REFUSED, authd.LATER: strerr.LATER}


def ask(path: bytes, users: set[int], question: bytearray) -> tuple[bytes, bytes]:
    """The answer of the service at path, if that is of one of users. Wipes the question. Raises Refusal."""
    fd = -1
    try:
        fd = local.connect(path, TIMEOUT)
        uid, _ = local.peer(fd)
        if uid not in users:
            raise Refusal(strerr.LATER, b"%s is a service of uid %d: see -u" % (path, uid))
        sent = 0
        with memoryview(question) as view:
            while sent < len(view):
                sent += local.send(fd, view[sent:])
        return _read(fd)
    except (authd.Malformed, BrokenPipeError, ConnectionResetError):  # as when we may not ask
        raise Refusal(strerr.LATER, b"no answer from " + path) from None
    except OSError as e:
        raise Refusal(strerr.LATER, b"unable to ask " + path, e) from None
    finally:
        fd3.wipe(question)
        if fd >= 0:
            os.close(fd)


def _read(fd: int) -> tuple[bytes, bytes]:
    data = b""
    while True:
        part = os.read(fd, authd.ANSWER_LIMIT)
        data += part
        answer = authd.parse_answer(data)
        if answer is not None:
            return answer
        if not part:
            raise authd.Malformed


def main(argv: list[bytes], env: Env) -> int | Exec:
    try:
        letters, words = options.parse(argv, b"s:u:")
    except options.OptionError as e:
        strerr.say(PROGRAM + b": " + e.args[0] + b"\n")
        words = []
    if not words:
        strerr.usage(PROGRAM, USAGE)
        return fd3.MISUSE
    given = dict(letters)
    try:
        users = {ids.user(given[b"u"])} if b"u" in given else {0, os.geteuid()}
    except LookupError:
        return strerr.fail(fd3.MISUSE, PROGRAM, b"unknown user ", given[b"u"])
    try:
        name, password, stamp = handover.receive()
        try:
            question = authd.build(env.get(b"TCPREMOTEIP", b""), name, password, stamp)
        finally:
            fd3.wipe(password)
        letter, user = ask(given.get(b"s") or home(env) + SOCKET, users, question)
    except Refusal as refusal:
        return handover.report(PROGRAM, refusal)
    return Exec(words, {**env, b"USER": user}, who=PROGRAM) if letter == authd.YES else CODES[letter]
