"""`--check`: a real gateway with 1 and 2 servers on this machine, beside the simulation of it."""

from __future__ import annotations

import statistics
from contextlib import closing
from pathlib import Path

from rich.table import Table

from benchmarks.sizing.measurement import Comparison, Gateway, Load, compare
from benchmarks.sizing.service_times import ServiceTimes
from benchmarks.sizing.stack import Stack
from resnest_core.errors import ParameterError
from tests.server.test_serve import ROOT, serving

LOADS = (Load(share=0.5), Load(share=0.8), Load(clients=8), Load(share=2))
"""The last one asks for more than there is: some are refused."""
MAX_QUEUE = 8
IMAGES = ROOT / "tests/data/demo/images"


def check(rounds: int, images: int, save: Path | None = None) -> Table:
    """Return a table that compares the demo model, served with 1 and 2 instances of one thread, with the simulation.

    Args:
        rounds: measurements of each load; the table has medians.
        images: of each load.
        save: where the service times of one busy server go, as JSON.

    Raises:
        ParameterError: there is nothing to measure.
    """
    if min(rounds, images) < 1:
        raise ParameterError("A check has at least 1 round of 1 image.")
    bodies = [path.read_bytes() for path in sorted(IMAGES.glob("*.jpg"))]
    table = Table("servers", "load", "", "measured", "simulated", "simulated ÷ measured", "with the load's own times")
    for servers in (1, 2):
        variables = {
            "RESNEST_INSTANCES": str(servers),
            "RESNEST_THREADS": "1",
            "RESNEST_MAX_QUEUE": str(MAX_QUEUE),
            "RESNEST_MAX_IMAGES": "1",
            "RESNEST_LOG_LEVEL": "error",
        }
        stack = Stack(servers=servers, max_queue=MAX_QUEUE)
        with (
            serving("--model", "demo", log=None, **variables) as (url, _),
            closing(Gateway(url, bodies, stack)) as gateway,
        ):
            if servers == 1 and save:
                gateway.service(len(bodies))  # warms up
                ServiceTimes({1: [stages.network for stages in gateway.service(images)]}).save(save)
            for load, comparisons in compare(gateway, LOADS, rounds, images).items():
                for row in rows(comparisons):
                    table.add_row(str(servers), str(load), *row)
    return table


def rows(comparisons: list[Comparison]) -> list[tuple[str, ...]]:
    """Return a row for each figure: medians of the rounds, and of their ratios, with the extremes."""
    found = []
    for place, name in enumerate(("images/s", "mean s", "p95 s", "503")):
        predicted, own, measured = (
            [comparison[which][place] for comparison in comparisons] for which in range(len(Comparison._fields))
        )
        middle = [f"{statistics.median(values):.3g}" for values in (measured, predicted)]
        found.append((name, *middle, spread(predicted, measured), spread(own, measured)))
    return found


def spread(values: list[float], others: list[float]) -> str:
    """Return the median of the ratios, with the extremes; of shares, which may be 0, nothing."""
    if not all(others):
        return ""
    ratios = [value / other for value, other in zip(values, others, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
