"""Why code cannot serve, or why a child ended: one value for messages, verdicts, status and error pages."""

import msgspec


class Failure(msgspec.Struct, frozen=True):
    """Its fields are part of the JSON that the admin server and `asgireload status --json` return."""

    stage: str
    """What was being done: version, directory, logging, import, tls, boot, lifespan, health, probation, roll or
    trial."""
    summary: str
    """One line for a person."""
    traceback: str = ""
    slot: int | None = None
    """The slot of the worker that failed; None when no worker did."""
