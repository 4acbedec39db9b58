"""NAME
    http@ - get a web page

SYNOPSIS
    http@ [HOST [PAGE [PORT]]]

DESCRIPTION
    http@ connects to PORT on HOST, sends

        GET /PAGE HTTP/1.0
        Host: HOST:PORT

    and prints the answer without its header. It removes the CR at the end of each line.

    Without PORT it uses port 80 (HTTP); without PAGE it asks for /; without HOST it connects to the local host.

EXIT STATUS
    0      also if tcpclient(1) could not connect; it says so itself on descriptor 2; and whatever the server said
    111    the answer could not be read or printed

BUGS
    Empty lines of the page are removed, and a last line that is partial gets an LF, so only text survives. It has
    always been so: the original used awk(1) here.

    No TLS, which https@(1) has, no redirection, no proxy.

SEE ALSO
    https@(1), finger@(1), tcpcat(1), tcpclient(1), mconnect-io(1), delcr(1), awk(1)
"""

from qmailpy import chain
from qmailpy.chain import Env, Exec
from qmailpy.formats.newlines import Body, DelCr
from qmailpy.loops.relay import converse

PROGRAM = b"http@"
DEFAULTS = [b"0", b"", b"80"]
REQUEST = b"GET /%s HTTP/1.0\nHost: %s:%s\n\n"


def main(argv: list[bytes], env: Env) -> int | Exec:
    host, page, port = argv[1:4] + DEFAULTS[len(argv[1:4]) :]
    client = Exec([b"tcpclient", b"-RHl0", b"--", host, port, b"mconnect-io"], env, who=PROGRAM)
    lines, body = DelCr(), Body()
    return converse(
        PROGRAM,
        client,
        spawn=lambda child: chain.spawn(child, env, "http@"),
        request=REQUEST % (page, host, port),
        convert=lambda block, final: body.feed(lines.feed(block, final), final),
    )
