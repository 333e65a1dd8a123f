"""Certificates for tests, from authorities that nobody trusts."""

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

LONG_AGO = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)


@dataclass
class Files:
    """A certificate and its key, written to a directory."""

    certfile: Path
    keyfile: Path


class Authority:
    """Issues certificates and knows what a client needs to trust them."""

    def __init__(self):
        self.ca = trustme.CA()

    def issue(self, directory, name, *hosts, password=None, together=False, **options):
        """Write `name.pem` and `name.key` for the hosts; `together` puts the key into the first."""
        issued = self.ca.issue_cert(*(hosts or ("localhost", "127.0.0.1")), **options)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        key = issued.private_key_pem.bytes()
        if password is not None:
            key = serialization.load_pem_private_key(key, None).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password.encode()),
            )
        files = Files(Path(directory) / f"{name}.pem", Path(directory) / f"{name}.key")
        files.certfile.write_bytes(chain + key if together else chain)
        files.keyfile.write_bytes(key)
        return files

    def write(self, directory, name="ca"):
        """Write the authority's own certificate; return the path."""
        path = Path(directory) / f"{name}.pem"
        path.write_bytes(self.ca.cert_pem.bytes())
        return path

    def client_context(self, files=None):
        """Return a context for a client that trusts this authority, and shows a certificate if given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ca.configure_trust(context)
        if files is not None:
            context.load_cert_chain(files.certfile, files.keyfile)
        return context


AUTHORITY = Authority()
"""One for all tests: making keys takes time."""
