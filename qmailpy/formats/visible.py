"""visible - bytes made safe for a terminal, in the notation of `cat -v`: ^X for control characters, M-x for those
with the eighth bit; tab and newline stay. Pure."""


def _notation(byte: int) -> bytes:
    if byte in b"\t\n":
        return bytes((byte,))
    meta, low = (b"M-", byte - 128) if byte >= 128 else (b"", byte)
    if low < 32 or low == 127:
        return meta + b"^" + bytes((low ^ 64,))
    return meta + bytes((low,))


_NOTATION = [_notation(byte) for byte in range(256)]
_PLAIN = bytes(byte for byte in range(256) if len(_NOTATION[byte]) == 1)


def visible(block: bytes) -> bytes:
    """Each byte in its notation; needs no memory of earlier blocks."""
    if not block.translate(None, _PLAIN):
        return block
    return b"".join([_NOTATION[byte] for byte in block])
