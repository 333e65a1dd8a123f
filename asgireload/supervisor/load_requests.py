"""What templates are told to load. Pure."""

from typing import TYPE_CHECKING

from asgireload.config import Config
from asgireload.ipc.messages import LoadApp

if TYPE_CHECKING:
    from asgireload.supervisor.events import StartTemplate

FIRST_GENERATION = 1


def first_request(config: Config, directory: str) -> LoadApp:
    """Return the load request of a server's first template, which is known before there are decisions to ask.

    Not with --reload: there it depends on what templates are forked from. The supervisor goes on with what
    has begun only if it comes to the same request.
    """
    return LoadApp(
        generation=FIRST_GENERATION,
        config=config,
        preload=config.preload is not False,
        directory=directory,
        name=config.app,
    )


def request_of(step: "StartTemplate", config: Config, directory: str) -> LoadApp:
    """Return the load request for a template that was decided upon. `directory` is the start directory."""
    return LoadApp(
        generation=step.generation,
        config=config,
        preload=step.preload,
        directory=directory,
        name=config.app,
        becomes_worker=step.becomes_worker,
        failure=step.failure,
    )
