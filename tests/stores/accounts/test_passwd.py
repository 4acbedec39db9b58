import pytest

from qmailpy.stores.accounts import passwd

TODAY = 20000


def shadow(changed: int, maximum: int = 99999, inactive: int = -1, expires: int = -1):  # type: ignore[no-untyped-def]
    return (b"max", b"hash", changed, 0, maximum, 7, inactive, expires, 0)


@pytest.mark.parametrize(
    ("entry", "expired"),
    [
        (shadow(-1, -1), False),
        (shadow(TODAY), False),
        (shadow(TODAY + 5), False),
        (shadow(0), True),
        (shadow(TODAY, expires=TODAY + 1), False),
        (shadow(TODAY, expires=TODAY), True),
        (shadow(TODAY, expires=0), True),
        (shadow(TODAY - 30, 20, 10), False),
        (shadow(TODAY - 31, 20, 10), True),
        (shadow(TODAY - 1, 0, 0), True),
        (shadow(TODAY - 31, 20, -1), False),
        (shadow(TODAY - 31, -1, 10), False),
        (shadow(-1, 20, 10), False),
    ],
)
def test_expiry_follows_shadow_5(entry, expired: bool) -> None:  # type: ignore[no-untyped-def]
    assert passwd.expired(entry, TODAY) is expired
