"""envdir - a variable as a file of its own: the name is the variable, the first line its value. Pure."""

BLANKS = b" \t"


def variable(name: bytes, text: bytes) -> tuple[bytes, bytes | None]:
    """The variable that the file name, which may be any, stands for, and its value; None: it is to be unset.

    text is the file, at least to the end of the first line. Blanks at the end of that are cut, and a NUL, which no
    variable can hold, becomes a newline. A file A=B sets A, as the original makes the entry `A=B=value`; empty, it
    makes `A=B`.
    """
    name, odd, rest = name.partition(b"=")
    if not text:
        return name, rest if odd else None
    value = text.partition(b"\n")[0].rstrip(BLANKS).replace(b"\0", b"\n")
    return name, rest + b"=" + value if odd else value
