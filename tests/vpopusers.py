"""What tests of the commands for accounts ask of a home with virtual domains."""

import pytest

from qmailpy.formats import vpasswd
from qmailpy.formats.vpasswd import Account
from tests.virtual import SHA512, Virtual, virtual

__all__ = ["virtual"]


@pytest.fixture
def home(virtual: Virtual) -> Virtual:
    """With the domain a.example, its account old, whose password is secret, and the alias domain b.example."""
    virtual.domain("a.example", f"old:{SHA512}")
    virtual.domain("b.example", alias="a.example")
    return virtual


def account(home: Virtual, user: str, domain: str = "a.example") -> Account:
    text = (home.folder / "domains" / domain / "vpasswd").read_bytes()
    (found,) = [each for each in vpasswd.every(text) if each.name == user.encode()]
    return found


def names(home: Virtual, domain: str = "a.example") -> list[str]:
    text = (home.folder / "domains" / domain / "vpasswd").read_bytes()
    return [each.name.decode() for each in vpasswd.every(text)]


def logs_in(home: Virtual, name: str, password: str, port: int = 25) -> bool:
    return bool(home.login(f"{name}\0{password}\0\0".encode(), TCPLOCALPORT=str(port)).returncode == 0)
