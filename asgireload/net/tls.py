"""TLS material of the server: its files, their content, and the contexts made of it.

    files_of ──▶ read_material ──▶ check_material          in the supervisor
                       └─▶ seal ──▶ unseal ──▶ make_context   in each worker

Only the supervisor reads files, all of them at one time, and workers get their content. So all workers of a server
present the same certificates, a key is never used with an older certificate, and a new worker does not depend on
the files on disk at that time. `supervisor/certificates.py` decides when to read the files again.
"""

import os
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from asgireload.config import Config
from asgireload.errors import TlsError
from asgireload.net.addresses import addresses_of
from asgireload.net.x509 import Certificate, find_certificates, read_certificate, to_pem

ALPN = ("http/1.1",)
FILE_LIMIT = 4 * 1024 * 1024
"""The largest file that is read, in bytes; a bundle of all public authorities has a quarter of a mebibyte."""

_PIECE = 64 * 1024

_VERSIONS = {"tls1.2": ssl.TLSVersion.TLSv1_2, "tls1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY_MODES = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")


class Pair(msgspec.Struct, frozen=True):
    """The file names of a certificate and its key, as configured."""

    certfile: str
    keyfile: str | None = None
    """None if the key is in `certfile`."""


class TlsFiles(msgspec.Struct, frozen=True):
    """The TLS files that a configuration names."""

    main: tuple[Pair, ...] = ()
    """The server's certificates: the first is the default, the others are chosen by SNI."""
    own: tuple[Pair, ...] = ()
    """The certificates of single addresses."""
    authorities: str | None = None
    password: str | None = None

    def paths(self) -> tuple[str, ...]:
        """Return the name of every file once, as configured."""
        found = [path for pair in self.main + self.own for path in (pair.certfile, pair.keyfile)]
        found += [self.authorities, self.password]
        return tuple(dict.fromkeys(path for path in found if path is not None))


class Identity(msgspec.Struct, frozen=True):
    """The content of a certificate file and of its key file."""

    files: Pair
    chain: bytes
    """PEM: the certificate, then the intermediate certificates."""
    key: bytes
    """PEM, possibly encrypted."""

    def __repr__(self) -> str:
        return f"<Identity {self.files.certfile}>"


class Material(msgspec.Struct, frozen=True):
    """The content of all TLS files, read at one time. It contains private keys, which must never be shown."""

    main: tuple[Identity, ...] = ()
    own: tuple[Identity, ...] = ()
    authorities: bytes | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"<Material of {len(self.main) + len(self.own)} certificates>"


class TlsSettings(msgspec.Struct, frozen=True):
    """The settings of TLS contexts."""

    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    verify_mode: ssl.VerifyMode = ssl.CERT_NONE
    ciphers: str | None = None
    ca_certs: str | None = None
    """The name of the file with the authorities, for errors."""


class ServerContext(ssl.SSLContext):
    """A context with the certificate that it sends, which the ssl module does not expose."""

    certificate: str | None = None
    """PEM."""


def settings_of(config: Config) -> TlsSettings:
    """Return the settings of TLS contexts from the configuration."""
    return TlsSettings(
        version=_VERSIONS[config.ssl_version],
        verify_mode=_VERIFY_MODES[config.ssl_cert_reqs],
        ciphers=config.ssl_ciphers,
        ca_certs=config.ssl_ca_certs,
    )


# --- files ----------------------------------------------------------------------------------------


def files_of(config: Config) -> TlsFiles:
    """Return the files that `config` names; none if no address uses TLS. Raise ConfigError."""
    traits = [address.traits for address in addresses_of(config)]
    if not any(entry.tls for entry in traits):
        return TlsFiles()
    main: list[Pair] = []
    if config.ssl_certfile is not None:
        main = [Pair(config.ssl_certfile, config.ssl_keyfile), *map(_sni_pair, config.ssl_sni)]
    own = [Pair(entry.certfile, entry.keyfile) for entry in traits if entry.certfile is not None]
    return TlsFiles(
        main=tuple(main),
        own=tuple(dict.fromkeys(own)),
        authorities=config.ssl_ca_certs,
        password=config.ssl_keyfile_password_file,
    )


def _sni_pair(text: str) -> Pair:
    certfile, _, keyfile = text.partition(":")
    return Pair(certfile, keyfile or None)


def read_material(files: TlsFiles, directory: str, password: str | None) -> Material:
    """Read the files, whose relative paths start at `directory`. Raise TlsError naming a file that cannot be read.

    `password` is the password of the keys from the configuration; the password file, if any, overrides it.
    """
    if files.password is not None:
        text = _read_file(files.password, directory, "password file")
        try:
            password = text.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise TlsError(f"password file {files.password}: it is not UTF-8 text") from error
    return Material(
        main=tuple(_read_pair(pair, directory) for pair in files.main),
        own=tuple(_read_pair(pair, directory) for pair in files.own),
        authorities=(
            _read_file(files.authorities, directory, "ssl_ca_certs")
            if files.authorities is not None
            else None
        ),
        password=password,
    )


def _read_pair(pair: Pair, directory: str) -> Identity:
    chain = _read_file(pair.certfile, directory, "certificate")
    if pair.keyfile is None:
        return Identity(pair, chain, chain)
    return Identity(pair, chain, _read_file(pair.keyfile, directory, "private key"))


def _read_file(path: str, directory: str, what: str) -> bytes:
    try:
        # O_NONBLOCK: opening a pipe without a writer must not block the server.
        descriptor = os.open(
            os.path.join(directory, path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        )
        try:
            content = b""
            while len(content) <= FILE_LIMIT and (piece := os.read(descriptor, _PIECE)):
                content += piece
        finally:
            os.close(descriptor)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        advice = {
            FileNotFoundError: "check the path",
            PermissionError: "let the user of the server read it",
            IsADirectoryError: "name a file in it",
        }.get(type(error))
        raise TlsError(f"{what} {path}: {reason}" + (f"; {advice}" if advice else "")) from error
    if len(content) > FILE_LIMIT:
        raise TlsError(f"{what} {path}: it is no PEM file")
    return content


# --- from the supervisor to workers ---------------------------------------------------------------


def seal(material: Material) -> int:
    """Return the descriptor of a memfd with the encoded material; the caller closes it. Raise OSError."""
    data = msgspec.msgpack.encode(material)
    descriptor = os.memfd_create("asgireload-tls", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def unseal(descriptor: int) -> Material:
    """Return the material that `seal` encoded. The file position is not used, since several workers share it."""
    size = os.fstat(descriptor).st_size
    data = bytearray()
    while len(data) < size:
        data += os.pread(descriptor, size - len(data), len(data))
    return msgspec.msgpack.decode(data, type=Material)


# --- contexts -------------------------------------------------------------------------------------


def make_context(
    identities: Sequence[Identity], material: Material, settings: TlsSettings
) -> ServerContext:
    """Return a context that sends the certificate of the first identity, or of the one that matches the SNI name.

    Raise TlsError, naming the file, if OpenSSL cannot use the material.
    """
    contexts = [_make_single(identity, material, settings) for identity in identities]
    first, *others = contexts
    if others:
        table: dict[str, ServerContext] = {}
        for identity, context in zip(identities, contexts, strict=True):
            for name in _leaf(identity).names:
                table.setdefault(name, context)

        def on_server_name(
            connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
        ) -> None:
            if (chosen := choose_by_name(table, name)) is not None:
                connection.context = chosen

        first.sni_callback = on_server_name
    return first


def choose_by_name(table: Mapping[str, ServerContext], name: str | None) -> ServerContext | None:
    """Return the context for a host name, by an exact match or a wildcard; None if there is none. Pure.

    A wildcard matches exactly one whole label, the leftmost (RFC 9525 section 6.3).
    """
    if name is None:
        return None
    name = name.lower().rstrip(".")
    return table.get(name) or table.get("*." + name.partition(".")[2])


def check_material(material: Material, settings: TlsSettings) -> None:
    """Make every context once, as a check. Raise TlsError, naming the file, if OpenSSL cannot use the material."""
    if material.main:
        make_context(material.main, material, settings)
    for identity in material.own:
        make_context([identity], material, settings)


def certificates_in(material: Material) -> list[tuple[Pair, Certificate]]:
    """Return each certificate, parsed, with its files. Raise TlsError for one that cannot be parsed."""
    return [(identity.files, _leaf(identity)) for identity in (*material.main, *material.own)]


def find_doubts(certificate: Certificate, now: float) -> str | None:
    """Return why clients refuse a certificate at the time `now`, in seconds since the epoch; None if no reason is
    known. Pure."""
    if certificate.not_after < now:
        return "it has expired: clients will refuse it"
    if certificate.not_before > now:
        return "it is not valid yet: clients will refuse it, or the clock of this machine is wrong"
    return None


def _leaf(identity: Identity) -> Certificate:
    return read_certificate(_leaf_der(identity))


def _leaf_der(identity: Identity) -> bytes:
    path = identity.files.certfile
    try:
        chain = find_certificates(identity.chain)
        if chain:
            read_certificate(chain[0])
            return chain[0]
    except TlsError as error:
        raise TlsError(f"certificate {path}: {error}") from error
    raise TlsError(f"certificate {path}: there is no certificate in it; it must be a PEM file")


def _make_single(identity: Identity, material: Material, settings: TlsSettings) -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = settings.version
    # Otherwise a client could request handshakes without a limit on one connection. TLS 1.3 has no renegotiation.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(ALPN))
    if settings.ciphers is not None:
        try:
            context.set_ciphers(settings.ciphers)
        except ssl.SSLError as error:
            raise TlsError(
                f"ssl_ciphers {settings.ciphers!r}: OpenSSL knows no cipher of this list"
            ) from error
    context.certificate = to_pem(_leaf_der(identity))
    _load_chain(context, identity, material.password)
    if material.authorities is not None:
        _load_authorities(context, material.authorities, settings.ca_certs)
    context.verify_mode = settings.verify_mode
    return context


def _load_chain(context: ssl.SSLContext, identity: Identity, password: str | None) -> None:
    certfile, keyfile = identity.files.certfile, identity.files.keyfile or identity.files.certfile
    if _PRIVATE_KEY.search(identity.key) is None:
        advice = "give ssl_keyfile" if identity.files.keyfile is None else "it must be a PEM file"
        raise TlsError(f"private key {keyfile}: there is no private key in it; {advice}")
    was_asked = False

    def tell_password() -> str:
        # Without this function OpenSSL would prompt on the terminal.
        nonlocal was_asked
        was_asked = True
        return password or ""

    try:
        with _as_file(identity.chain) as chain, _as_file(identity.key) as key:
            context.load_cert_chain(chain, key, tell_password)
    except (ssl.SSLError, ValueError) as error:
        if was_asked and password is None:
            raise TlsError(
                f"private key {keyfile}: it is encrypted; give ssl_keyfile_password_file"
            ) from error
        if was_asked:
            raise TlsError(
                f"private key {keyfile}: the password does not open it, or it is damaged"
            ) from error
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise TlsError(
                f"private key {keyfile}: it does not belong to the certificate {certfile}"
            ) from error
        raise TlsError(
            f"certificate {certfile} with private key {keyfile}: OpenSSL cannot use them: {error}"
        ) from error


def _load_authorities(context: ssl.SSLContext, authorities: bytes, name: str | None) -> None:
    if b"-----BEGIN " not in authorities:
        raise TlsError(f"ssl_ca_certs {name}: there is no certificate in it; it must be a PEM file")
    try:
        with _as_file(authorities) as path:
            context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise TlsError(f"ssl_ca_certs {name}: OpenSSL cannot use it: {error}") from error


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Yield a path to `content` for OpenSSL, without writing a key to disk (memfd_create(2))."""
    descriptor = os.memfd_create("asgireload-pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
