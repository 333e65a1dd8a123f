"""What a forked worker is to do, as the template tells it."""

import msgspec

from asgireload.asgi import ASGIApp
from asgireload.config import Config
from asgireload.ipc.app_signals import AppSignals
from asgireload.log import Place, UserConfig
from asgireload.net.addresses import ListenerTraits
from asgireload.worker.settings import ConnectionSettings


class WorkerOrder(msgspec.Struct, frozen=True):
    """What a forked worker is to do. It owns the descriptors."""

    config: Config
    name: str
    generation: int
    slot: int
    app: ASGIApp | None
    """None: the template holds no code, the worker imports the application."""
    settings: ConnectionSettings | None
    """What the template has made already; None: the worker does."""
    is_stand_in: bool
    """It is not the application, but says why that cannot be had."""
    log_config: UserConfig | None
    """What --log-config says, as the template has read it. It is in force where `app` is not None."""
    app_dir: str
    """Where the application is imported from, resolved."""
    channel: int
    fault_file: int
    scoreboard: int
    record: int
    listeners: tuple[tuple[int, ListenerTraits], ...]
    """Listening sockets, and how connections of each are received."""
    certificates: int | None
    """What TLS is spoken with (`net.tls.seal`); None where it is not."""
    succeeds: bool
    """Another worker serves in the slot, and hands its place over later."""
    gives_way: bool
    """That one has the processor first until we serve."""
    supervisor: int
    """Its process number, which is our parent's."""
    signals: AppSignals = AppSignals()
    """What the application has set about signals at import, where the template has imported it."""
    import_in_loop: bool = True
    """Where `app` is None: import it in the running event loop, and not before it runs."""
    has_other_way: bool = False
    """If the import fails because of that, a worker that imports the other way follows."""


def place_of(order: WorkerOrder) -> Place:
    """Return how the worker's lines name it."""
    tag = f"w{order.slot}" if order.config.workers > 1 else None
    return Place("worker", order.slot, order.generation, tag)
