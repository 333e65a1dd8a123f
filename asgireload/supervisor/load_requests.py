"""The load requests of templates. Pure."""

from typing import TYPE_CHECKING

from asgireload.config import Config
from asgireload.ipc.messages import LoadApp

if TYPE_CHECKING:
    from asgireload.supervisor.events import StartTemplate

FIRST_GENERATION = 1


def first_request(config: Config, directory: str) -> LoadApp:
    """Return the load request of a server's first template, which is known before the decisions are imported.

    Not for --reload, where the request depends on the fork sources. The supervisor uses the template that was
    started with this request only if its own decision leads to the same request.
    """
    return LoadApp(
        generation=FIRST_GENERATION,
        config=config,
        preload=config.preload is not False,
        directory=directory,
        name=config.app,
    )


def request_of(step: "StartTemplate", config: Config, directory: str) -> LoadApp:
    """Return the load request for the template of `step`. `directory` is the start directory."""
    return LoadApp(
        generation=step.generation,
        config=config,
        preload=step.preload,
        directory=directory,
        name=config.app,
        becomes_worker=step.becomes_worker,
        failure=step.failure,
    )
