"""The log message about a reload that is over. Pure."""

import logging

import msgspec

from asgireload.errors import join_clauses
from asgireload.supervisor.reloads import Outcome, Reload, describe_steps


class Verdict(msgspec.Struct, frozen=True):
    level: int
    text: str


def describe_verdict(
    reload: Reload, ready_count: int, *, draining_count: int = 0, names_changes: bool = False
) -> Verdict | None:
    """Return the log message, with details in further lines; None for a start without anything to report.

    `draining_count`: workers that the reload has replaced and that have not exited.
    `names_changes`: the message names the files that were read instead of the steps of each slot, for a developer
    whose saved file caused the reload.
    """
    seconds = (reload.ended_at or 0.0) - (reload.started_at or reload.requested_at)
    name = f"Reload {reload.reload_id}" if reload.reload_id else "Start"
    took = f"{seconds * 1000:.0f} ms" if names_changes else f"{seconds:.2f} s"
    if reload.outcome is Outcome.COMMITTED:
        return _committed(
            reload, name, took, ready_count, draining_count, names_changes=names_changes
        )
    if reload.outcome is Outcome.ABANDONED:
        return Verdict(logging.WARNING, f"{name} abandoned: the server stops")
    failure = reload.failure
    reason = f"{failure.stage}: {failure.summary}" if failure is not None else "unknown"
    details = f"\n{failure.traceback.rstrip()}" if failure is not None and failure.traceback else ""
    text = join_clauses(
        f"{name} {reload.outcome.value} after {took} (generation {reload.target}): {reason}",
        _what_serves(reload),
    )
    if not names_changes:
        text += _steps(reload)
    is_harmless = reload.outcome is Outcome.SUPERSEDED
    return Verdict(logging.INFO if is_harmless else logging.ERROR, text + details)


def _committed(
    reload: Reload,
    name: str,
    took: str,
    ready_count: int,
    draining_count: int,
    *,
    names_changes: bool,
) -> Verdict | None:
    if names_changes and reload.detail:
        return Verdict(logging.INFO, f"{name} committed in {took}: {reload.detail}")
    if reload.is_first_load:
        return None
    steps = "" if names_changes else _steps(reload)
    text = (
        f"{name} committed in {took}: generation {reload.target} serves with {ready_count} workers"
    )
    if draining_count:
        drains = "one still drains" if draining_count == 1 else "ones still drain"
        text += f"; {draining_count} old {drains}"
    return Verdict(logging.INFO, text + steps)


def _what_serves(reload: Reload) -> str:
    if reload.serving is None:
        return "nothing serves"
    if reload.serving == reload.target:
        return "every request is answered with an error page"
    if reload.uniform:
        return f"generation {reload.serving} goes on serving"
    return "slots serve different generations until the next reload"


def _steps(reload: Reload) -> str:
    return "".join(f"\n{line}" for line in describe_steps(reload))
