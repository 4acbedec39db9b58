"""NAME
    supervise - keep a service running

SYNOPSIS
    supervise DIR

DESCRIPTION
    supervise changes to the directory DIR and runs ./run in it. When run ends it is started again, but never twice
    within a second. If there is a file DIR/down, run is not started before svc(8) says so.

    supervise keeps its own files in DIR/supervise, which it makes:

    lock       held while supervise is there, so that there is one for each directory
    control    a FIFO: the letters of svc(8)
    ok         a FIFO: who can open it for writing knows that supervise is there
    status     18 bytes, in the original's format: see svstat(8)
    child      the process that runs now, for the next supervise

    A supervise that is killed leaves the service running. The next one for the same directory, within the same
    boot, takes it over: it goes on with that process, and with what svc(8) has last asked for, and does not start
    run beside it. An end that it could not wait for itself has no exit code; finish and notify are told of a death
    by signal 0.

SCRIPTS
    Beside run, DIR may hold executable files of these names. They run in DIR as run does, one at a time:

    start      before run, when the service was down. Ends with 0 if run may start; else the service stays down.
               Without run, start is all that is done
    finish     whenever run has ended, before it is started again. Arguments: run's exit code, or -1 if a signal has
               killed it; and that signal, or 0
    stop       when the service is to stay down, after run has ended
    notify     beside all others, whenever one of them starts or ends. Arguments: the script's name; start, exit or
               killed; its pid; 0, its exit code, or the signal

    While one of the first three runs, the service is up, with the script's pid. svc -d sends no signal to finish
    and stop.

EXIT STATUS
    0      svc -x, and the service is down
    100    wrong usage
    111    DIR cannot be supervised; temporary failure means that another supervise does so

SECURITY
    Who may write DIR/supervise/control rules the service. supervise makes the directory DIR/supervise for its
    own user alone.

BUGS
    A status of daemontools-encore has two bytes more; here the state is told from child.

    Of notify at most 8 run for a service at a time; what comes beyond is not told.

    The exit code 100 of run does not keep the service down, as it does with daemontools-encore.

SEE ALSO
    svc(8), svok(8), svstat(8), svscan(8), multilog(8), fghack(8), setuidgid(8)
"""

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.loops.messages import Messages
from qmailpy.loops.supervise import FOREVER, Supervised, Supervisor
from qmailpy.stores.safeio import Failed
from qmailpy.stores.servicedir import Place
from qmailpy.supervision.service import failure

PROGRAM = b"supervise"
USAGE = b"supervise dir"


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) != 2:
        return strerr.usage(PROGRAM, USAGE)
    messages = Messages(PROGRAM)

    def report(supervised: Supervised) -> None:
        messages.warn(failure(supervised.place.name, supervised.service, supervised.early, b""))

    supervisor = Supervisor(
        messages,
        spawn=lambda child: chain.spawn(child, env, "supervise"),  # type: ignore[arg-type]
        become=lambda script, shown: Exec(script, env, who=PROGRAM, complaint=b"fatal: unable to start", shown=shown),
        reaped=lambda pid: None,
        caught=lambda number: None,
    )
    try:
        supervised = supervisor.add(Place(argv[1], argv[1]), (), report, lambda: None)
    except Failed as e:
        return strerr.fail(strerr.LATER, PROGRAM, e.complaint, error=e)
    while not supervised.service.over():
        supervisor.step(FOREVER)
    return 0
