"""Percentiles and their intervals, against numpy, tables and draws from known distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_client.bench.percentiles import confidence_interval, percentile
from resnest_client.bench.runs import latency_of

LATENCIES = st.lists(st.floats(0.01, 1e6), min_size=1, max_size=400)


@given(LATENCIES, st.sampled_from([50, 90, 95, 99]))
def test_percentiles_are_numpys(values: list[float], percent: int) -> None:
    assert percentile(values, percent) == np.percentile(np.array(values), percent)


@given(LATENCIES, st.sampled_from([50, 90, 95, 99]))
def test_an_interval_is_of_the_values_and_holds_the_percentile(values: list[float], percent: int) -> None:
    low, high = confidence_interval(values, percent)
    middle = percentile(values, percent)
    assert low is None or (low in values and low <= middle)
    assert high is None or (high in values and high >= middle)


@given(LATENCIES, st.randoms())
def test_the_order_of_requests_doesnt_matter(values: list[float], random: object) -> None:
    mixed = list(values)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert latency_of(mixed).ci95 == latency_of(values).ci95  # type: ignore[union-attr]


def test_the_median_of_a_hundred_lies_between_the_40th_and_the_61st() -> None:
    assert confidence_interval(list(range(1, 101)), 50) == (40, 61)  # as the textbooks' tables have it


def test_a_high_percentile_needs_many_requests() -> None:
    # 1 − 0.99ⁿ reaches 97.5 % at n = 368: with fewer, all may be below the true p99.
    assert confidence_interval(list(range(367)), 99)[1] is None
    assert confidence_interval(list(range(368)), 99)[1] == 367


@pytest.mark.parametrize("percent", [50, 90])
def test_intervals_hold_the_true_percentile_as_often_as_they_say(percent: int) -> None:
    draws = np.random.default_rng(0).exponential(size=(2000, 60))
    true = -np.log(1 - percent / 100)
    held = [
        (low is None or low <= true) and (high is None or true <= high)
        for low, high in (confidence_interval(draw.tolist(), percent) for draw in draws)
    ]
    assert np.mean(held) >= 0.95


def test_many_requests_are_no_trouble() -> None:
    low, high = confidence_interval(np.arange(200_000.0).tolist(), 99)
    assert low is not None and high is not None and 197_800 < low < 198_000 < high < 198_200


def test_no_request_has_no_latency() -> None:
    assert latency_of([]) is None
