"""qail: maildir2mbox first, and Mail only if that has succeeded."""

from tests.commands.readers import Reader, reader

__all__ = ["reader"]

COMMAND, PROGRAM = "qail", "Mail"


def test_qail_moves_the_mail_and_becomes_mail(reader: Reader) -> None:
    reader.check_that_mail_is_moved_first(COMMAND, PROGRAM)


def test_qail_ends_as_maildir2mbox_does_if_that_fails(reader: Reader) -> None:
    reader.check_that_a_failure_ends_it(COMMAND, PROGRAM)


def test_qail_says_that_there_is_no_mail(reader: Reader) -> None:
    reader.check_that_a_missing_program_is_named(COMMAND, PROGRAM)
