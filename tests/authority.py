"""An authority for tests, and certificates of all sorts: each a file of a key, a certificate, and those above."""

import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey
DAY = datetime.timedelta(days=1)


class Issued:
    """A certificate with its key. path: of the file."""

    def __init__(self, certificate: x509.Certificate, key: Key, path: Path, *above: x509.Certificate) -> None:
        self.certificate = certificate
        self.key = key
        self.path = path
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(pem + b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, *above)))

    def der(self, selector: int = 0) -> bytes:
        """As TLSA records select it."""
        if selector:
            return self.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return self.certificate.public_bytes(Encoding.DER)

    def tlsa(self, usage: int, selector: int, matching: int) -> str:
        """The data of a TLSA record for it."""
        data = self.der(selector)
        if matching:
            digest = hashes.Hash(hashes.SHA256() if matching == 1 else hashes.SHA512())
            digest.update(data)
            data = digest.finalize()
        return f"{usage} {selector} {matching} {data.hex()}"

    def context(self) -> ssl.SSLContext:
        """For a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path)
        return context


class Authority:
    """A root, and one below that issues; folder is for the files. cafile: the root."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._made = 0
        self.root = self._make(f"{name} root", None, ca=True)
        self.middle = self._make(f"{name} below", self.root, ca=True)
        self.cafile = folder / "ca.pem"
        self.cafile.write_bytes(self.root.certificate.public_bytes(Encoding.PEM))

    def issue(self, *names: str, days: int = 1, root_too: bool = False) -> Issued:
        """For these names, by the one below; days: until it ends, or since it has; root_too: the root is sent too."""
        above = [self.middle.certificate] + [self.root.certificate] * root_too
        return self._make(names[0], self.middle, names, days, above=above)

    def self_signed(self, *names: str) -> Issued:
        return self._make(names[0], None, names)

    def _make(
        self, subject: str, issuer: Issued | None, names: tuple[str, ...] = (), days: int = 1,
        ca: bool = False, above: "list[x509.Certificate] | None" = None,
    ) -> Issued:  # fmt: skip
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name if issuer is None else issuer.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 30 * DAY)
            .not_valid_after(now + days * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False
            )
        certificate = builder.sign(key if issuer is None else issuer.key, hashes.SHA256())
        self._made += 1
        return Issued(certificate, key, self._folder / f"{self._made}.pem", *(above or []))
