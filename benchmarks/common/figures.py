"""What is made of many samples: medians, spreads, ratios, percentiles. Pure."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity over all rounds, in the unit of its metric."""

    median: float
    low: float
    high: float
    count: int

    @property
    def spread(self) -> float:
        """Half the distance between the extremes, as a share of the median; 0 when the median is 0."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def figure(values: Iterable[float]) -> Figure | None:
    """Return median and extremes of `values`; None when there are none."""
    found = sorted(values)
    if not found:
        return None
    return Figure(statistics.median(found), found[0], found[-1], len(found))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0 to 1) of the sorted values do not exceed.

    The nearest rank: a value that was really measured. Raise ValueError for no values or a share
    outside 0 to 1.
    """
    if not ordered:
        raise ValueError("no values")
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies between 0 and 1, not {share}")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def ratio(one: Figure | None, other: Figure | None) -> float | None:
    """Return median over median; None when one is missing or the other is 0."""
    if one is None or other is None or other.median == 0:
        return None
    return one.median / other.median
