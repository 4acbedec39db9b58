"""deliveryreports - what a spawner says of a delivery that has ended: a letter, K done, Z later or D never, and a text,
made of the status of the process as wait(2) gives it and of what it wrote. Pure."""

SUCCESS, TEMPORARY, PERMANENT = b"K", b"Z", b"D"

# What a child of qmail-lspawn exits with before it is qmail-local, or if it cannot be that; qmail-getpw's codes are
# among them.
NOT_UNDERSTOOD = 112
ROOT = 113
NFS = 115
NO_ALIAS = 116
NO_CDB = 117
SYSTEM = 118
NO_MEMORY = 119
NOT_RUN = 120
NO_GETPW = 121

# What a program exits with that could not start: Python without its modules, descriptors or memory; a loader without
# libraries; env(1) and a shell without the program. No qmail-local and no qmail-remote says anything of a message so.
NOT_STARTED = frozenset({1, 2, 126, 127})

LOCAL_EXITS = {
    NOT_UNDERSTOOD: b"ZInternal qmail-lspawn bug.\n",
    ROOT: b"ZNot allowed to perform deliveries as root.\n",
    NFS: b"ZNFS failure in qmail-local.\n",
    NO_ALIAS: b"ZUnable to find alias user!\n",
    NO_CDB: b"ZTrouble reading users/cdb in qmail-lspawn.\n",
    SYSTEM: b"ZTemporary failure in qmail-lspawn.\n",
    NO_MEMORY: b"ZOut of memory in qmail-lspawn.\n",
    NOT_RUN: b"ZUnable to run qmail-local.\n",
    NO_GETPW: b"ZUnable to run qmail-getpw.\n",
}
LOCAL_CRASHED = b"Zqmail-local crashed.\n"
LOCAL_TEMPORARY = frozenset({71, 74, 75, 111}) | NOT_STARTED  # with what qmail-local said

LOCAL_LONGEST = 3000  # bytes of output
LOCAL_KEPT = 2966  # of a longer one
TOO_LONG = b"\nError report too long, sorry.\n"

# What a child of qmail-rspawn exits with if it cannot be qmail-remote, which itself always exits 0.
REMOTE_NOT_RUN = 111
REMOTE_TEMPORARY = frozenset({REMOTE_NOT_RUN}) | NOT_STARTED

REMOTE_CRASHED = b"Zqmail-remote crashed.\n"
REMOTE_SILENT = b"Zqmail-remote produced no output.\n"
REMOTE_LONGEST = 1 << 20  # bytes of output that are looked at

RANK = {PERMANENT: -1, TEMPORARY: 0, SUCCESS: 1}
WORSE = {b"h": PERMANENT, b"s": TEMPORARY}  # whatever becomes of the message, this recipient has failed


def local(status: int, output: bytes) -> bytes:
    """The report of a delivery by qmail-local. Of output, LOCAL_LONGEST bytes and one more are enough."""
    if status & 127:
        return LOCAL_CRASHED
    code = status >> 8 & 255
    if code in LOCAL_EXITS:
        return LOCAL_EXITS[code]
    letter = SUCCESS if code == 0 else TEMPORARY if code in LOCAL_TEMPORARY else PERMANENT
    if len(output) > LOCAL_LONGEST:
        output = output[:LOCAL_KEPT] + TOO_LONG
    return letter + output.partition(b"\0")[0]


def remote(status: int, output: bytes) -> bytes:
    """The report of a delivery by qmail-remote, which has written the recipient's report and then the message's, each
    with its letter and a NUL; or that of the message alone. Of output, REMOTE_LONGEST bytes and one more are enough.

    Without a letter for the message it has failed for good; not so where that may have been cut.
    """
    if status & 127:
        return REMOTE_CRASHED
    code = status >> 8 & 255
    if code:
        letter = TEMPORARY if code in REMOTE_TEMPORARY else PERMANENT
        return letter + b"Unable to run qmail-remote.\n"
    if not output:
        return REMOTE_SILENT
    letters = (report[:1] for report in output.split(b"\0")[:-1])  # what has no NUL is none
    otherwise = TEMPORARY if len(output) > REMOTE_LONGEST else PERMANENT
    message = next((letter for letter in letters if letter in RANK), otherwise)
    letter = WORSE.get(output[:1], message)
    end = output.find(b"\0", 1)
    if end < 0:
        return letter
    text = output[1:end]
    if RANK[message] <= RANK[letter] and output[end + 1 : end + 2] in RANK:
        text += output[end + 2 :].partition(b"\0")[0]
    return letter + text
