"""NAME
    sendmail - send mail as sendmail does

SYNOPSIS
    sendmail [-t] [-fsender] [-Fname] [-bp] [-bs] [RECIPIENT...]

DESCRIPTION
    sendmail is for the programs that expect one: cron, web applications, mail readers. It runs qmail-inject(8) with
    the message that comes on descriptor 0, for the recipients among the arguments.

        sendmail -t -i -f joe@example.org < message
        sendmail -oi root < report

    A line with a single dot never ends the message.

    qmail-inject and the others are those in the folder bin of the mail system's home, if they are there, and else
    the first ones along PATH. sendmail runs them with that home as their working folder.

OPTIONS
    -t           take the recipients from the header, besides those among the arguments
    -f SENDER    the envelope sender; it becomes the user and host of From, too, if the message has none
    -F NAME      the full name in From, if the message has none; not with -f
    -bm          send a message, the default
    -bs          speak SMTP on descriptors 0 and 1, as qmail-smtpd(8); unless the environment says that a network
                 connection is served (PROTO), any recipient and any size is accepted
    -bp          list the queue, as qmail-qread(8)

    -r is another name of -f. These are accepted and do nothing: -v -i -m -x -n -G -U; -e, -p, -o, -B, -h, -L, -N, -O,
    -R and -V with their argument; -E, -J and -A with the rest of their word.

ENVIRONMENT
    QMAILHOME    the home of the mail system; unset, /var/qmail
    MAILNAME     set by -F
    QMAILUSER    set by -f, with QMAILHOST if SENDER has a host; QMAILNAME, MAILNAME, NAME and MAILHOST are then removed
    PROTO        whether -bs has a network connection; if not, it sets PROTO, RELAYCLIENT, DATABYTES, TCPLOCALIP,
                 TCPLOCALHOST, TCPREMOTEIP, TCPREMOTEHOST and TCPREMOTEINFO

    Those of qmail-inject(8) are followed too.

EXIT STATUS
    That of the program that it runs.

    100    wrong usage
    111    that program could not be run, or there is no home

BUGS
    Daemons such as cron run programs with a short PATH. If the commands of this toolkit are elsewhere, let the folder
    bin in the home of the mail system be a link to theirs.

    Delivery notices (-N, -R, -V) are not supported; the message is sent without.

SEE ALSO
    qmail-inject(8), qmail-queue(8), qmail-qread(8), qmail-smtpd(8), mailq(1), newaliases(1), datemail(1)
"""

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats.sendmail import read
from qmailpy.stores import programs

PROGRAM = b"sendmail"
USAGE = b"sendmail [ -t ] [ -fsender ] [ -Fname ] [ -bp ] [ -bs ] [ arg ... ]"

# What a client of -bs is, if it comes by no network.
LOCAL_CLIENT = {
    b"RELAYCLIENT": b"",
    b"DATABYTES": b"0",
    b"PROTO": b"TCP",
    b"TCPLOCALIP": b"127.0.0.1",
    b"TCPLOCALHOST": b"localhost",
    b"TCPREMOTEIP": b"127.0.0.1",
    b"TCPREMOTEHOST": b"localhost",
    b"TCPREMOTEINFO": b"sendmail-bs",
}


def from_sender(sender: bytes, env: Env) -> Env:
    """The environment in which qmail-inject takes sender for the author, unless the message has one."""
    named = (b"QMAILNAME", b"MAILNAME", b"NAME", b"QMAILHOST", b"MAILHOST")
    env = {name: value for name, value in env.items() if name not in named}
    user, at, host = sender.rpartition(b"@")
    if not at:
        return {**env, b"QMAILUSER": sender}
    return {**env, b"QMAILUSER": user, b"QMAILHOST": host}


def step(home: bytes, name: bytes, words: list[bytes], env: Env) -> Exec:
    file = programs.find(home, name)
    return Exec([file, *words], env, who=PROGRAM, shown=name)


def main(argv: list[bytes], env: Env) -> int | Exec:
    try:
        home, env = programs.enter(env)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to switch to qmail home directory", error=e)
    options, words, problem = read(argv)
    sender = None
    from_header = False
    for letter, argument in options:
        if letter == b"t":
            from_header = True
        elif letter in b"fr":
            sender = argument
        elif letter == b"F":
            env = {**env, b"MAILNAME": argument}
        elif letter == b"b":
            if argument.startswith(b"p"):
                return step(home, b"qmail-qread", [], env)
            if argument.startswith(b"s"):
                return step(home, b"qmail-smtpd", [], env if b"PROTO" in env else {**env, **LOCAL_CLIENT})
            if not argument.startswith(b"m"):
                return strerr.usage(PROGRAM, USAGE)
    if problem:
        strerr.say(PROGRAM + b": " + problem + b"\n")
        return strerr.usage(PROGRAM, USAGE)
    given = []
    if sender is not None:
        env = from_sender(sender, env)
        given = [b"-f", sender]
    return step(home, b"qmail-inject", [b"-H" if from_header else b"-a", *given, b"--", *words], env)
