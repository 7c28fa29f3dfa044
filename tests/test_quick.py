"""Which tests `make quick` runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from resnest_core import load_detector
from tests.quick import reaches


def starts_a_process() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def calls_what_starts_a_process() -> None:
    def later() -> None:
        starts_a_process()

    later()


def runs_a_network() -> None:
    load_detector("demo")


class Helper:
    def use(self) -> None:
        runs_a_network()


def uses_a_class() -> None:
    Helper().use()


def computes() -> int:
    return abs(-1)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (starts_a_process, True),
        (calls_what_starts_a_process, True),
        (runs_a_network, True),
        (uses_a_class, True),
        (computes, False),
    ],
)
def test_what_a_test_uses_is_read_from_its_code(function: Callable[[], object], expected: bool) -> None:
    assert reaches(function) is expected


def test_a_test_that_computes_is_quick(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("quick")


@pytest.fixture
def process() -> None:
    starts_a_process()


@pytest.mark.usefixtures("process")
def test_one_whose_fixture_starts_a_process_is_not(request: pytest.FixtureRequest) -> None:
    assert not request.node.get_closest_marker("quick")


@pytest.mark.parametrize("function", [runs_a_network])
def test_one_whose_parameter_runs_a_network_is_not(
    request: pytest.FixtureRequest, function: Callable[[], object]
) -> None:
    assert function is runs_a_network
    assert not request.node.get_closest_marker("quick")
