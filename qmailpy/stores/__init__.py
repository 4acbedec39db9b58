"""What is on disk or in a database. May import formats, unix and strerr."""
