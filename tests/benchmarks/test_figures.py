"""Medians, spreads, percentiles and ratios; and what is read from the kernel."""

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.common import measure
from benchmarks.common.figures import Figure, figure, percentile, ratio


def test_a_figure_is_the_median_with_its_extremes():
    assert figure([3.0, 1.0, 2.0]) == Figure(2.0, 1.0, 3.0, 3)
    assert figure([]) is None


def test_the_spread_is_half_the_distance_of_the_extremes_over_the_median():
    assert Figure(10.0, 9.0, 12.0, 3).spread == pytest.approx(0.15)
    assert Figure(0.0, 0.0, 0.0, 3).spread == 0


def test_a_percentile_is_a_measured_value():
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1)) == (
        50,
        99,
        100,
    )
    assert percentile([7.0], 0.99) == percentile([7.0], 0) == 7


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_a_percentile_of_nothing_or_beyond_all_is_refused(values, share):
    with pytest.raises(ValueError, match=r"no values|between 0 and 1"):
        percentile(values, share)


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0, 1))
def test_at_least_the_share_lies_at_or_below_a_percentile(values, share):
    values.sort()
    found = percentile(values, share)
    assert sum(value <= found for value in values) >= share * len(values) * (1 - 1e-12)


def test_a_ratio_needs_both_sides():
    assert ratio(Figure(1, 1, 1, 1), Figure(4, 4, 4, 1)) == 0.25
    assert ratio(None, Figure(4, 4, 4, 1)) is None
    assert ratio(Figure(1, 1, 1, 1), Figure(0, 0, 0, 1)) is None


def test_a_stat_line_is_read_whatever_the_command_is_called():
    line = "42 (a ) (b) S 7 1 1 0 -1 4194560 1 2 3 4 250 50 30 20 20 0 1 0 99 1 2"
    stat = measure.parse_stat(line)
    assert stat.parent == 7
    assert stat.own_seconds == pytest.approx(300 * measure.TICK)
    assert stat.reaped_seconds == pytest.approx(50 * measure.TICK)


def test_pss_is_read_in_bytes_and_its_absence_is_told():
    assert measure.parse_pss("Rss: 900 kB\nPss:      12 kB\nPss_Anon: 3 kB\n") == 12 * 1024
    with pytest.raises(ValueError, match="no Pss line"):
        measure.parse_pss("Rss: 900 kB\n")


def test_descendants_are_found_at_any_depth_and_no_others():
    assert sorted(measure.descendants({2: 1, 3: 2, 4: 3, 5: 1, 9: 8}, 2)) == [2, 3, 4]


def test_the_clock_of_a_process_is_the_one_that_the_kernel_keeps_for_it():
    before = time.process_time()
    told = time.clock_gettime(measure.process_clock(os.getpid()))
    assert before <= told <= time.process_time()
