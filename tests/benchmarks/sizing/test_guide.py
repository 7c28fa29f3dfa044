"""docs/sizing.md names metrics that exist, and its costs follow from docs/performance.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resnest_server.metrics import Metrics
from tests.docs.test_guides import ROOT

GUIDE = (ROOT / "docs/sizing.md").read_text(encoding="utf-8")
ROW = re.compile(r"\| `(\w+_rcnn_s\d+)` \|(.+)\|")


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def rows(page: Path, least: int) -> dict[str, list[list[float]]]:
    """Return the numbers of each cell of the rows, with at least so many cells, that begin with a model's name."""
    found = ROW.findall(page.read_text(encoding="utf-8"))
    return {name: [numbers(cell) for cell in cells.split("|")] for name, cells in found if cells.count("|") >= least}


COSTS = rows(ROOT / "docs/sizing.md", 2)
MEASURED = rows(ROOT / "docs/performance.md", 7)


def test_every_detector_has_its_costs() -> None:
    assert set(COSTS) == set(MEASURED)
    assert len(COSTS) == 8


@pytest.mark.parametrize("model", COSTS)
def test_costs_are_those_of_the_measured_times(model: str) -> None:
    seconds, rates, hours = COSTS[model]
    assert seconds == [cell[0] for cell in MEASURED[model][3:6]]
    assert rates == pytest.approx([1 / each for each in seconds], abs=0.0051)
    assert hours == [round(each * 1e6 / 3600) for each in seconds]


def test_metrics_that_are_named_exist() -> None:
    known = set(re.findall(r"# TYPE (\w+)", Metrics({}).render().decode()))
    named = set(re.findall(r"(?:resnest|process)_[a-z_]+", GUIDE))
    assert len(named) >= 7
    assert named <= known
