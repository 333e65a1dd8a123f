"""Plots as SVG text, written by hand: bars for one figure of many servers, lines for how a cost grows. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from .figures import Figure

WIDTH = 720
LEFT, RIGHT, TOP, BOTTOM = 150, 90, 46, 24
ROW = 26
LINE_HEIGHT = 380
COLOURS = ("#c0392b", "#1f618d", "#117a65", "#9a7d0a", "#6c3483", "#566573", "#a04000", "#2e4053")
OURS, OTHERS = COLOURS[0], "#7f8c8d"
FONT = 'font-family="system-ui, sans-serif" font-size="12" fill="#222"'


def number(value: float) -> str:
    """Return a figure with three digits that matter, without a power of ten."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 4)}f}"


def _document(height: float, title: str, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-label="{escape(title)}" {FONT}>'
    )
    background = f'<rect width="{WIDTH}" height="{height:g}" fill="#fff"/>'
    heading = f'<text x="12" y="24" font-size="15" font-weight="600">{escape(title)}</text>'
    return "\n".join([head, background, heading, *parts, "</svg>"]) + "\n"


def bars(title: str, unit: str, rows: Mapping[str, Figure], ours: str) -> str:
    """Return horizontal bars, shortest first, with the spread over the rounds as a line."""
    ordered = sorted(rows.items(), key=lambda row: row[1].median)
    longest = max((figure.high for _, figure in ordered), default=0.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / longest
    parts = []
    for index, (name, figure) in enumerate(ordered):
        y = TOP + index * ROW
        colour = OURS if name.startswith(ours) else OTHERS
        low, high = LEFT + figure.low * scale, LEFT + figure.high * scale
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y + 3}" width="{figure.median * scale:.1f}" height="16" fill="{colour}"/>',
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 11}" y2="{y + 11}" stroke="#222"/>',
            f'<text x="{high + 6:.1f}" y="{y + 15}">{number(figure.median)} {escape(unit)}</text>',
        ]
    return _document(TOP + len(ordered) * ROW + BOTTOM, title, parts)


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: where values lie on it, and which are marked."""

    low: float
    high: float
    start: float
    """Where `low` is drawn; `end` is where `high` is."""
    end: float
    is_logarithmic: bool

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> "Axis":
        """Return an axis that holds all the values: powers of ten where they are positive and reach
        over a decade, else linear from 0."""
        low, high = min(values), max(values)
        if low > 0 and high >= 10 * low:
            return cls(10.0 ** _floor(low), 10.0 ** _ceiling(high), start, end, True)
        step = 10.0 ** _floor(high) if high > 0 else 1.0
        return cls(0.0, math.ceil(high / step) * step or 1.0, start, end, False)

    def place(self, value: float) -> float:
        """Return where a value is drawn."""
        low, high = self.low, self.high
        if self.is_logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def marks(self) -> list[float]:
        """Return the values that are marked."""
        if self.is_logarithmic:
            return [10.0**power for power in range(_floor(self.low), _ceiling(self.high) + 1)]
        return [self.high * part / 4 for part in range(5)]


def _floor(value: float) -> int:
    return math.floor(math.log10(value) + 1e-9)  # a power of ten may come out a hair below itself


def _ceiling(value: float) -> int:
    return math.ceil(math.log10(value) - 1e-9)


def lines(
    title: str, across: str, unit: str, series: Mapping[str, Sequence[tuple[float, float]]]
) -> str:
    """Return one curve for each series, over common axes."""
    points = [point for curve in series.values() for point in curve]
    if not points:
        return _document(TOP + BOTTOM, title, [])
    left, right, top, bottom = 70, WIDTH - 150, TOP + 10, LINE_HEIGHT - 50
    horizontal = Axis.around([x for x, _ in points], left, right)
    vertical = Axis.around([y for _, y in points], bottom, top)
    parts = [
        f'<text x="{(left + right) / 2}" y="{LINE_HEIGHT - 10}" text-anchor="middle">{escape(across)}</text>',
        f'<text x="12" y="{TOP - 4}">{escape(unit)}</text>',
    ]
    for value in vertical.marks():
        y = vertical.place(value)
        parts += [
            f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>',
        ]
    for value in horizontal.marks():
        x = horizontal.place(value)
        parts += [
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" stroke="#ddd"/>',
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{number(value)}</text>',
        ]
    for index, (name, curve) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        placed = [(horizontal.place(x), vertical.place(y)) for x, y in sorted(curve)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        # Names in a legend: at the ends of the curves they would lie on each other.
        y = top + 8 + index * 20
        parts += [
            f'<rect x="{right + 16}" y="{y - 9}" width="12" height="12" fill="{colour}"/>',
            f'<text x="{right + 34}" y="{y + 2}">{escape(name)}</text>',
        ]
    return _document(LINE_HEIGHT, title, parts)
