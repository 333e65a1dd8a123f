"""The certificates of this server: read at the start, read again when they change, shown to operators.

Files are checked every CHECK_INTERVAL by their configured names, so a file that was replaced by a rename, or a link
that was moved as Kubernetes does with secrets, is noticed. A change is loaded once two checks in a row see the same
state, because certificate and key are seldom written at the same moment. Files that cannot be used are refused with
a reason, and the previous ones stay in use.
"""

import logging
import os
import time
from collections.abc import Callable

import msgspec

from asgireload.admin.port import CertificateSnapshot
from asgireload.config import Config
from asgireload.errors import TlsError
from asgireload.net import tls
from asgireload.net.addresses import addresses_of

CHECK_INTERVAL = 2.0
"""Seconds between two checks: a renewal is in use after at most two of them."""

_logger = logging.getLogger("asgireload.error")

FileState = tuple[int, int, int, int] | None
"""Device, inode, size, and modification time in nanoseconds; None for a missing file."""
FileStates = tuple[FileState, ...]


def look_at(paths: tuple[str, ...], directory: str) -> FileStates:
    """Return the state of each file. Relative names start at `directory`."""
    return tuple(_look_at_one(os.path.join(directory, path)) for path in paths)


def _look_at_one(path: str) -> FileState:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class ChangeWatch(msgspec.Struct):
    """Decides when changed files are to be read. Pure: it compares states, without a clock or files."""

    tried: FileStates = ()
    """The state of the files when they were last read, with or without success."""
    changed: FileStates | None = None
    """The state at the last check, if it differs from `tried`."""

    def is_due(self, seen: FileStates) -> bool:
        """Return whether to read the files: `seen` differs from `tried` and equals the state at the last check."""
        if seen == self.tried:
            self.changed = None
            return False
        is_settled = seen == self.changed
        self.changed = seen
        return is_settled


class _Shown(msgspec.Struct):
    """What is shown of the material in use."""

    certificates: tuple[CertificateSnapshot, ...] = ()
    identities: dict[tls.Pair, tls.Identity] = msgspec.field(default_factory=dict)


class Certificates:
    """The certificates and keys for the workers of this server. `close()` it at the end."""

    def __init__(
        self, config: Config, directory: str, wall_clock: Callable[[], float] = time.time
    ) -> None:
        """Read nothing yet. Relative names start at `directory`; `wall_clock` returns seconds since the epoch."""
        self._config = config
        self._directory = directory
        self._wall_clock = wall_clock
        self._files = tls.files_of(config)
        self._watch = ChangeWatch()
        self._material = tls.Material()
        self._shown = _Shown()
        self.descriptor: int | None = None
        """The material for workers (`tls.seal`); None when no address uses TLS, or before `load`."""
        self.is_spoken = any(address.traits.tls for address in addresses_of(config))
        self.error: str | None = None
        """Why the files on disk cannot be used while older material is in use; None if they can."""

    def load(self) -> bool:
        """Read the files; return whether the material is new. Raise TlsError and change nothing."""
        if not self.is_spoken:
            return False
        # The state is taken before the files are read, so a change meanwhile is noticed later.
        self._watch.tried = look_at(self._files.paths(), self._directory)
        self._watch.changed = None
        try:
            material = self._read()
            is_new = self.descriptor is None or material != self._material
            descriptor = tls.seal(material) if is_new else None
        except TlsError as error:
            self.error = str(error)
            raise
        except OSError as error:
            # Out of descriptors or memory.
            self.error = f"certificates could not be kept in memory: {error}"
            raise TlsError(self.error) from error
        self.error = None
        if descriptor is None:
            return False
        self.close()
        self.descriptor = descriptor
        self._material = material
        self._describe(material)
        return True

    def has_settled_change(self) -> bool:
        """Check the files; return whether it is time to `load` them."""
        return self.is_spoken and self._watch.is_due(look_at(self._files.paths(), self._directory))

    def snapshots(self) -> tuple[CertificateSnapshot, ...]:
        return self._shown.certificates

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def _read(self) -> tls.Material:
        material = tls.read_material(
            self._files, self._directory, self._config.ssl_keyfile_password
        )
        if self._config.ssl_context_factory is None:
            tls.check_material(material, tls.settings_of(self._config))
        else:
            # The factory, in the workers, decides what can be used; here certificates are only read.
            tls.certificates_in(material)
        return material

    def _describe(self, material: tls.Material) -> None:
        now = self._wall_clock()
        before = {known.certfile: known for known in self._shown.certificates}
        shown = _Shown(
            identities={identity.files: identity for identity in (*material.main, *material.own)}
        )
        found: list[CertificateSnapshot] = []
        for files, certificate in tls.certificates_in(material):
            is_known = self._shown.identities.get(files) == shown.identities[files]
            if not is_known and (doubt := tls.find_doubts(certificate, now)) is not None:
                _logger.warning("Certificate %s: %s", files.certfile, doubt)
            found.append(
                CertificateSnapshot(
                    certfile=files.certfile,
                    subject=certificate.subject,
                    names=certificate.names,
                    not_before=certificate.not_before,
                    not_after=certificate.not_after,
                    loaded_at=before[files.certfile].loaded_at if is_known else now,
                )
            )
        shown.certificates = tuple(found)
        self._shown = shown
