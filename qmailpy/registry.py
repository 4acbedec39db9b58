"""registry - which commands there are. Data only: every other list of commands is checked against this one."""


class Command:
    """One row: module below qmailpy.commands, manual section, and the suite whose original it re-creates."""

    __slots__ = ("module", "section", "suite")

    def __init__(self, module: str, section: int, suite: str) -> None:
        self.module = module
        self.section = section
        self.suite = suite


COMMANDS = {
    "addcr": Command("addcr", 1, "ucspi-tcp"),
    "argv0": Command("argv0", 1, "ucspi-tcp"),
    "checkpassword": Command("checkpassword", 8, "checkpassword"),
    "checkpassword-authd": Command("checkpassword_authd", 8, "qmailpy"),
    "checkpassword-flatfile": Command("checkpassword_flatfile", 8, "qmailpy"),
    "checkpassword-test": Command("checkpassword_test", 8, "qmailpy"),
    "date@": Command("date_at", 1, "ucspi-tcp"),
    "datemail": Command("datemail", 1, "qmail"),
    "delcr": Command("delcr", 1, "ucspi-tcp"),
    "envdir": Command("envdir", 8, "daemontools"),
    "envuidgid": Command("envuidgid", 8, "daemontools"),
    "fghack": Command("fghack", 8, "daemontools"),
    "finger@": Command("finger_at", 1, "ucspi-tcp"),
    "fixcrio": Command("fixcrio", 1, "ucspi-tcp"),
    "http@": Command("http_at", 1, "ucspi-tcp"),
    "maildirmake": Command("maildirmake", 1, "qmail"),
    "mailq": Command("mailq", 1, "qmail"),
    "mailsubj": Command("mailsubj", 1, "qmail"),
    "mconnect": Command("mconnect", 1, "ucspi-tcp"),
    "mconnect-io": Command("mconnect_io", 1, "ucspi-tcp"),
    "multilog": Command("multilog", 8, "daemontools"),
    "newaliases": Command("newaliases", 1, "qmail"),
    "pgrphack": Command("pgrphack", 8, "daemontools"),
    "predate": Command("predate", 1, "qmail"),
    "qmail-authd": Command("qmail_authd", 8, "qmailpy"),
    "qmail-clean": Command("qmail_clean", 8, "qmail"),
    "qmail-inject": Command("qmail_inject", 8, "qmail"),
    "qmail-make-queue": Command("qmail_make_queue", 8, "qmailpy"),
    "qmail-newmrh": Command("qmail_newmrh", 8, "qmail"),
    "qmail-pop3d": Command("qmail_pop3d", 8, "qmail"),
    "qmail-popup": Command("qmail_popup", 8, "qmail"),
    "qmail-qmqpc": Command("qmail_qmqpc", 8, "qmail"),
    "qmail-qmqpd": Command("qmail_qmqpd", 8, "qmail"),
    "qmail-qmtpd": Command("qmail_qmtpd", 8, "qmail"),
    "qmail-qread": Command("qmail_qread", 8, "qmail"),
    "qmail-qstat": Command("qmail_qstat", 8, "qmail"),
    "qmail-queue": Command("qmail_queue", 8, "qmail"),
    "qmail-queued": Command("qmail_queued", 8, "qmailpy"),
    "qmail-showctl": Command("qmail_showctl", 8, "qmail"),
    "qmail-smtpd": Command("qmail_smtpd", 8, "qmail"),
    "qreceipt": Command("qreceipt", 1, "qmail"),
    "rblsmtpd": Command("rblsmtpd", 1, "ucspi-tcp"),
    "readproctitle": Command("readproctitle", 8, "daemontools"),
    "recordio": Command("recordio", 1, "ucspi-tcp"),
    "sendmail": Command("sendmail", 8, "qmail"),
    "setlock": Command("setlock", 8, "daemontools"),
    "setuidgid": Command("setuidgid", 8, "daemontools"),
    "softlimit": Command("softlimit", 8, "daemontools"),
    "splogger": Command("splogger", 8, "qmail"),
    "supervise": Command("supervise", 8, "daemontools"),
    "svc": Command("svc", 8, "daemontools"),
    "svok": Command("svok", 8, "daemontools"),
    "svscan": Command("svscan", 8, "daemontools"),
    "svstat": Command("svstat", 8, "daemontools"),
    "tai64n": Command("tai64n", 8, "daemontools"),
    "tai64nlocal": Command("tai64nlocal", 8, "daemontools"),
    "tcpcat": Command("tcpcat", 1, "ucspi-tcp"),
    "tcpclient": Command("tcpclient", 1, "ucspi-tcp"),
    "tcprules": Command("tcprules", 1, "ucspi-tcp"),
    "tcprulescheck": Command("tcprulescheck", 1, "ucspi-tcp"),
    "tcpserver": Command("tcpserver", 1, "ucspi-tcp"),
    "who@": Command("who_at", 1, "ucspi-tcp"),
}
