"""Percentiles of latencies, and their confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95

Interval = tuple[float | None, float | None]
"""Lower and upper bound; None: too few values for a bound."""


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile of one or more values, with linear interpolation."""
    return float(np.percentile(values, percent))


def confidence_interval(values: Sequence[float], percent: float) -> Interval:
    """Return a distribution-free confidence interval of a percentile, with a coverage of at least 95 %.

    Its bounds are two of the values, whose ranks follow from the binomial distribution; the values must be independent
    (Hahn and Meeker, Statistical Intervals, §5.2). A high percentile of few values has no upper bound, because the true
    percentile may exceed all of them.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count = len(ordered)
    below = np.cumsum(_binomial(count, percent / 100))  # [k]: P(at most k values are below the percentile)
    tail = (1 - CONFIDENCE) / 2
    # Ranks count from 1: the value of rank r exceeds the percentile if fewer than r values are below the percentile.
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    # For very few values, `percentile` may be below the lower bound; lowering the bound keeps the coverage.
    low = min(low, int((count - 1) * percent / 100) + 1)
    return (float(ordered[low - 1]) if low else None, float(ordered[high - 1]) if high <= count else None)


def _binomial(count: int, probability: float) -> NDArray[np.float64]:
    """Return the probabilities of 0…count successes, each with a probability between 0 and 1."""
    logarithms = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])  # of factorials
    successes = np.arange(count + 1)
    choices = logarithms[count] - logarithms - logarithms[::-1]
    logs = choices + successes * np.log(probability) + (count - successes) * np.log1p(-probability)
    return np.asarray(np.exp(logs), np.float64)
