"""`python -m benchmarks.sizing`: its tables, and what it refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from benchmarks.sizing.__main__ import main

Run = Callable[[str], str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command, and returns what it printed."""

    def run(arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["sizing", *arguments.split()])
        main()
        return capsys.readouterr().out

    return run


def test_one_stack_is_simulated(run: Run) -> None:
    table = run("--service-seconds 0.25 --rate 6 --servers 4 --per-gateway 2 --images 400")
    assert "2 × 2" in table and "p95 s" in table
    assert (
        run("--service-seconds 0.25 --rate 6 --servers 4 --per-gateway 2 --images 400").split()[:60]
        == (table.split()[:60])
    )


def test_a_closed_loop_is_as_fast_as_the_servers(run: Run) -> None:
    row = next(line for line in run("--service-seconds 0.25 --clients 8 --servers 2").splitlines() if "1 × 2" in line)
    assert float(row.split("│")[2]) == pytest.approx(8, rel=0.02)


def test_a_plan_tells_the_gateways(run: Run) -> None:
    table = run("--service-seconds 0.25 --rate 30 --per-gateway 2 --plan --p95 0.8 --balancer least")
    assert "5 gateways with 2 servers each answer 30 images/s" in table
    assert "6 where one may be down" in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--rate 6", "--service-seconds"),
        ("--service-seconds 0.25", "either --rate or --clients"),
        ("--service-seconds 0.25 --rate 1 --clients 1", "either --rate or --clients"),
        ("--service-seconds 0.25 --rate 1 --servers 3 --per-gateway 2", "multiple of --per-gateway"),
        ("--service-seconds 0.25 --rate 1 --servers 2 --per-gateway 0", "at least 1"),
        ("--service-seconds 0.25 --plan", "--rate"),
        ("--service-seconds fast --rate 1", "'fast' gives no service times"),
        ("--service-seconds 0.25 --rate 0", "rate above 0"),
        ("--service-seconds 0.25 --rate 1 --shapes 1,0", "above 0"),
        ("--service-seconds 0.25 --rate 1 --shapes wide", "shapes"),
        ("--service-seconds 0.25 --rate 1 --shapes nan", "above 0"),
        ("--service-seconds 0.25 --rate nan", "rate above 0"),
        ("--service-seconds 0.25 --rate 1 --max-wait-ms inf", "at least 0"),
        ("--service-seconds 0.25 --rate 1 --images 0", "beyond those of the warm-up"),
        ("--service-seconds 0.25 --rate 1 --plan --refused nan", "between 0 and 1"),
        ("--service-seconds 0.25 --rate 1 --plan --p95 nan", "p95 above 0"),
        ("--check --requests 0", "at least 1 round"),
        ("--service-seconds 2 --rate 1 --plan --p95 1", "even where nothing waits"),
    ],
)
def test_what_contradicts_itself_is_refused_in_a_sentence(run: Run, arguments: str, message: str) -> None:
    with pytest.raises(SystemExit, match=message) as refused:
        run(arguments)
    assert str(refused.value).endswith(".")
