"""spawning - where qmail-lspawn and qmail-rspawn work: HOME/queue/mess, with its owner, and how many deliveries at a
time a control file wishes."""

import os

from qmailpy.stores import control, programs
from qmailpy.stores.home import home

MESSAGES = b"queue/mess"

Env = dict[bytes, bytes]


class Failed(Exception):
    """text: what is wrong; error: why."""

    def __init__(self, text: bytes, error: OSError) -> None:
        super().__init__(text)
        self.text = text
        self.error = error


class Place:
    """The working folder from now on. home: its absolute name, which env has too; owner: uid of whose all messages must
    be; concurrency: the number of the control file, None if there is none."""

    __slots__ = ("concurrency", "env", "home", "owner")

    def __init__(self, env: Env, concurrency: bytes) -> None:
        """concurrency: the name of the control file. Raises Failed."""
        try:
            self.home, self.env = programs.enter(env)
            os.chdir(MESSAGES)
            self.owner = os.stat(b".").st_uid
        except OSError as e:
            raise Failed(b"unable to switch to %s/%s" % (home(env), MESSAGES), e)
        try:
            self.concurrency = control.Control(self.home).number(concurrency)
        except control.Unreadable as e:
            raise Failed(b"unable to read control/" + e.name, e)
