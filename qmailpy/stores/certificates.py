"""certificates - keys and certificates on disk, as contexts of TLS: loaded, chosen by the name that a client asks for,
loaded again when they change. Only processes that hold a key, or speak TLS, import this: ssl is heavy.

A place is one of

    a file             PEM, with a key and its certificate, and those that lead to a root
    a folder           NAME.pem for each name, or NAME/ with fullchain.pem and privkey.pem, as ACME clients make them;
                       default.pem or default/ for clients that ask for another name or for none
    a file NAME.cdb    the same: names, *.example.org, and default, each with the path of a PEM file

A name *.example.org stands for all that have one label more. What cannot be loaded at a change is complained of once,
and what was loaded before stays in use.
"""

import os
import ssl
import time
from _collections_abc import Callable

from qmailpy import strerr
from qmailpy.formats import cdb as cdbformat
from qmailpy.formats import sslenviron
from qmailpy.stores import control, home
from qmailpy.unix import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT = 1 << 20  # bytes of a PEM file that is a key or a certificate
LARGEST_CDB = 1 << 24  # bytes
DEFAULT = b"default"
CHAIN, KEY = b"fullchain.pem", b"privkey.pem"

LIFETIME_S = 86400  # of a context: the keys of its tickets must not live as long as a server does

CLEANSE_PLAINTEXT = 2  # SSL_OP_CLEANSE_PLAINTEXT of OpenSSL 3.0 on: what was decrypted is wiped when it has been read

CERTIFICATE_MARK, KEY_MARK = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----"

# Where systems keep the roots that they trust, if OpenSSL's own default is no file.
SYSTEM_ROOTS = (
    b"/etc/ssl/certs/ca-certificates.crt",
    b"/etc/pki/tls/certs/ca-bundle.crt",
    b"/etc/ssl/ca-bundle.pem",
    b"/etc/ssl/cert.pem",
)

NOT_VERIFIED, VERIFIED = ssl.CERT_NONE, ssl.CERT_REQUIRED

Files = tuple[bytes, bytes]  # certificate and key, which may be the same file
Mark = tuple[tuple[int, ...] | None, ...]
GONE: Mark = (None,)


class Broken(Exception):
    """text says what cannot be used, and why."""

    def __init__(self, what: bytes, why: bytes | OSError) -> None:
        super().__init__(what)
        self.text = what + b": " + (strerr.reason(why) if isinstance(why, OSError) else why)


class Wanted:
    """What contexts are made of. ciphers: a list as in ciphers(1), for TLS 1.2; roots: files and folders of
    certificates that those of the other side are verified by; password: of the key; more: a second pair, of another
    kind of key; parameters: a file for Diffie and Hellman."""

    __slots__ = ("ciphers", "key", "more", "parameters", "password", "place", "roots")

    def __init__(
        self,
        place: bytes,
        key: bytes = b"",
        more: Files | None = None,
        ciphers: bytes = b"",
        roots: tuple[bytes, ...] = (),
        password: bytes = b"",
        parameters: bytes = b"",
    ) -> None:
        self.place = place
        self.key = key
        self.more = more
        self.ciphers = ciphers
        self.roots = roots
        self.password = password
        self.parameters = parameters


def server_ciphers(env: "Mapping[bytes, bytes]") -> bytes:
    """The list of CIPHERS, else of control/tlsserverciphers; empty for the library's. Raises Broken."""
    return _ciphers(env, b"tlsserverciphers")


def client_ciphers(env: "Mapping[bytes, bytes]") -> bytes:
    """The list of CIPHERS, else of control/tlsclientciphers; empty for the library's. Raises Broken."""
    return _ciphers(env, b"tlsclientciphers")


def client_roots(env: "Mapping[bytes, bytes]") -> tuple[bytes, ...]:
    """What certificates of clients are verified by, with lists of revoked ones. CCAFILE stands in for the others,
    though in ucspi-ssl it only names whom clients are told to show certificates of; - is no file there."""
    roots = [env[name] for name in (b"CAFILE", b"CADIR") if env.get(name)]
    if not roots and env.get(b"CCAFILE", b"") not in (b"", b"-"):
        roots = [env[b"CCAFILE"]]
    return (*roots, env[b"CRLDIR"]) if roots and env.get(b"CRLDIR") else tuple(roots)


def _ciphers(env: "Mapping[bytes, bytes]", name: bytes) -> bytes:
    try:
        return env.get(b"CIPHERS") or control.Control(home.home(env)).line(name) or b""
    except control.Unreadable as e:
        raise Broken(b"unable to read control/" + name, e)


class _Entry:
    """One name's contexts: for clients that show no certificate, and, if there are roots, for those that have to.
    variables: what SSL_SERVER_* says of the certificate."""

    __slots__ = ("context", "files", "loaded_s", "mark", "variables", "verifying")

    def __init__(
        self,
        files: Files,
        mark: Mark,
        context: ssl.SSLContext,
        verifying: ssl.SSLContext | None,
        variables: dict[bytes, bytes],
        loaded_s: float,
    ) -> None:
        self.files = files
        self.mark = mark
        self.context = context
        self.verifying = verifying
        self.variables = variables
        self.loaded_s = loaded_s


class Certificates:
    """The contexts of a server. Forked processes find those of the moment of the fork."""

    def __init__(
        self, wanted: Wanted, complain: Callable[[bytes], None], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """complain(text) hears of what has become unusable. Raises Broken if there is no default, or if it cannot be
        loaded; of other names complain hears."""
        self._wanted = wanted
        self._complain = complain
        self._entries: dict[bytes, _Entry] = {}
        self._refused: dict[bytes, Mark] = {}  # name, or b"" for the place -> what has been complained of
        self._place_mark: Mark = ()
        self._roots_mark = self._mark_roots()
        self._names: dict[bytes, Files] = {}
        self._clock_s = clock_s
        self.asked = b""  # the name that the client has asked for, in the process of its connection
        self._look_at_place()
        self._entries[DEFAULT] = self._load(self._names[DEFAULT])
        self._refresh_names()

    @property
    def context(self) -> ssl.SSLContext:
        """For a new connection; it chooses by name itself."""
        return self._entries[DEFAULT].context

    @property
    def verifying(self) -> ssl.SSLContext | None:
        """The same, for a client that has to show a certificate; None without roots to verify it by."""
        return self._entries[DEFAULT].verifying

    def refresh(self) -> bool:
        """Look whether something has changed, and load that. Whether there is anything new."""
        self._roots_mark = self._mark_roots()
        if self._mark((self._wanted.place,)) != self._place_mark:
            try:
                self._look_at_place()
                self._refused.pop(b"", None)
            except Broken as e:
                self._refuse(b"", self._place_mark, e)
        return self._place_mark != GONE and self._refresh_names()

    def variables(self, context: ssl.SSLContext) -> dict[bytes, bytes]:
        """SSL_SERVER_* for a connection that has come to that context."""
        for entry in self._entries.values():
            if context in (entry.context, entry.verifying):
                return entry.variables
        return {}

    def _refresh_names(self) -> bool:
        now_s = self._clock_s()
        gone = [name for name in self._entries if name not in self._names and name != DEFAULT]
        for name in gone:
            del self._entries[name]
        changed = bool(gone)
        for name, files in self._names.items():
            entry = self._entries.get(name)
            mark = self._mark_files(files)
            if entry is not None and (entry.files, entry.mark) == (files, mark):
                if now_s - entry.loaded_s < LIFETIME_S:
                    continue
                entry.loaded_s = now_s  # the next attempt, if this one fails, is a day later
            elif self._refused.get(name) == mark:
                continue
            try:
                self._entries[name] = self._load(files)
                self._refused.pop(name, None)
                changed = True
            except Broken as e:
                self._refuse(name, mark, e)
        return changed

    def _refuse(self, name: bytes, mark: Mark, problem: Broken) -> None:
        if self._refused.get(name) != mark:
            self._refused[name] = mark
            self._complain(problem.text)

    # Names

    def _look_at_place(self) -> None:
        """Which names there are now. Raises Broken, and those that there were stay."""
        place = self._wanted.place
        self._place_mark = self._mark((place,))
        what = b"unable to read "
        try:
            if place.endswith(b".cdb"):
                names = _names_in_cdb(place)
            elif os.path.isdir(place):
                names = _names_in_folder(place)
            else:
                what = b"unable to load certificate "
                os.stat(place)
                names = {DEFAULT: (place, self._wanted.key or place)}
        except OSError as e:
            raise Broken(what + place, e)
        if DEFAULT not in names:
            raise Broken(b"unable to load certificate " + place, b"there is no " + DEFAULT)
        self._names = names

    def choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """As the callback of a context: that of the name."""
        self.asked = asked = _host_name(name or "")
        entry = self._entries.get(asked) or self._entries.get(b"*." + asked.partition(b".")[2])
        if entry is not None and asked != DEFAULT:
            verifying = entry.verifying if context.verify_mode != NOT_VERIFIED else None
            connection.context = verifying or entry.context

    # Contexts

    def _mark_files(self, files: Files) -> Mark:
        """Of every file that a context depends on."""
        return self._mark((*dict.fromkeys(files), *(self._wanted.more or ()))) + self._roots_mark

    def _mark_roots(self) -> Mark:
        """Of files in folders too: a list of revoked certificates may be written over in its place."""
        paths: list[bytes] = []
        for path in self._wanted.roots:
            try:
                paths += _files(path)
            except OSError:
                paths.append(path)
        return self._mark(tuple(paths))

    def _mark(self, paths: tuple[bytes, ...]) -> Mark:
        return tuple([_mark(path) for path in paths])

    def _load(self, files: Files) -> _Entry:
        """Raises Broken."""
        wanted = self._wanted
        mark = self._mark_files(files)  # before: what changes meanwhile is loaded again
        context = self._new_context(files)
        verifying = self._new_context(files) if wanted.roots else None
        if verifying is not None:
            # A certificate is asked for and verified anew for each connection: there are no tickets.
            verifying.verify_mode = VERIFIED
            verifying.options |= ssl.OP_NO_TICKET
            verifying.num_tickets = 0
            load_roots(verifying, wanted.roots)
        try:
            described = sslenviron.certificate(b"SSL_SERVER_", sslenviron.certificates(_read(files[0])))
        except (OSError, sslenviron.Malformed) as e:  # it has changed meanwhile, or only OpenSSL understands it
            why = e if isinstance(e, OSError) else b"malformed"
            raise Broken(b"unable to load certificate " + files[0], why)
        return _Entry(files, mark, context, verifying, described, self._clock_s())

    def _new_context(self, files: Files) -> ssl.SSLContext:
        """Raises Broken."""
        wanted = self._wanted
        context = _context(ssl.PROTOCOL_TLS_SERVER, wanted.ciphers)
        _load_pair(context, files, wanted.password)
        if wanted.more:
            _load_pair(context, wanted.more, wanted.password)
        if wanted.parameters:
            _load_parameters(context, wanted.parameters)
        context.sni_callback = self.choose
        return context


def client_context(wanted: Wanted, verified: bool, named: bool) -> ssl.SSLContext:
    """For the side that connects. verified: by roots, or by those that the system trusts; named: the name too.
    place, if there is one, is this side's own certificate. Raises Broken."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, wanted.ciphers)
    context.check_hostname = verified and named
    context.verify_mode = VERIFIED if verified else NOT_VERIFIED
    if verified:
        load_roots(context, wanted.roots or system_roots())
    if wanted.place:
        _load_pair(context, (wanted.place, wanted.key or wanted.place), wanted.password)
    return context


def system_roots() -> tuple[bytes, ...]:
    """The file, or folder, of certificates that the system trusts."""
    paths = ssl.get_default_verify_paths()
    for path in (paths.cafile, *SYSTEM_ROOTS, paths.capath):
        if path and os.path.exists(path):
            return (os.fsencode(path),)
    return ()


def load_roots(context: ssl.SSLContext, paths: tuple[bytes, ...]) -> None:
    """Certificates to verify by, and revocation lists, from files and from all files of folders, whole and now: once
    a process is confined it cannot look for any. Raises Broken."""
    for path in paths:
        try:
            files = _files(path)
        except OSError as e:
            raise Broken(b"unable to load CA list " + path, e)
        loaded = 0
        for file in files:
            try:
                context.load_verify_locations(os.fsdecode(file))
                loaded += 1
            except (OSError, ssl.SSLError) as e:
                if file == path:
                    raise Broken(b"unable to load CA list " + path, _reason(e))
        if not loaded:
            raise Broken(b"unable to load CA list " + path, b"there is no certificate in it")
    if context.cert_store_stats()["crl"]:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _files(path: bytes) -> list[bytes]:
    """Those of a folder, or the one that path is. Raises OSError."""
    return [os.path.join(path, name) for name in sorted(os.listdir(path))] if os.path.isdir(path) else [path]


def _context(protocol: int, ciphers: bytes) -> ssl.SSLContext:
    """Raises Broken."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if ssl.OPENSSL_VERSION_INFO >= (3,):
        context.options |= CLEANSE_PLAINTEXT
    if ciphers:
        try:
            context.set_ciphers(os.fsdecode(ciphers))
        except (ssl.SSLError, ValueError):
            raise Broken(b"unable to set cipher list", ciphers)
    return context


def _load_pair(context: ssl.SSLContext, files: Files, password: bytes) -> None:
    """Raises Broken."""
    certificate, key = files
    for path, what, mark in ((certificate, b"certificate ", CERTIFICATE_MARK), (key, b"key ", KEY_MARK)):
        try:
            text = _read(path)
        except OSError as e:
            raise Broken(b"unable to load " + what + path, e)
        if mark not in text:
            raise Broken(b"unable to load " + what + path, b"there is none in it")
    try:
        # Always with a password: without one OpenSSL would ask for it at the terminal.
        context.load_cert_chain(os.fsdecode(certificate), os.fsdecode(key), lambda: password)
    except ssl.SSLError as e:
        if e.reason == "KEY_VALUES_MISMATCH":
            raise Broken(b"unable to load key " + key, b"key does not match certificate")
        raise Broken(_which(files), _reason(e))
    except (OSError, ValueError) as e:
        raise Broken(_which(files), _reason(e))


def _which(files: Files) -> bytes:
    """OpenSSL does not say which of the two it could not read."""
    certificate, key = files
    try:
        for der in sslenviron.certificates(_read(certificate)):
            sslenviron.Certificate(der)
    except (OSError, sslenviron.Malformed):
        return b"unable to load certificate " + certificate
    return b"unable to load key " + key


def _load_parameters(context: ssl.SSLContext, path: bytes) -> None:
    try:
        context.load_dh_params(os.fsdecode(path))
    except (OSError, ssl.SSLError) as e:
        raise Broken(b"unable to set cipher parameters", _reason(e))


def _reason(error: Exception) -> bytes | OSError:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "unknown error").lower().replace("_", " ").encode()
    return error if isinstance(error, OSError) else b"wrong password"


def _read(path: bytes) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return fds.read_all(fd, LIMIT)
    finally:
        os.close(fd)


def _mark(path: bytes) -> tuple[int, ...] | None:
    """What changes when a file does; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _host_name(text: str) -> bytes:
    """A name as clients send it, in small letters; b"" for what cannot be one."""
    name = text.lower().encode("ascii", "replace")
    return name if 0 < len(name) <= 255 and not name.strip(b"abcdefghijklmnopqrstuvwxyz0123456789.-_") else b""


def _names_in_folder(folder: bytes) -> dict[bytes, Files]:
    """Raises OSError."""
    names = {}
    for entry in sorted(os.listdir(folder)):
        path = os.path.join(folder, entry)
        if entry.startswith(b"."):
            continue
        if entry.endswith(b".pem"):
            names[entry[:-4].lower()] = (path, path)
        elif os.path.isdir(path):
            names.setdefault(entry.lower(), (os.path.join(path, CHAIN), os.path.join(path, KEY)))
    return names


def _names_in_cdb(path: bytes) -> dict[bytes, Files]:
    """Paths that do not begin with a slash are meant from the cdb's folder. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        data = fds.read_all(fd, LARGEST_CDB)
    finally:
        os.close(fd)
    folder = os.path.dirname(path)
    return {
        name.lower(): (os.path.join(folder, file), os.path.join(folder, file)) for name, file in cdbformat.records(data)
    }
