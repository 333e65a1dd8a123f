"""What somebody may add to a worker: a port without a value behind it in production.

`run_worker` gets None there. With `--reload` it is `development/worker/hooks.py`.
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
    """Called in the order of a worker's life, from its event loop unless a method says otherwise."""

    def begin(self, order: "WorkerOrder", channel: Channel) -> None:
        """The worker was forked; no event loop runs. The channel is the worker's to close."""

    def replace_app(
        self, error: BaseException, kind: Literal["import", "lifespan"], failure: Failure
    ) -> ASGIApp:
        """Return what is served instead of the application, which could not be started. `failure` tells of
        the same error in words. May be called before the event loop runs."""

    def wrap_app(self, app: ASGIApp) -> ASGIApp:
        """Return the application as it is served. Not called for one that replaces it."""

    def begin_serving(self, wire: "Http1Wire", acceptor: "Acceptor") -> None:
        """The worker is ready. Have the acceptor start, now or later."""

    def hear(self, message: Hold | Release | AssetsChanged) -> None:
        """The supervisor says something that only hooks understand. It may come before `begin_serving`."""

    def beat(self) -> None:
        """The loop turns: called at each heartbeat but the first."""

    def end_serving(self, reason: DrainReason) -> None:
        """The worker drains. The acceptor has stopped."""
