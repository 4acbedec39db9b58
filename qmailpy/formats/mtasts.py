"""mtasts - what a domain says of the TLS of its mail exchangers (RFC 8461): its TXT record, its policy, and that as it
is kept in a file. Pure."""

from qmailpy.formats import numbers

LABEL = b"_mta-sts."  # in front of a domain, where the TXT record is
HOST = b"mta-sts."  # in front of a domain, where the policy is
PATH = b"/.well-known/mta-sts.txt"

VERSION = b"STSv1"
ENFORCE, TESTING, NONE = b"enforce", b"testing", b"none"

LARGEST = 65536  # bytes of a policy, section 3.3
LONGEST_ID = 32
LONGEST_AGE_S = 31557600  # section 3.2
MOST_PATTERNS = 1024

BLANKS = b" \t"
ALPHANUMERIC = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
NAMES = ALPHANUMERIC | frozenset(b"-_.*")
KEPT = b"qmailpy-mta-sts 1"  # how a file begins


class Malformed(Exception):
    """These bytes are no policy, or no file with one."""


class Policy:
    """mode: ENFORCE, TESTING or NONE; patterns: which names mail exchangers may have; age_s: how long it holds."""

    __slots__ = ("age_s", "mode", "patterns")

    def __init__(self, mode: bytes, age_s: int, patterns: list[bytes]) -> None:
        self.mode = mode
        self.age_s = age_s
        self.patterns = patterns

    def names(self, host: bytes) -> bool:
        """Whether a mail exchanger of that name is one of those, section 4.1."""
        return any(matches(pattern, host) for pattern in self.patterns)


def policy_id(records: list[bytes]) -> bytes | None:
    """The id in the TXT record of a domain; None if it has no policy: no record, or more than one, or a broken one,
    section 3.1."""
    ours = [record for record in records if record.partition(b";")[0].rstrip(BLANKS) == b"v=" + VERSION]
    if len(ours) != 1:
        return None
    for field in ours[0].split(b";")[1:]:
        key, equals, value = field.partition(b"=")
        if equals and key.strip(BLANKS) == b"id":
            value = value.strip(BLANKS)
            good = 0 < len(value) <= LONGEST_ID and ALPHANUMERIC.issuperset(value)
            return value if good else None
    return None


def parse(text: bytes) -> Policy:
    """Section 3.2. Of two fields of one name the first counts; fields that we do not know, nothing. Raises
    Malformed."""
    fields: dict[bytes, bytes] = {}
    patterns = []
    for line in text.replace(b"\r\n", b"\n").split(b"\n"):
        key, colon, value = line.partition(b":")
        key, value = key.strip(BLANKS), value.strip(BLANKS)
        if not colon:
            continue
        if key == b"mx":
            patterns.append(_pattern(value))
        else:
            fields.setdefault(key, value)
    age = fields.get(b"max_age", b"")
    age_s, length = numbers.scan(age)
    mode = fields.get(b"mode")
    if fields.get(b"version") != VERSION or mode not in (ENFORCE, TESTING, NONE):
        raise Malformed
    if not 0 < length == len(age) or len(patterns) > MOST_PATTERNS or (not patterns and mode != NONE):
        raise Malformed
    return Policy(mode, min(age_s, LONGEST_AGE_S), patterns)


def _pattern(value: bytes) -> bytes:
    """Raises Malformed."""
    if not NAMES.issuperset(value) or not value.removeprefix(b"*.").strip(b"."):
        raise Malformed
    return value.lower()


def matches(pattern: bytes, host: bytes) -> bool:
    """Whether a host has a name like that; `*.` in front stands for one label."""
    pattern, host = pattern.lower().rstrip(b"."), host.lower().rstrip(b".")
    if pattern.startswith(b"*."):
        label, dot, rest = host.partition(b".")
        return bool(label and dot) and rest == pattern[2:]
    return bool(host) and pattern == host


class Kept:
    """What is known of a domain. id: as its TXT record had it; fetched, failed: seconds since the epoch, 0 for never;
    policy: None as long as there is none."""

    __slots__ = ("failed", "fetched", "id", "policy")

    def __init__(self, id_: bytes, fetched: int, failed: int, policy: Policy | None) -> None:
        self.id = id_
        self.fetched = fetched
        self.failed = failed
        self.policy = policy

    def encode(self) -> bytes:
        lines = [KEPT, b"id: " + self.id, b"fetched: %d" % self.fetched, b"failed: %d" % self.failed]
        if self.policy is not None:
            lines += [b"version: " + VERSION, b"mode: " + self.policy.mode]
            lines += [b"mx: " + pattern for pattern in self.policy.patterns]
            lines.append(b"max_age: %d" % self.policy.age_s)  # the last: without it, it is no policy
        return b"\n".join([*lines, b""])


def decode(text: bytes) -> Kept:
    """Raises Malformed."""
    lines = text.split(b"\n")
    if len(lines) < 5 or lines[0] != KEPT or lines[-1]:
        raise Malformed
    values = []
    for key, line in zip((b"id: ", b"fetched: ", b"failed: "), lines[1:4], strict=True):
        if not line.startswith(key):
            raise Malformed
        values.append(line[len(key) :])
    times = [numbers.scan(value) for value in values[1:]]
    if any(length != len(value) or not length for (_, length), value in zip(times, values[1:], strict=True)):
        raise Malformed
    policy = parse(b"\n".join(lines[4:])) if lines[4] else None
    return Kept(values[0], times[0][0], times[1][0], policy)
