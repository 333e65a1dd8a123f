"""Make the TLS contexts of one worker, at its boot and again when the supervisor has new certificates.

A context that connections use is never changed: a new context replaces it, and open connections keep the old one.
The supervisor reads and checks the files (`net/tls.py` explains why).
"""

import ssl
from collections.abc import Callable, Sequence

from asgireload.app import load_attribute
from asgireload.config import Config
from asgireload.errors import TlsError
from asgireload.net.addresses import ListenerTraits
from asgireload.net.tls import Material, Pair, ServerContext, make_context, settings_of

ContextFactory = Callable[[Config, Callable[[], ssl.SSLContext]], ssl.SSLContext]


def make_contexts(
    traits: Sequence[ListenerTraits], material: Material, config: Config, app_dir: str
) -> list[ssl.SSLContext | None]:
    """Return a TLS context for each listener, or None for a listener without TLS.

    The context factory, if configured, is imported from `app_dir` and called; its exceptions propagate. Raise
    TlsError when the material or the factory's result cannot be used.
    """
    settings = settings_of(config)
    own = {
        identity.files: make_context([identity], material, settings) for identity in material.own
    }
    server: ssl.SSLContext | None = None
    contexts: list[ssl.SSLContext | None] = []
    for entry in traits:
        if not entry.tls:
            contexts.append(None)
        elif entry.certfile is not None:
            contexts.append(own[Pair(entry.certfile, entry.keyfile)])
        else:
            if server is None:
                server = _server_context(material, config, app_dir)
            contexts.append(server)
    return contexts


def _server_context(material: Material, config: Config, app_dir: str) -> ssl.SSLContext:
    def make_default() -> ServerContext:
        if not material.main:
            raise TlsError("the default context of ssl_context_factory needs ssl_certfile: give it")
        return make_context(material.main, material, settings_of(config))

    if config.ssl_context_factory is None:
        return make_default()
    factory: ContextFactory = load_attribute(config.ssl_context_factory, app_dir)
    context = factory(config, make_default)
    if not isinstance(context, ssl.SSLContext):
        raise TlsError(
            f"ssl_context_factory {config.ssl_context_factory} returned"
            f" {type(context).__qualname__}; it must return an ssl.SSLContext"
        )
    return context
