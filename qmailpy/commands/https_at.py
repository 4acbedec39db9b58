"""NAME
    https@ - get a web page under TLS

SYNOPSIS
    https@ [-46] [HOST [PAGE [PORT [OPTIONS]]]]

DESCRIPTION
    https@ connects to PORT on HOST, begins TLS, sends

        GET /PAGE HTTP/1.0
        Host: HOST:PORT

    and prints the answer without its header. It removes the CR at the end of each line.

    Without PORT it uses port 443 (HTTPS); without PAGE it asks for /; without HOST it connects to the local host.

    OPTIONS, and -4 or -6, are for sslclient(1). The server has to prove that it is HOST; with -X it need not.

EXIT STATUS
    0      also if sslclient(1) could not connect; it says so itself on descriptor 2; and whatever the server said
    111    the answer could not be read or printed

BUGS
    Empty lines of the page are removed, and a last line that is partial gets an LF, so only text survives. No
    redirection, no proxy.

SEE ALSO
    http@(1), sslcat(1), sslconnect(1), sslclient(1), mconnect-io(1), delcr(1)
"""

from qmailpy import chain
from qmailpy.chain import Env, Exec
from qmailpy.formats import options
from qmailpy.formats.newlines import Body, DelCr
from qmailpy.loops.relay import converse

PROGRAM = b"https@"
DEFAULTS = [b"0", b"", b"443"]
REQUEST = b"GET /%s HTTP/1.0\nHost: %s:%s\n\n"


def main(argv: list[bytes], env: Env) -> int | Exec:
    more, (host, page, port) = options.interleaved(argv, DEFAULTS)
    client = Exec([b"sslclient", b"-RHl0", *more, b"--", host, port, b"mconnect-io"], env, who=PROGRAM)
    lines, body = DelCr(), Body()
    return converse(
        PROGRAM,
        client,
        spawn=lambda child: chain.spawn(child, env, "https@"),
        request=REQUEST % (page, host, port),
        convert=lambda block, final: body.feed(lines.feed(block, final), final),
    )
