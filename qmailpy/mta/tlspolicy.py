"""tlspolicy - which TLS a destination has to have, and what certificate a server has to show. Pure.

The administrator's word in control/tlsdestinations comes first; then DANE, as far as the server has records that can be
used; then MTA-STS of the destination (RFC 8461 section 2: it never makes good what fails by DANE); else TLS is used
where it is offered, whoever is at the other end. A server that is not among those of an MTA-STS policy in force gets no
mail, whatever DANE says."""

from qmailpy.formats import dns, mtasts, smtproutes, tlsa

# How much a connection needs, in order
NEVER, MAY, ENCRYPT, VERIFY, DANE, ANCHORS = range(6)
# Of a server with records (DANE): one of them fits, or the certificate descends from one of ANCHORS, which fit

WORDS = {b"none": NEVER, b"encrypt": ENCRYPT, b"verify": VERIFY}

# Who demands it
CONTROL, BY_DANE, STS, LOGIN, SMTPS = (
    b"control/tlsdestinations", b"DANE", b"MTA-STS", b"the password to be sent", b"smtps"
)  # fmt: skip

LONGEST_NAME = 253  # in dotted form

# MTA-STS
REFRESHED_S = 86400  # how old a policy gets before it is fetched again although its id is the same
PAUSE_S = 300  # after a failure, RFC 8461 section 3.3

# What is said of a certificate in the report of a message that was taken
UNVERIFIED, VERIFIED, BY = b"unverified", b"verified", b"verified by "


class Misspelt(Exception):
    """args[0]: the word in control/tlsdestinations that is none."""


class Rule:
    """What control/tlsdestinations says. name: what the certificate is to name in place of the server, b"" for the
    server itself."""

    __slots__ = ("level", "name")

    def __init__(self, level: int, name: bytes) -> None:
        self.level = level
        self.name = name


class Need:
    """What a connection has to show. names: one of these is in the certificate, from VERIFY on; records: of DANE;
    anchors: certificates (DER) that its own descends from, in place of the system's; source: who demands it."""

    __slots__ = ("anchors", "level", "names", "records", "source")

    def __init__(self, level: int, source: bytes = b"", names: "list[bytes] | None" = None) -> None:
        self.level = level
        self.source = source
        self.names = names or []
        self.records: list[tlsa.Record] = []
        self.anchors: list[bytes] = []

    @property
    def strict(self) -> bool:
        """Whether nothing may be sent in clear."""
        return self.level > MAY

    @property
    def shown(self) -> bytes:
        """What is said of the certificate of a connection that has it."""
        if self.level < VERIFY:
            return UNVERIFIED
        return BY + self.source if self.source in (BY_DANE, STS) else VERIFIED

    def anchored(self, anchors: list[bytes]) -> "Need":
        """The same, where anchors are certificates of which records know."""
        anchored = Need(ANCHORS, self.source, self.names)
        anchored.anchors = anchors
        return anchored


def rule(text: bytes, host: bytes, relay: bytes | None) -> Rule | None:
    """What control/tlsdestinations says for mail to a host, by a relay or by DNS; None for nothing. Of a relay's line
    and the host's the stricter counts, but the host's only if it is not that of all. Raises Misspelt.

        host:encrypt         TLS, whoever it is
        .tail:verify         with a certificate for the name of the server, of an authority that this system trusts
        host:verify:name     for that name
        host:none            never STARTTLS
        host:                whatever a later key would say: no rule
    """
    if not text:
        return None
    keys = _keys(host)
    if relay is None:
        return _parse(smtproutes.find(text, keys))
    found = _parse(smtproutes.find(text, [key for key in keys if key]))
    of_relay = _parse(smtproutes.find(text, _keys(relay)))
    if found is None or of_relay is None:
        return found or of_relay
    return of_relay if of_relay.level >= found.level else found


def names_relay(text: bytes, relay: bytes) -> bool:
    """Whether control/tlsdestinations has a line of a relay's own, not that of all: it says what is enough for a
    password. Raises Misspelt."""
    return _parse(smtproutes.find(text, [key for key in _keys(relay) if key])) is not None


def _keys(host: bytes) -> list[bytes]:
    """What a host may be listed as, the longest first: as it is written, and as DNS has it. A dot at its end, or UTF-8
    in place of `xn--`, takes nobody past his line."""
    written = host.rstrip(b".")
    keys = smtproutes.host_keys(dns.canonical(host)) + smtproutes.host_keys(written)
    return sorted(dict.fromkeys(keys), key=lambda key: key.count(b".") + bool(key[:1].strip(b".")), reverse=True)


def _parse(value: bytes | None) -> Rule | None:
    word, _, name = (value or b"").partition(b":")
    word = word.strip().lower()
    if not word:
        return None
    if word not in WORDS:
        raise Misspelt(word)
    return Rule(WORDS[word], name.strip())


def final(found: Rule | None) -> bool:
    """Whether nothing else is asked about a destination with that rule."""
    return found is not None and found.level in (NEVER, VERIFY)


def need(
    found: Rule | None, server: bytes, policy: mtasts.Policy | None, records: list[bytes], names: list[bytes]
) -> Need:
    """What a server has to show. server: its name, or its address; policy: the destination's by MTA-STS, in force and
    to be enforced; records: the data of its TLSA records; names: which names a certificate may have that descends from
    one of these."""
    least = Need(MAY) if found is None else Need(found.level, CONTROL, [found.name or server])
    if final(found):
        return least
    if records:
        usable = tlsa.usable(records)
        if usable:
            dane = Need(DANE, BY_DANE, names)
            dane.records = usable
            return dane
        if policy is None:  # RFC 7672 section 2.2: that it has TLS is known
            return Need(ENCRYPT, BY_DANE)
    return least if policy is None else Need(VERIFY, STS, [server])


def for_login(plain: Need, server: bytes, told: bool) -> Need:
    """The same where a password is sent: not to somebody else. told: the administrator has said how much is enough for
    that relay."""
    return plain if told or plain.level == NEVER or plain.level >= VERIFY else Need(VERIFY, LOGIN, [server])


def evident(names: "tuple[tuple[str, str], ...]", wanted: list[bytes]) -> bool:
    """Whether one of the wanted names is among the subjectAltNames of a certificate, as ssl has them."""
    shown = [name.encode("utf-8", "replace") for kind, name in names if kind == "DNS"]
    narrow = [name for name in shown if not name.startswith(b"*.") or name.count(b".") > 1]  # never all of *.example
    return any(mtasts.matches(pattern, name) for pattern in narrow for name in wanted)


def in_force(kept: mtasts.Kept | None, now: int) -> mtasts.Policy | None:
    """The policy that holds now of a domain."""
    if kept is None or kept.policy is None or now >= kept.fetched + kept.policy.age_s:
        return None
    return kept.policy


def is_due(kept: mtasts.Kept | None, found: bytes, now: int) -> bool:
    """Whether the policy is to be fetched; found: the id in the TXT record of now."""
    if kept is None:
        return True
    if kept.failed <= now < kept.failed + PAUSE_S:
        return False
    policy = in_force(kept, now)
    return policy is None or kept.id != found or now >= kept.fetched + min(REFRESHED_S, policy.age_s // 2)


def can_be_named(host: bytes) -> bool:
    """Whether a host can be in a certificate, and asked for by SNI: a name, no address."""
    if not mtasts.NAMES.issuperset(host) or len(host) > LONGEST_NAME or b"" in host.split(b"."):
        return False
    ip, length = dns.scan4(host)
    return not (ip and length == len(host))
