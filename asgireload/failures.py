"""The reason why code cannot serve, or why a child ended, for messages, verdicts, status and error pages."""

import msgspec


class Failure(msgspec.Struct, frozen=True):
    """Why code cannot serve, or why a child ended.

    The fields are part of the JSON that the admin server and `asgireload status --json` return.
    """

    stage: str
    """The stage that failed: version, directory, logging, import, tls, boot, lifespan, health, probation, roll or
    trial."""
    summary: str
    """The reason in one line."""
    traceback: str = ""
    slot: int | None = None
    """The slot of the worker that failed; None when no worker did."""
