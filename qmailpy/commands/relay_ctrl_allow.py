"""NAME
    relay-ctrl-allow - let a client who has logged in send mail for a while

SYNOPSIS
    relay-ctrl-allow [PROGRAM [ARG...]]

DESCRIPTION
    relay-ctrl-allow stands behind a program that checks passwords, such as checkpassword(8), and writes down the
    client's address: as the name of a file in the directory RELAY_CTRL_DIR, or in the one that relay-ctrl-chdir(8) has
    opened. Then it runs PROGRAM. For the next fifteen minutes relay-ctrl-check(8) lets that address relay.

    USER and DOMAIN, as far as they are set, are kept in the file and come back in the environment of the SMTP server.

    If AUTHUSER and AUTHARGV0 are set, as by Courier, whose programs run this one before anybody has logged in, nothing
    is written unless AUTHENTICATED is set and not empty.

    Trouble is told on descriptor 2 and keeps nobody from his mail.

ENVIRONMENT
    TCPREMOTEIP          the client's address, IPv4 or IPv6. An interface behind it, as in fe80::1%eth0, is left off
    RELAY_CTRL_DIR       the directory; files are made with mode 600, and relay-ctrl-check must run as the same user
    RELAY_CTRL_DIR_FD    used in its place if it is set; files are made with mode 666. The descriptor is closed
    USER, DOMAIN         written to the file
    AUTHUSER, AUTHARGV0, AUTHENTICATED
                         see above

EXIT STATUS
    That of PROGRAM; without one, 0.

    111    TCPREMOTEIP is unset or no address; or PROGRAM cannot be run

SEE ALSO
    relay-ctrl-check(8), relay-ctrl-chdir(8), relay-ctrl-age(8), qmail-popup(8), checkpassword(8)
"""

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.stores import relayctrl

PROGRAM = b"relay-ctrl-allow"


def authenticated(env: Env) -> bool:
    """Whether somebody has logged in. Only Courier's programs come here before that."""
    return not (b"AUTHUSER" in env and b"AUTHARGV0" in env) or env.get(b"AUTHENTICATED", b"") != b""


def allow(name: bytes, env: Env) -> None:
    """Write the address down, or say why not."""
    try:
        folder = relayctrl.opened(env)
    except relayctrl.Unusable as e:
        strerr.warn(PROGRAM, e.text, error=e.error)
        return
    try:
        relayctrl.remember(folder, name, env)
    except OSError as e:
        strerr.warn(PROGRAM, b"unable to write file ", name, error=e)
    finally:
        folder.close()


def main(argv: list[bytes], env: Env) -> int | Exec:
    name = relayctrl.name_of(env.get(b"TCPREMOTEIP", b""))
    if name is None:
        return strerr.fail(strerr.LATER, PROGRAM, b"no address in $TCPREMOTEIP: must be run by tcpserver or tcp-env")
    if authenticated(env):
        allow(name, env)
    return Exec(argv[1:], env, who=PROGRAM) if len(argv) > 1 else 0
