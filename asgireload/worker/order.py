"""The order with which the template starts a forked worker."""

import msgspec

from asgireload.asgi import ASGIApp
from asgireload.config import Config
from asgireload.ipc.app_signals import AppSignals
from asgireload.log import Place, UserConfig
from asgireload.net.addresses import ListenerTraits
from asgireload.worker.settings import ConnectionSettings


class WorkerOrder(msgspec.Struct, frozen=True):
    """Everything that a forked worker is started with. The worker owns the descriptors in it."""

    config: Config
    name: str
    generation: int
    slot: int
    app: ASGIApp | None
    """The imported application; None if the template holds no code, so that the worker imports it."""
    settings: ConnectionSettings | None
    """Made by the template; None if the worker has to make them."""
    is_stand_in: bool
    """`app` stands in for the application, and answers with the reason why that cannot be imported."""
    log_config: UserConfig | None
    """The file of --log-config, read by the template. It is in force already if `app` is not None."""
    app_dir: str
    """The directory that the application is imported from, resolved."""
    channel: int
    fault_file: int
    scoreboard: int
    record: int
    listeners: tuple[tuple[int, ListenerTraits], ...]
    """Descriptors of listening sockets, and how the connections of each are received."""
    certificates: int | None
    """A descriptor of the sealed TLS material (`net.tls.seal`); None without TLS."""
    succeeds: bool
    """Another worker still serves in the slot, and hands over to this one later."""
    gives_way: bool
    """This worker has a lower CPU priority until it serves, so that serving workers run first."""
    supervisor: int
    """The pid of the supervisor, which must be the worker's parent."""
    signals: AppSignals = AppSignals()
    """The signal settings that the application made at import in the template."""
    import_in_loop: bool = True
    """If `app` is None: import the application in the running event loop, not before it runs."""
    has_other_way: bool = False
    """If the import fails because of `import_in_loop`, a worker that imports the other way follows."""


def place_of(order: WorkerOrder) -> Place:
    """Return how log lines name the worker of `order`."""
    tag = f"w{order.slot}" if order.config.workers > 1 else None
    return Place("worker", order.slot, order.generation, tag)
