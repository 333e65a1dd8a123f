"""The TLS contexts of one worker: made at its boot, and made anew when its supervisor has new certificates.

A context is never changed once connections use it: a fresh one takes its place, and those that are open
go on with theirs. Reading and checking files is the supervisor's work (`net/tls.py` says why).
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
    """Return a context for each listener, None where it speaks no TLS.

    A context factory is imported from `app_dir` and called; what it raises passes unchanged. Raise
    TlsError for what cannot be used.
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
