"""The status page at `/`: one StatusSnapshot as HTML without scripts. Pure.

All values of the snapshot are escaped here, and the page is served with a content security policy that allows only
its own style sheet.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape

from asgireload.admin.port import ReloadSnapshot, SlotSteps, StatusSnapshot, WorkerSnapshot

REFRESH_SECONDS = 2
"""Seconds after which the page reloads itself while the server starts, stops, reloads or has draining workers."""

_WORKER_COLUMNS = (
    ("Slot", False),
    ("Generation", False),
    ("State", False),
    ("PID", True),
    ("Age", True),
    ("Connections", True),
    ("WebSockets", True),
    ("In flight", True),
    ("Requests", True),
    ("Memory", True),
    ("Heartbeat", True),
)
"""Heading, and whether the column holds numbers."""

_TONES = {
    "serving": "good",
    "ready": "good",
    "committed": "good",
    "restored": "good",
    "degraded": "bad",
    "failing": "bad",
    "stalled": "bad",
    "failed": "bad",
    "reverted": "bad",
    "abandoned": "bad",
    "crashed": "bad",
    "killed": "bad",
    "dying": "bad",
    "starting": "busy",
    "booting": "busy",
    "reloading": "busy",
    "running": "busy",
    "pending": "busy",
    "draining": "busy",
    "loading": "busy",
}
"""Colour of a word; all other words are neutral. The word itself is always shown."""


def render_page(status: StatusSnapshot) -> str:
    """Return the status page as HTML."""
    is_moving = (
        status.state in {"starting", "reloading", "stopping"}
        or status.current_reload is not None
        or status.pending_reload is not None
        or status.workers_old > 0
    )
    refresh = f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">' if is_moving else ""
    title = f"{status.app or 'asgireload'}: {status.state}"
    sections = [
        _header(status),
        _facts(status),
        _workers(status.workers),
        _reload("Reload under way", status.current_reload),
        _reload("Waiting reload", status.pending_reload),
        _reload("Last reload", status.last_reload),
        _templates(status),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n{refresh}'
        f"<title>{_text(title)}</title>\n"
        '<link rel="stylesheet" href="/style.css">\n'
        # An empty icon keeps browsers from asking for /favicon.ico on every visit.
        '<link rel="icon" href="data:,">\n'
        f"</head>\n<body>\n<main>\n{''.join(sections)}</main>\n{_footer(status)}</body>\n</html>\n"
    )


def format_duration(seconds: float) -> str:
    """Return a duration with at most two units: `840 ms`, `12.3 s`, `4 m 10 s`, `3 h 5 m`, `2 d 4 h`."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def format_time(seconds: float) -> str:
    """Return a wall clock time, in seconds since the epoch, as text in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def format_bytes(size: int) -> str:
    """Return a size in MiB or GiB."""
    return f"{size / 1024**2:.1f} MiB" if size < 1024**3 else f"{size / 1024**3:.2f} GiB"


def _header(status: StatusSnapshot) -> str:
    app = f"<code>{_text(status.app)}</code>" if status.app else ""
    return (
        f'<header><p class="name">asgireload <span>{_text(status.version)}</span> {app}</p>'
        f"<h1>{_badge(status.state)} {_text(status.message)}</h1></header>\n"
    )


def _facts(status: StatusSnapshot) -> str:
    workers = f"{status.workers_ready} of {status.workers_wanted}"
    if status.workers_old:
        workers += f" + {status.workers_old} draining"
    generation = "none yet" if status.generation is None else str(status.generation)
    facts = (
        ("Generation", generation),
        ("Workers ready", workers),
        ("Up for", format_duration(status.uptime)),
        ("Reloads", _number(status.reloads_total)),
        ("Crash restarts", _number(status.restarts_total)),
        ("Supervisor PID", str(status.pid)),
        ("Listening on", ", ".join(status.listeners) or "nothing"),
    )
    items = "".join(f"<div><dt>{name}</dt><dd>{_text(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{items}</dl>\n'


def _workers(workers: tuple[WorkerSnapshot, ...]) -> str:
    if not workers:
        return '<section><h2>Workers</h2><p class="quiet">No worker yet.</p></section>\n'
    headings = [
        f'<th scope="col"{_figure(is_figure)}>{name}</th>' for name, is_figure in _WORKER_COLUMNS
    ]
    ordered = sorted(workers, key=lambda worker: (worker.slot, worker.generation))
    rows = "".join(_worker_row(worker) for worker in ordered)
    return (
        '<section><h2>Workers</h2><div class="wide"><table>'
        f"<thead><tr>{''.join(headings)}</tr></thead><tbody>{rows}</tbody></table></div></section>\n"
    )


def _worker_row(worker: WorkerSnapshot) -> str:
    cells = (
        str(worker.slot),
        str(worker.generation),
        _badge(worker.state),
        _optional(worker.pid),
        format_duration(worker.age),
        _number(worker.connections),
        _number(worker.websockets),
        _number(worker.exchanges),
        _number(worker.requests_total),
        "–" if worker.rss_bytes is None else format_bytes(worker.rss_bytes),
        "–" if worker.heartbeat_age is None else f"{format_duration(worker.heartbeat_age)} ago",
    )
    columns = zip(cells, _WORKER_COLUMNS, strict=True)
    return (
        "<tr>"
        + "".join(f"<td{_figure(is_figure)}>{cell}</td>" for cell, (_, is_figure) in columns)
        + "</tr>"
    )


def _reload(title: str, reload: ReloadSnapshot | None) -> str:
    if reload is None:
        return ""
    facts = [
        ("From → to", f"{_optional(reload.from_generation)} → {_optional(reload.to_generation)}")
    ]
    if reload.outcome in {"running", "pending"}:
        facts.append(("Phase", reload.phase))
    if reload.duration is not None:
        facts.append(
            ("Took" if reload.ended_at else "Running for", format_duration(reload.duration))
        )
    facts.append(("Requested at", format_time(reload.requested_at)))
    if reload.waits_for:
        facts.append(("Waits for", reload.waits_for))
    elif reload.waited:
        facts.append(("Waited for old workers", format_duration(reload.waited)))
    if reload.ended_at is not None:
        uniform = "in every slot" if reload.uniform else "not in every slot"
        serving = reload.serving_generation
        result = "nothing" if serving is None else f"generation {serving}, {uniform}"
        if reload.failure is not None and serving == reload.to_generation:
            result = "an error page"  # in development
        facts.append(("Served afterwards", result))
        facts.append(("Old workers", _retired(reload)))
    facts.append(("Requested by", ", ".join(reload.origins)))
    items = "".join(f"<div><dt>{name}</dt><dd>{_text(value)}</dd></div>" for name, value in facts)
    steps = "".join(_slot_steps(slot) for slot in reload.slots)
    timeline = f'<ol class="slots">{steps}</ol>' if steps else ""
    # Reload 0 is the start of the server.
    heading = f"{title} #{reload.id}" if reload.id else "Start"
    return (
        f"<section><h2>{heading} {_badge(reload.outcome)}</h2>"
        f'{_failure(reload)}<dl class="facts">{items}</dl>{timeline}</section>\n'
    )


def _retired(reload: ReloadSnapshot) -> str:
    counts = [f"{reload.workers_drained} drained"]
    for count, word in (
        (reload.workers_draining, "still draining"),
        (reload.workers_killed, "killed"),
        (reload.workers_crashed, "crashed"),
        (reload.exchanges_cut, "exchanges cut"),
        (reload.websockets_closed, "WebSockets closed"),
        (reload.handed_over, "connections handed over"),
        (reload.came_back, "connections not taken by the new worker"),
        (reload.shutdown_failures, "lifespan shutdowns failed"),
    ):
        if count:
            counts.append(f"{count} {word}")
    return ", ".join(counts)


def _failure(reload: ReloadSnapshot) -> str:
    failure = reload.failure
    if failure is None:
        return ""
    slot = "" if failure.slot is None else f", slot {failure.slot}"
    traceback = f"<pre>{_text(failure.traceback.rstrip())}</pre>" if failure.traceback else ""
    return (
        f'<div class="failure"><p><strong>{_text(failure.summary)}</strong> '
        f'<span class="quiet">during {_text(failure.stage)}{slot}</span></p>{traceback}</div>'
    )


def _slot_steps(slot: SlotSteps) -> str:
    steps = "".join(
        f'<li class="{_tone(step.name)}" title="generation {step.generation}">{_text(step.name)} '
        f"<small>g{step.generation} · {format_duration(step.seconds)}</small>"
        f"{f' <em>{_text(step.detail)}</em>' if step.detail else ''}</li>"
        for step in slot.steps
    )
    return f"<li><span>slot {slot.slot}</span><ol>{steps}</ol></li>"


def _templates(status: StatusSnapshot) -> str:
    """Return the generations that are not preloaded, with the reason; empty when all are."""
    items = [
        f"<li>Generation {template.generation} is imported by each worker by itself: "
        f"{_text('; '.join(template.unsafe_reasons) or 'preloading is off')}.</li>"
        for template in status.templates
        if not template.preload
    ]
    if not items:
        return ""
    return f'<section><h2>Preloading</h2><ul class="quiet">{"".join(items)}</ul></section>\n'


def _footer(status: StatusSnapshot) -> str:
    links = " ".join(
        f'<a href="{path}">{path}</a>'
        for path in ("/status", "/ready", "/live", "/metrics", "/reloads")
    )
    since = format_time(status.started_at)
    return f"<footer><nav>{links}</nav><p>Up since {since}</p></footer>\n"


def _badge(word: str) -> str:
    return f'<span class="badge {_tone(word)}">{_text(word)}</span>'


def _tone(word: str) -> str:
    return _TONES.get(word, "neutral")


def _figure(is_figure: bool) -> str:  # noqa: FBT001 - the table of columns reads it by position
    return ' class="figure"' if is_figure else ""


def _number(value: int) -> str:
    """Return a number with thin spaces between thousands, which are a decimal point in no language."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _optional(value: int | None) -> str:
    return "–" if value is None else str(value)


def _text(value: str | Iterable[str]) -> str:
    return escape(value if isinstance(value, str) else ", ".join(value), quote=True)
