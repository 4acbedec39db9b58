from pathlib import Path

import pytest

from qmailpy.stores.control import Unreadable
from qmailpy.stores.vpopmail.settings import Settings
from qmailpy.stores.vpopmail.vhome import Vhome


@pytest.mark.parametrize(
    ("variable", "file", "found", "is_on"),
    [
        (None, None, None, False),
        (b"", None, b"", True),
        (b"0", "1\n", b"0", False),
        (b"1", "0\n", b"1", True),
        (None, "", b"", True),
        (None, "0 \n1\n", b"0", False),
        (None, "yes\n", b"yes", True),
    ],
)
def test_the_variable_comes_before_the_file(
    tmp_path: Path, variable: bytes | None, file: str | None, found: bytes | None, is_on: bool
) -> None:
    (tmp_path / "etc").mkdir()
    if file is not None:
        (tmp_path / "etc" / "system-users").write_text(file)
    env = {} if variable is None else {b"VPOPMAIL_SYSTEM_USERS": variable}
    settings = Settings(Vhome(bytes(tmp_path), bytes(tmp_path)), env)
    assert settings.get(b"system-users") == found
    assert settings.is_on(b"system-users") == is_on
    assert settings.has(b"system-users") == (found is not None)


def test_a_file_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "etc" / "log").mkdir(parents=True)
    with pytest.raises(Unreadable):
        Settings(Vhome(bytes(tmp_path), bytes(tmp_path)), {}).get(b"log")
