"""The plot of a run over time, as SVG text: one strip for each server. Pure."""

import math
from collections.abc import Sequence
from html import escape

from benchmarks.common.plots import COLOURS, FONT, OTHERS, OURS, WIDTH

from .judge import BIN
from .servers import OURS as OUR_NAME
from .trial import Trial

LEFT, RIGHT, TOP, STRIP, SPACE = 100, 20, 64, 72, 18
FAST_MS, SLOW_MS = 1.0, 10_000.0
"""The scale of lateness: logarithmic between these."""
BROKEN, CLOSED, RELOAD = COLOURS[0], COLOURS[3], "#e8eef4"


def height_of(late_ms: float, most: float) -> float:
    """Return how high a mark of this lateness is, `most` at the slowest."""
    bounded = min(max(late_ms, FAST_MS), SLOW_MS)
    return most * math.log(bounded / FAST_MS) / math.log(SLOW_MS / FAST_MS)


def strip(trial: Trial, top: float, seconds: float) -> list[str]:
    """Return the strip of one server whose upper edge is at `top`."""
    scale = (WIDTH - LEFT - RIGHT) / seconds
    bottom = top + STRIP
    colour = OURS if trial.server == OUR_NAME else OTHERS
    parts = [
        f'<text x="{LEFT - 8}" y="{bottom - 4}" text-anchor="end">{escape(trial.server)}</text>',
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}" stroke="#888"/>',
    ]
    for reload in trial.reloads:
        x = LEFT + (reload.asked - trial.began) * scale
        end = reload.complete if reload.complete is not None else trial.began + trial.seconds
        width = (end - reload.asked) * scale
        parts.append(
            f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{STRIP}" fill="{RELOAD}"/>'
        )
    wide = max(1.0, BIN * scale)
    for mark in trial.line:
        x = LEFT + mark.at * scale
        high = height_of(mark.late_ms, STRIP - 10)
        if high > 0:
            parts.append(
                f'<rect x="{x:.1f}" y="{bottom - high:.1f}" width="{wide:.1f}" '
                f'height="{high:.1f}" fill="{colour}"/>'
            )
        # Two rows above the strip: what broke, and what was only closed.
        for count, y, ink in ((mark.broken, top - 7, BROKEN), (mark.closed, top - 2, CLOSED)):
            if count:
                parts.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{wide + 0.5:.1f}" height="4" fill="{ink}"/>'
                )
    return parts


def time_lines(title: str, trials: Sequence[Trial]) -> str:
    """Return the strips of all servers over one scale of time."""
    seconds = max((trial.seconds for trial in trials), default=0.0) or 1.0
    bottom = TOP + len(trials) * (STRIP + SPACE)
    legend = (
        f"Bars: the latest answer in {BIN:g} s, 1 ms to 10 s, logarithmic. Shaded: a reload. "
        f'<tspan fill="{BROKEN}">Red: lost, cut, refused.</tspan> '
        f'<tspan fill="{CLOSED}">Ochre: closed.</tspan>'
    )
    parts = [
        f'<text x="12" y="24" font-size="15" font-weight="600">{escape(title)}</text>',
        f'<text x="12" y="44">{legend}</text>',
    ]
    for index, trial in enumerate(trials):
        parts += strip(trial, TOP + index * (STRIP + SPACE), seconds)
    step = 10 if seconds <= 60 else 30
    for mark in range(0, int(seconds) + 1, step):
        x = LEFT + mark * (WIDTH - LEFT - RIGHT) / seconds
        parts.append(f'<text x="{x:.1f}" y="{bottom + 6}" text-anchor="middle">{mark} s</text>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 20}" role="img" '
        f'aria-label="{escape(title)}" {FONT}>'
    )
    background = f'<rect width="{WIDTH}" height="{bottom + 20}" fill="#fff"/>'
    return "\n".join([head, background, *parts, "</svg>"]) + "\n"
