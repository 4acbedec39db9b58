"""ident - the question and the answer of RFC 1413, who is at the other end of a connection. Pure."""

LONGEST_ANSWER = 4096  # bytes to look at; RFC 1413 section 4 allows 1000
LONGEST_INFO = 257  # bytes, remoteinfo of ucspi-tcp


def question(remote_port: int, local_port: int) -> bytes:
    """The line to send to the remote host about the connection between those ports."""
    return b"%d , %d\r\n" % (remote_port, local_port)


def info(answer: bytes) -> bytes | None:
    """What the answer, as far as it has come, says behind its third colon; None while it says nothing yet.

    Blanks are dropped. An answer with fewer colons, such as `... : ERROR : NO-USER`, says b"", which is not the
    same as no answer. It is cut at a NUL, which no environment variable can hold.
    """
    line, newline, _ = answer.translate(None, b" \t\r").partition(b"\n")
    fields = line.split(b":", 3)
    text = fields[3] if len(fields) == 4 else b""
    return text[:LONGEST_INFO].partition(b"\0")[0] if newline or len(text) >= LONGEST_INFO else None
