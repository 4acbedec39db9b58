"""What the tests of addcr and delcr share."""

import os
import select
import subprocess
from pathlib import Path

from tests.helpers import environment

# All there is about line ends, in a stream longer than anybody's buffer.
SAMPLE = b"plain\nended\r\ntwice\r\r\nlone\rcr\n\n\r\n" * 5000 + b"\0\xff partial\r"
SIZES = (1, 2, 3, 5, 7, 255, 256, 257, 8191, 8193, 65535, 65537)  # bytes at once


def fed_in_pieces(program: str | Path, text: bytes) -> tuple[bytes, int]:
    """Output and exit code of a filter that gets text in pieces of odd sizes."""
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as child:
        assert child.stdin is not None and child.stdout is not None
        at, turn, output = 0, 0, b""
        while at < len(text):
            piece = text[at : at + SIZES[turn % len(SIZES)]]
            at, turn = at + len(piece), turn + 1
            while piece:
                readable, writable, _ = select.select([child.stdout], [child.stdin], [], 20)
                assert readable or writable
                if readable:
                    output += os.read(child.stdout.fileno(), 65536)
                if writable:
                    piece = piece[os.write(child.stdin.fileno(), piece[: select.PIPE_BUF]) :]
        child.stdin.close()
        output += child.stdout.read()
    return output, child.returncode


def answers(argv: list[str | Path], pieces: list[bytes], expected: list[bytes]) -> None:
    """The program answers each piece before it gets the next one."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as child:
        assert child.stdin is not None and child.stdout is not None
        for piece, answer in zip(pieces, expected, strict=True):
            os.write(child.stdin.fileno(), piece)
            got = b""
            while len(got) < len(answer):
                assert select.select([child.stdout], [], [], 20)[0]
                got += os.read(child.stdout.fileno(), 65536)
            assert got == answer
        child.stdin.close()


def ended_without_reader(program: str | Path, text: bytes) -> int:
    """How the filter ends when its output is a pipe that nobody reads any more; as subprocess tells it."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run([program], input=text, stdout=writer, env=environment(), check=False).returncode
    finally:
        os.close(writer)
