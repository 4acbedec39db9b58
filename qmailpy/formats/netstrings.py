"""netstrings - strings behind their length, `5:hello,` (cr.yp.to/proto/netstrings.txt). Pure.

Readers of streams are protocols, each with its own limits."""


def build(text: bytes) -> bytes:
    """The netstring of text."""
    return b"%d:%s," % (len(text), text)
