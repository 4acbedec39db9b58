"""NAME
    mkcert - make a key and a certificate for TLS, or check them

SYNOPSIS
    mkcert [-cr] [-d DAYS] [-t TYPE] [-k KEYFILE] FILE [NAME...]

DESCRIPTION
    mkcert makes a new private key and a certificate that is signed with that key itself, both in FILE:

        cd /var/qmail/control
        mkcert servercert.pem mail.example pop.mail.example

    NAME is a host's name, *.mail.example for all names that have one label more, or an IP address. All of them are in
    the certificate's subjectAltName, and the first is its subject.

    FILE must not exist: a key is never overwritten. It belongs to whoever calls mkcert, has mode 0400, and appears
    whole. Servers have to read it before they give up root, which tcpserver(1) and sslserver(1) do.

    With -r mkcert prints a request, for a certification authority to sign. It is about the key in FILE; if there is no
    FILE it is made first as above, so that servers can be started meanwhile.

        mkcert -r servercert.pem mail.example >mail.example.csr

    When the certificate has come, put it with its chain behind the key, into a new file that you rename:

        umask 277
        openssl pkey -in servercert.pem | cat - signed.crt >servercert.new
        mkcert -c servercert.new mail.example
        mv servercert.new servercert.pem

    With -c, where NAME may be missing, mkcert checks FILE: that its key is the certificate's, that the certificates
    behind this one lead on from it, each to the next, that it is for each NAME, and that it is valid today and for DAYS
    more. What it is like is printed, and what is wrong said on descriptor 2:

        names: mail.example pop.mail.example
        key: ECDSA P-256
        issuer: itself
        valid: 2026-11-27 to 2029-03-01
        sha256: 0B:5D:...

    The last line is what people compare before they trust a certificate that nobody else has signed.

OPTIONS
    -d DAYS       the certificate is valid for so long, 825 days unless set: some clients take none that is valid for
                  longer. With -c: so long at least, 0 unless set
    -t TYPE       of the key: p256, the default, or p384 (ECDSA on these curves); rsa, rsa2048 or rsa4096 (rsa has 3072
                  bits), for old clients
    -k KEYFILE    take the key in KEYFILE instead of a new one, so that who trusts the old certificate's key goes on to
                  do so
    -r, -c        print a request; check

EXIT STATUS
    0      done; with -c: all is well
    100    wrong usage; with -c: something is wrong
    111    FILE is there already, or cannot be read or made, or the Python package cryptography is missing

SECURITY
    The key is in the memory of mkcert alone, and in a file that its owner alone may read, from the beginning.

    The certificate says of itself that it may not sign others: who trusts it trusts no other.

BUGS
    The package cryptography is not installed with this toolkit, as only mkcert needs it: apt-get install
    python3-cryptography, or pip install cryptography.

    After a crash a file FILE.tmp.* may be left, which may be removed.

SEE ALSO
    tcpserver(1), sslserver(1)
"""

import os
import time

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import addresses, numbers, options
from qmailpy.formats.visible import visible
from qmailpy.stores import safeio
from qmailpy.unix import fds, libraries

PROGRAM = b"mkcert"
USAGE = b"mkcert [ -cr ] [ -d days ] [ -t type ] [ -k keyfile ] file [ name ... ]"
LETTERS = b"crd:t:k:"

STDOUT = 1
MODE = 0o400
DAY_S = 86400
EARLIER_S = 3600  # before now, for clients whose clocks are slow
LIFETIME = 825  # days
LONGEST_LIFETIME = 36500
LONGEST_FILE = 1 << 20  # bytes
LONGEST_SUBJECT = 64  # characters, RFC 5280 appendix A, ub-common-name

TYPES = {b"p256": 256, b"p384": 384, b"rsa": 3072, b"rsa2048": 2048, b"rsa3072": 3072, b"rsa4096": 4096}
LABEL = b"abcdefghijklmnopqrstuvwxyz0123456789-_"

MISSING = b"no Python package cryptography: apt-get install python3-cryptography, or pip install cryptography"

TYPE_CHECKING = False
if TYPE_CHECKING:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Failed(Exception):
    """args[0]: what is said."""

    def __init__(self, text: bytes, code: int = strerr.LATER) -> None:
        super().__init__(text)
        self.code = code


class Settings:
    """What the command line says."""

    __slots__ = ("days", "file", "key_file", "kind", "names", "wish")

    def __init__(self, argv: list[bytes]) -> None:
        """Raises OptionError; ValueError for any other wrong usage."""
        letters, words = options.parse(argv, LETTERS)
        given = dict(letters)
        self.wish = b"c" if b"c" in given else b"r" if b"r" in given else b""
        if len(words) < (1 if self.wish == b"c" else 2) or {b"c", b"r"} <= given.keys():
            raise ValueError
        if self.wish == b"c" and not given.keys() <= {b"c", b"d"}:
            raise ValueError
        text = given.get(b"d", b"0" if self.wish == b"c" else b"%d" % LIFETIME)
        self.days, length = numbers.scan(text)
        self.kind = given.get(b"t", b"p256")
        if length != len(text) or self.days > LONGEST_LIFETIME or self.kind not in TYPES:
            raise ValueError
        if not self.days and self.wish != b"c":
            raise ValueError
        self.key_file = given.get(b"k", b"")
        self.file = words[0]
        self.names = [word.lower().removesuffix(b".") for word in words[1:]]


def packed(name: bytes) -> bytes | None:
    """The bytes of an IP address; None if name is none."""
    return addresses.parse_ipv4(name) or addresses.parse_ipv6(name)


def is_host(name: bytes) -> bool:
    """Whether name is a host's, or a wildcard with two labels behind it. Digits at the end make a bad address."""
    labels = name.removeprefix(b"*.").split(b".")
    return (
        len(name) <= 253
        and all(0 < len(label) <= 63 and not label.strip(LABEL) and label.strip(b"-") == label for label in labels)
        and not labels[-1].isdigit()
        and not (name.startswith(b"*.") and len(labels) < 2)
    )


# Making


def new_key(kind: bytes) -> "Key":
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    size = TYPES[kind]
    if kind.startswith(b"rsa"):
        return rsa.generate_private_key(65537, size)
    return ec.generate_private_key(ec.SECP256R1() if size == 256 else ec.SECP384R1())


def text_of(key: "Key") -> bytes:
    from cryptography.hazmat.primitives import serialization

    unencrypted = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unencrypted)


def subject(names: list[bytes]) -> "x509.Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    if len(names[0]) > LONGEST_SUBJECT:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0].decode())])


def alternatives(names: list[bytes]) -> "x509.SubjectAlternativeName":
    import ipaddress

    from cryptography import x509

    found: list[x509.GeneralName] = []
    for name in names:
        ip = packed(name)
        found.append(x509.DNSName(name.decode()) if ip is None else x509.IPAddress(ipaddress.ip_address(ip)))
    return x509.SubjectAlternativeName(found)


def own_certificate(key: "Key", names: list[bytes], now: float, days: int) -> bytes:
    """Signed with key itself, in PEM. It has no key usage: with that of a server some clients would not let it stand at
    the end of a chain."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID

    who = subject(names)
    begin = datetime.datetime.fromtimestamp(int(now) - EARLIER_S, datetime.timezone.utc)
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(seconds=EARLIER_S + days * DAY_S))
        .add_extension(alternatives(names), critical=not list(who))  # RFC 5280 section 4.2.1.6
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def request(key: "Key", names: list[bytes]) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    builder = x509.CertificateSigningRequestBuilder().subject_name(subject(names))
    builder = builder.add_extension(alternatives(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make(settings: Settings) -> "Key":
    """The new file's key. Raises Failed, safeio.Failed."""
    if os.path.lexists(settings.file):
        raise Failed(b"unable to make " + settings.file + b": file already exists")
    key = key_in(settings.key_file) if settings.key_file else new_key(settings.kind)
    text = text_of(key) + own_certificate(key, settings.names, time.time(), settings.days)
    safeio.create(settings.file, b"%b.tmp.%b" % (settings.file, os.urandom(8).hex().encode()), text, MODE)
    return key


# Reading


def read(path: bytes) -> bytes:
    """Raises Failed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return fds.read_all(fd, LONGEST_FILE)
        finally:
            os.close(fd)
    except OSError as e:
        raise Failed(b"unable to read %b: %b" % (path, strerr.reason(e)))


def pieces(text: bytes) -> list[bytes]:
    """The parts of a PEM file, each whole."""
    marked = text.split(b"-----BEGIN ")[1:]
    return [b"-----BEGIN " + piece for piece in marked if b"-----END " in piece]


def key_in(path: bytes) -> "Key":
    """Raises Failed."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    for piece in pieces(read(path)):
        if b"PRIVATE KEY-----" not in piece.partition(b"\n")[0]:
            continue
        try:
            key = serialization.load_pem_private_key(piece, None)
        except (ValueError, TypeError) as e:
            raise Failed(b"unable to use the key in %b: %b" % (path, why(e)), strerr.NEVER)
        if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            return key
        raise Failed(b"unable to use the key in %b: neither ECDSA nor RSA" % path, strerr.NEVER)
    raise Failed(b"unable to find a key in " + path, strerr.NEVER)


def certificates_in(path: bytes) -> "list[x509.Certificate]":
    """Raises Failed."""
    from cryptography import x509

    found = []
    for piece in pieces(read(path)):
        if piece.startswith(b"-----BEGIN CERTIFICATE-----"):
            try:
                found.append(x509.load_pem_x509_certificate(piece))
            except ValueError as e:
                raise Failed(b"unable to use a certificate in %b: %b" % (path, why(e)), strerr.NEVER)
    if not found:
        raise Failed(b"unable to find a certificate in " + path, strerr.NEVER)
    return found


def why(error: Exception) -> bytes:
    """The first line of what a library says."""
    return visible(str(error).encode("utf-8", "replace").partition(b"\n")[0])


# Checking


class Report:
    """What a file's certificate is like, and what is wrong."""

    def __init__(self, path: bytes) -> None:
        """Raises Failed."""
        self.path = path
        self.certificate, *self.chain = certificates_in(path)
        self.key = key_in(path)
        self.wrong = False

    def complain(self, text: bytes) -> None:
        strerr.say(b"mkcert: warning: %b: %b\n" % (self.path, text))
        self.wrong = True

    def check(self, names: list[bytes], days: int, now: float) -> None:
        if self.certificate.public_key() != self.key.public_key():
            self.complain(b"the key is not that of the certificate")
        above = self.certificate
        for number, certificate in enumerate(self.chain, 2):
            if above.issuer != certificate.subject:
                self.complain(b"certificate %d has not signed the one before it" % number)
            above = certificate
        covered = self._names()
        for name in names:
            if not any(matches(name, other) for other in covered):
                self.complain(b"the certificate is not for " + visible(name))
        begin, end = self._validity()
        if now < begin.timestamp():
            self.complain(b"the certificate is not valid before " + shown(begin))
        if now >= end.timestamp():
            self.complain(b"the certificate has expired on " + shown(end))
        elif now + days * DAY_S >= end.timestamp():
            self.complain(b"the certificate expires on " + shown(end))

    def lines(self) -> bytes:
        from cryptography.hazmat.primitives import hashes

        certificate = self.certificate
        issuer = certificate.issuer.rfc4514_string().encode()
        begin, end = self._validity()
        found = {
            b"names": b" ".join(self._names()),
            b"key": kind_of(self.key),
            b"issuer": b"itself" if certificate.issuer == certificate.subject else issuer,
            b"valid": b"%b to %b" % (shown(begin), shown(end)),
            b"sha256": certificate.fingerprint(hashes.SHA256()).hex(":").upper().encode(),
        }
        return b"".join([b"%b: %b\n" % (name, visible(text).replace(b"\n", b"?")) for name, text in found.items()])

    def _names(self) -> list[bytes]:
        """As on the command line; only subjectAltName counts (RFC 9525 section 6.3)."""
        from cryptography import x509

        try:
            extension = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except (x509.ExtensionNotFound, ValueError):
            return []
        hosts = [name.encode("utf-8").lower() for name in extension.value.get_values_for_type(x509.DNSName)]
        ips = [str(ip).encode() for ip in extension.value.get_values_for_type(x509.IPAddress)]
        return [*hosts, *ips]

    def _validity(self) -> "tuple[datetime.datetime, datetime.datetime]":
        """Older versions of the library have times without a zone, in UTC."""
        import datetime

        certificate = self.certificate
        if hasattr(certificate, "not_valid_after_utc"):
            return certificate.not_valid_before_utc, certificate.not_valid_after_utc
        utc = datetime.timezone.utc
        return certificate.not_valid_before.replace(tzinfo=utc), certificate.not_valid_after.replace(tzinfo=utc)


def matches(name: bytes, covered: bytes) -> bool:
    """Whether a certificate for covered is one for name."""
    ip = packed(name)
    if ip is not None or packed(covered) is not None:
        return ip is not None and ip == packed(covered)
    label, _, rest = name.partition(b".")
    return name == covered or (b"*" not in label and bool(rest) and covered == b"*." + rest)


def kind_of(key: "Key") -> bytes:
    from cryptography.hazmat.primitives.asymmetric import rsa

    if isinstance(key, rsa.RSAPrivateKey):
        return b"RSA %d bits" % key.key_size
    known = {"secp256r1": b"P-256", "secp384r1": b"P-384", "secp521r1": b"P-521"}
    return b"ECDSA " + known.get(key.curve.name, key.curve.name.encode())


def shown(day: "datetime.datetime") -> bytes:
    return day.strftime("%Y-%m-%d").encode()


def check(settings: Settings) -> int:
    """Raises Failed, OSError."""
    report = Report(settings.file)
    report.check(settings.names, settings.days, time.time())
    fds.write_all(STDOUT, report.lines())
    return strerr.NEVER if report.wrong else 0


def act(settings: Settings) -> int:
    """Raises Failed, safeio.Failed, OSError."""
    for name in settings.names:
        if not (packed(name) or is_host(name)):
            raise Failed(b"unable to use the name %b: no host in ASCII, no IP address" % visible(name), strerr.NEVER)
    if settings.wish == b"c":
        return check(settings)
    if settings.wish == b"r":
        key = key_in(settings.file) if os.path.lexists(settings.file) and not settings.key_file else make(settings)
        fds.write_all(STDOUT, request(key, settings.names))
        return 0
    make(settings)
    return 0


def main(argv: list[bytes], env: Env) -> int:
    try:
        settings = Settings(argv)
    except (options.OptionError, ValueError):
        return strerr.usage(PROGRAM, USAGE)
    libraries.enable()
    try:
        import cryptography  # noqa: F401
    except ImportError:
        return strerr.fail(strerr.LATER, PROGRAM, MISSING)
    try:
        return act(settings)
    except Failed as e:
        return strerr.fail(e.code, PROGRAM, e.args[0])
    except safeio.Failed as e:
        return strerr.fail(strerr.LATER, PROGRAM, e.complaint, error=e)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to write output", error=e)
