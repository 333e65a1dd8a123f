"""The listening sockets of one worker, and the TLS certificates that it uses on them."""

import logging
import os
import socket
from collections.abc import Callable

from asgireload.app import summarize
from asgireload.errors import StartupError
from asgireload.net.tls import Material, unseal
from asgireload.worker.acceptor import Entrance
from asgireload.worker.forked import ForkedCopies
from asgireload.worker.order import WorkerOrder
from asgireload.worker.tls import make_contexts

_logger = logging.getLogger("asgireload.error")


class WorkerListeners:
    """Owns the descriptors of `order.listeners` from `open` until `close`.

    Reads and closes `order.certificates` when it is made.
    """

    def __init__(self, order: WorkerOrder) -> None:
        self._order = order
        self.entrances: list[Entrance] = []
        """Empty before `open`, while the application is imported."""
        self._material = Material()
        if order.certificates is not None:
            self._material = _take_material(order.certificates)

    def open(self, forked: ForkedCopies, reach: Callable[[str], None]) -> None:
        """Make the socket objects, and the TLS contexts of listeners with TLS after `reach("tls")`.

        Raise TlsError, and any exception of the user's context factory.
        """
        entrances = [
            Entrance(_listener(descriptor), traits) for descriptor, traits in self._order.listeners
        ]
        forked.watch_listeners(entrance.socket for entrance in entrances)
        if any(entrance.traits.tls for entrance in entrances):
            reach("tls")
            self._set_contexts(entrances)
        self.entrances = entrances

    def close(self) -> None:
        """Close the sockets of this process. Idempotent."""
        for entrance in self.entrances:
            entrance.socket.close()

    def descriptors(self) -> list[int]:
        """Return the descriptors of listeners that have no socket object yet."""
        if self.entrances:
            return []
        return [descriptor for descriptor, _ in self._order.listeners]

    def use_certificates(self, descriptor: int) -> None:
        """Use the certificates in `descriptor` for new connections, and close `descriptor`.

        If the certificates cannot be used, log that and keep the old ones.
        """
        self._material = _take_material(descriptor)
        try:
            self._set_contexts(self.entrances)
        except BaseException as error:  # noqa: BLE001 - a context factory is user code and may raise anything
            reason = str(error) if isinstance(error, StartupError) else summarize(error)
            text = "The new certificates cannot be used, so the old ones stay in use: %s"
            _logger.error(text, reason)  # noqa: TRY400

    def _set_contexts(self, entrances: list[Entrance]) -> None:
        traits = [entrance.traits for entrance in entrances]
        contexts = make_contexts(traits, self._material, self._order.config, self._order.app_dir)
        for entrance, context in zip(entrances, contexts, strict=True):
            entrance.context = context


def _take_material(descriptor: int) -> Material:
    try:
        return unseal(descriptor)
    finally:
        os.close(descriptor)


def _listener(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    # The application may have called socket.setdefaulttimeout(), which applies to new socket objects.
    sock.setblocking(False)
    return sock
