"""From samples of each variant to a table: medians, extremes, and ratios within one round. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.suite.figures import Figure, figure


@dataclass(slots=True)
class Samples:
    """What was measured of every variant: a value for each round, None where a round gave none."""

    metrics: Mapping[str, int]
    """Name, with its unit, to the digits behind the point that are worth telling."""
    values: dict[tuple[str, str], list[float | None]] = field(default_factory=dict)

    def add(self, variant: str, found: Mapping[str, float | None]) -> None:
        """Take one round of a variant."""
        for metric, value in found.items():
            self.values.setdefault((variant, metric), []).append(value)

    def figure(self, variant: str, metric: str) -> Figure | None:
        return figure(
            value for value in self.values.get((variant, metric), ()) if value is not None
        )

    def ratio(self, variant: str, other: str, metric: str) -> Figure | None:
        """Return what the variant has, over what `other` had in the same round."""
        pairs = zip(
            self.values.get((variant, metric), ()),
            self.values.get((other, metric), ()),
            strict=False,
        )
        return figure(
            one / beside for one, beside in pairs if one is not None and beside not in (None, 0.0)
        )

    def table(self, variants: Sequence[str]) -> str:
        """Return Markdown; the first of the variants is what the others are compared with."""
        first = variants[0]
        lines = [
            "| | metric | median (least to most) | ratio (least to most) |",
            "|---|---|---|---|",
        ]
        for metric, digits in self.metrics.items():
            for variant in variants:
                found = self.figure(variant, metric)
                if found is None:
                    continue
                ratio = self.ratio(variant, first, metric) if variant != first else None
                told = _told(ratio, 3) if ratio is not None else "–"
                lines.append(f"| {variant} | {metric} | {_told(found, digits)} | {told} |")
        return "\n".join(lines)


def _told(found: Figure, digits: int) -> str:
    if found.count == 1:
        return f"{found.median:,.{digits}f}"
    return f"{found.median:,.{digits}f} ({found.low:,.{digits}f} to {found.high:,.{digits}f})"
