"""The interface through which development mode extends a worker.

`run_worker` gets None in production. With `--reload` it gets the class in `development/worker/hooks.py`.
"""

from typing import TYPE_CHECKING, Literal, Protocol

from asgireload.asgi import ASGIApp
from asgireload.draining import DrainReason
from asgireload.failures import Failure
from asgireload.ipc.channel import Channel
from asgireload.ipc.messages import AssetsChanged, Hold, Release

if TYPE_CHECKING:
    from asgireload.http1.wire import Http1Wire
    from asgireload.worker.acceptor import Acceptor
    from asgireload.worker.order import WorkerOrder


class WorkerHooks(Protocol):
    """Hooks of a worker, called in this order, on its event loop unless a method states otherwise."""

    def begin(self, order: "WorkerOrder", channel: Channel) -> None:
        """Called after the fork, before the event loop runs. The worker closes `channel`."""

    def replace_app(
        self, error: BaseException, kind: Literal["import", "lifespan"], failure: Failure
    ) -> ASGIApp:
        """Return the application to serve in place of the one that could not be started.

        `failure` describes `error` in words. May be called before the event loop runs.
        """

    def wrap_app(self, app: ASGIApp) -> ASGIApp:
        """Return the application as it is served. Not called for the result of `replace_app`."""

    def begin_serving(self, wire: "Http1Wire", acceptor: "Acceptor") -> None:
        """Called when the worker is ready. Must start `acceptor`, now or later."""

    def hear(self, message: Hold | Release | AssetsChanged) -> None:
        """Called with a message of the supervisor that only hooks handle; perhaps before `begin_serving`."""

    def beat(self) -> None:
        """Called at each heartbeat but the first."""

    def end_serving(self, reason: DrainReason) -> None:
        """Called when the worker drains and the acceptor has stopped."""
