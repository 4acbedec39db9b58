"""python -m tests.bench.maildirserver FOLDER: aiosmtpd, which writes each message to a Maildir, synced, before it says
250. Prints its port."""

import asyncio
import itertools
import os
import sys
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

LIMIT = 100_000_000  # bytes of a message


class Handler:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = itertools.count()
        for name in "tmp", "new", "cur":
            (folder / name).mkdir()
        self.new = os.open(folder / "new", os.O_RDONLY)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        name = f"{next(self.numbers)}.{os.getpid()}"
        content = envelope.content
        assert isinstance(content, bytes)
        with open(self.folder / "tmp" / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(self.folder / "tmp" / name, self.folder / "new" / name)
        os.fsync(self.new)
        return "250 ok"


async def main(folder: Path) -> None:
    handler = Handler(folder)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, data_size_limit=LIMIT, hostname="bench.example", loop=loop), "127.0.0.1", 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
