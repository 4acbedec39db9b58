"""Where accounts and their password hashes live: one module per kind of database.

A checker asks one of them `check(..., name, password, stamp)` and gets an Account, or a Refusal is raised.
"""


class Account:
    """Whose login is right: what a checker needs to become them. uid and gid are numbers, the rest bytes."""

    __slots__ = ("gid", "home", "name", "shell", "uid")

    def __init__(self, name: bytes, uid: int, gid: int, home: bytes, shell: bytes) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.home = home
        self.shell = shell

    def environment(self) -> dict[bytes, bytes]:
        """What a checker sets; everything else is inherited."""
        return {b"USER": self.name, b"HOME": self.home, b"SHELL": self.shell}


class Refusal(Exception):
    """A checker ends with `code` and, unless `text` is empty, says why in one line, with the errno's reason.

    A wrong password is silent. No text holds a name or a password: both may have been typed into the wrong field.
    """

    def __init__(self, code: int, text: bytes = b"", error: OSError | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.text = text
        self.error = error
