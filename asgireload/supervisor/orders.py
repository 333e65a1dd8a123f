"""What templates are told to load. Pure."""

from typing import TYPE_CHECKING

from asgireload.config import Config
from asgireload.ipc.messages import LoadApp, Mistake

if TYPE_CHECKING:
    from asgireload.development.supervisor.fork_source_processes import Plan
    from asgireload.supervisor.events import StartTemplate

FIRST_GENERATION = 1


def first_order(config: Config, directory: str) -> LoadApp:
    """Return the order of a server's first template, which is known before there are decisions to ask.

    Not with --reload: there it depends on what templates are forked from. The supervisor goes on with what
    has begun only if it comes to the same order.
    """
    return LoadApp(
        generation=FIRST_GENERATION,
        config=config,
        preload=config.preload is not False,
        directory=directory,
        name=config.app,
    )


def order_of(step: "StartTemplate", plan: "Plan", config: Config, directory: str) -> LoadApp:
    """Return the order for a template that was decided upon; `directory` is where the user has started us."""
    failure = step.failure
    return LoadApp(
        generation=step.generation,
        config=config,
        preload=step.preload,
        directory=directory,
        name=config.app,
        becomes_worker=step.becomes_worker,
        mistake=Mistake(failure.stage, failure.summary, failure.traceback) if failure else None,
        bookmark=plan.bookmark,
        base_variables=plan.layer.variables if plan.layer is not None else None,
        ignored_variables=plan.ignored_variables,
    )
