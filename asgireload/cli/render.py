"""Render answers of a running server, which are JSON of the snapshots in `admin/port.py`, as plain text. Pure."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from asgireload.admin.page import format_bytes, format_duration
from asgireload.admin.port import (
    CertificateSnapshot,
    ReloadSnapshot,
    ReloadTicket,
    StatusSnapshot,
    WorkerSnapshot,
)

_HEADINGS = (
    "slot",
    "gen",
    "state",
    "pid",
    "age",
    "heartbeat",
    "conns",
    "in flight",
    "requests",
    "memory",
)


def render_ticket(answer: Mapping[str, Any]) -> str:
    """Return the line about a requested reload: its id and state, and what it waits for."""
    ticket = msgspec.convert(answer, ReloadTicket)
    joined = ", which others asked for too" if ticket.coalesced else ""
    waits = f" It waits for {ticket.waits_for}." if ticket.waits_for else ""
    return (
        f"Reload {ticket.id} is {ticket.outcome}{joined}.{waits}"
        " `asgireload status` shows the outcome.\n"
    )


def render_status(answer: Mapping[str, Any], pid: int, path: str) -> str:
    """Return the output of `asgireload status`; `pid` and `path` are those by which the server was found."""
    status = msgspec.convert(answer, StatusSnapshot)
    ready = f"{status.workers_ready} of {status.workers_wanted} ready"
    if status.workers_old:
        ready += f", {status.workers_old} draining"
    lines = [
        f"{status.state}: {status.message}",
        "",
        f"  app         {status.app}" + (f" in {status.directory}" if status.directory else ""),
        f"  generation  {_or_dash(status.generation)}",
        f"  workers     {ready}",
        f"  listening   {', '.join(status.listeners) or '-'}",
        f"  socket      {path}",
        f"  process     {pid}, up for {format_duration(status.uptime)}",
        f"  asgireload  {status.version}",
        f"  reloads     {status.reloads_total}, workers restarted {status.restarts_total}",
    ]
    if status.workers:
        ordered = sorted(status.workers, key=lambda worker: (worker.slot, worker.generation))
        lines += ["", *_table([_HEADINGS, *map(_worker_row, ordered)])]
    lines += [
        f"  slot {worker.slot}, pid {worker.pid}, waits for {worker.waits_for}"
        for worker in status.workers
        if worker.waits_for
    ]
    if status.certificates:
        lines += ["", *_certificate_lines(status.certificates)]
    if status.certificates_error is not None:
        lines += ["", f"  the certificates on disk cannot be used: {status.certificates_error}"]
    text = "\n".join(lines) + "\n"
    for title, reload in (
        ("Reload under way", status.current_reload),
        ("Waiting reload", status.pending_reload),
        ("Last reload", status.last_reload),
    ):
        if reload is not None:
            text += f"\n{title}\n{_reload(reload)}"
    return text


def render_waiting(answer: Mapping[str, Any]) -> str:
    """Return what waits for workers to drain, and what is open in the workers; empty: nothing waits.

    `answer`: a status, or an empty mapping.
    """
    if not answer.get("waits_for"):
        return ""
    status = msgspec.convert(answer, StatusSnapshot)
    lines = [status.waits_for] + [
        f"  slot {worker.slot}, pid {worker.pid}: {worker.waits_for}"
        for worker in status.workers
        if worker.waits_for
    ]
    return "\n".join(lines) + "\n"


def render_certificates(answer: Mapping[str, Any]) -> str:
    """Return a table of the certificates in use."""
    certificates = msgspec.convert(answer["certificates"], tuple[CertificateSnapshot, ...])
    if not certificates:
        return "The context factory was called again.\n"
    return "\n".join(_certificate_lines(certificates)) + "\n"


def _certificate_lines(certificates: Sequence[CertificateSnapshot]) -> list[str]:
    rows = [
        (
            entry.certfile,
            ", ".join(entry.names) or entry.subject or "-",
            format_date(entry.not_after),
            format_date(entry.loaded_at),
        )
        for entry in certificates
    ]
    return _table([("certificate", "names", "valid until", "read at"), *rows])


def format_date(seconds: float) -> str:
    """Return a wall clock time, in seconds since the epoch, as text in UTC, as certificates use it."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds)) + " UTC"


def render_reload(answer: Mapping[str, Any]) -> str:
    """Return a reload with its verdict and steps, and the traceback of a failure."""
    return _reload(msgspec.convert(answer, ReloadSnapshot))


def _reload(reload: ReloadSnapshot) -> str:
    took = "" if reload.duration is None else f" after {format_duration(reload.duration)}"
    name = f"Reload {reload.id}" if reload.id else "Start"
    generations = ""
    if reload.to_generation is not None:
        generations = f" (generation {_or_dash(reload.from_generation)} to {reload.to_generation})"
    is_open = reload.ended_at is None
    progress = f", {reload.phase}" if is_open and reload.phase != reload.outcome else ""
    lines = [f"{name}: {reload.outcome}{progress}{took}{generations}"]
    if reload.waits_for:
        lines.append(f"  waits for {reload.waits_for}")
    elif reload.waited:
        lines.append(f"  waited {format_duration(reload.waited)} for old workers to drain")
    if not is_open:
        lines.append(f"  {_what_serves(reload)}")
    lines += _old_workers(reload)
    for count, what in (
        (reload.exchanges_cut, "exchanges cut at the deadline"),
        (reload.websockets_closed, "WebSockets closed"),
        (reload.handed_over, "connections handed over"),
        (reload.came_back, "connections not taken by the new worker"),
        (reload.shutdown_failures, "lifespan shutdowns failed"),
    ):
        if count:
            lines.append(f"  {what}: {count}")
    for slot in reload.slots:
        steps = ", ".join(
            f"{step.name} at {step.seconds:.2f} s" + (f" ({step.detail})" if step.detail else "")
            for step in slot.steps
        )
        lines.append(f"  slot {slot.slot}: {steps}")
    if reload.failure is not None:
        where = "" if reload.failure.slot is None else f" in slot {reload.failure.slot}"
        lines.append(f"  failed at {reload.failure.stage}{where}: {reload.failure.summary}")
        lines += [f"    {line}" for line in reload.failure.traceback.splitlines()]
    return "\n".join(lines) + "\n"


def _what_serves(reload: ReloadSnapshot) -> str:
    if reload.failure is not None and reload.serving_generation == reload.to_generation:
        return "every request is answered with an error page"  # in development
    extent = "in every slot" if reload.uniform else "but not in every slot"
    return f"generation {_or_dash(reload.serving_generation)} serves {extent}"


def _old_workers(reload: ReloadSnapshot) -> list[str]:
    """Return a line that counts the workers that the reload has replaced, or nothing."""
    counts = (
        (reload.workers_drained, "drained"),
        (reload.workers_killed, "killed at the deadline"),
        (reload.workers_crashed, "crashed while draining"),
        (reload.workers_draining, "still draining"),
    )
    total = sum(count for count, _ in counts)
    parts = ", ".join(f"{count} {what}" for count, what in counts if count)
    return [f"  old workers: {total} ({parts})"] if total else []


def _worker_row(worker: WorkerSnapshot) -> tuple[str, ...]:
    return (
        str(worker.slot),
        str(worker.generation),
        worker.state,
        _or_dash(worker.pid),
        format_duration(worker.age),
        "-" if worker.heartbeat_age is None else f"{format_duration(worker.heartbeat_age)} ago",
        str(worker.connections),
        str(worker.exchanges),
        str(worker.requests_total),
        "-" if worker.rss_bytes is None else format_bytes(worker.rss_bytes),
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
