"""home: QMAILHOME, or the originals' home."""

from qmailpy.stores.home import home


def test_the_home_is_what_qmailhome_says() -> None:
    assert home({b"QMAILHOME": b"/srv/mail"}) == b"/srv/mail"
    assert home({}) == home({b"QMAILHOME": b""}) == b"/var/qmail"
