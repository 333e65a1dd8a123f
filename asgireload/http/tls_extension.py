"""The ASGI extension `tls`: describes the TLS session of a connection to applications.

Source: https://asgi.readthedocs.io/en/latest/specs/tls.html
"""

import ssl
from typing import Any

from asgireload.errors import TlsError
from asgireload.net.x509 import read_certificate, to_pem

_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_cipher_suites: dict[str, int] = {}
"""Numbers of cipher suites by their OpenSSL names, filled when a suite is first used: a few dozen at most."""


def describe_tls(connection: ssl.SSLObject) -> dict[str, Any]:
    """Return the value of the extension for a connection whose handshake is complete.

    `client_cert_error` is always None, because a client certificate that does not verify ends the handshake.
    """
    chain = _client_chain(connection)
    return {
        # A context that a factory of the application has made does not have this attribute.
        "server_cert": getattr(connection.context, "certificate", None),
        "client_cert_chain": tuple(map(to_pem, chain)),
        "client_cert_name": _subject(chain[0]) if chain else None,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(connection.version() or ""),
        "cipher_suite": _cipher_suite(connection),
    }


def _client_chain(connection: ssl.SSLObject) -> list[bytes]:
    """Return the certificates of the client, its own first; the others need Python 3.13."""
    own = connection.getpeercert(binary_form=True)
    if own is None:
        return []
    get_chain = getattr(connection, "get_unverified_chain", None)
    return [own] if get_chain is None else list(get_chain())


def _subject(der: bytes) -> str | None:
    try:
        return read_certificate(der).subject
    except TlsError:
        # OpenSSL has verified the certificate, but our own parser cannot read it.
        return None


def _cipher_suite(connection: ssl.SSLObject) -> int | None:
    cipher = connection.cipher()
    if cipher is None:
        return None
    name = cipher[0]
    if name not in _cipher_suites:
        # The lower 16 bits of OpenSSL's identifier are the number of the suite.
        _cipher_suites.update(
            (entry["name"], entry["id"] & 0xFFFF) for entry in connection.context.get_ciphers()
        )
    return _cipher_suites.get(name)
