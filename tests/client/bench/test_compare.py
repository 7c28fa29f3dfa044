"""Comparison of two result files, against values calculated by hand."""

from __future__ import annotations

import pytest

from resnest_client.bench.compare import Ratio, cells, compare
from resnest_core.errors import ParameterError
from tests.client.bench.examples import SUBJECT, example_run


def test_rounds_are_paired_by_their_number() -> None:
    # Each round of the second is twice as fast, whatever the machine did between: 2 in each pair, not 40 ÷ 30.
    first = [
        example_run(number=number, images_per_second=speed, p50=1000 / speed, cpu_seconds_per_image=0.5)
        for number, speed in ((1, 10), (2, 30), (3, 50))
    ]
    second = [
        example_run(number=number, images_per_second=speed, p50=1000 / speed, cpu_seconds_per_image=cpu)
        for number, speed, cpu in ((3, 100, 0.2), (1, 20, 0.3), (2, 60, 0.25))
    ]
    (comparison,) = compare(first, second)
    assert comparison.pairs == 3
    assert comparison.ratios["images/s"] == Ratio(2, 2, 2)
    assert comparison.ratios["p50"] == pytest.approx((0.5, 0.5, 0.5))
    assert comparison.ratios["p99"] == Ratio(1, 1, 1)
    assert comparison.ratios["CPU per image"] == pytest.approx((0.5, 0.4, 0.6))
    assert cells(comparison) == [
        "1 in flight",
        "3",
        "2.000 (2.000–2.000)",
        "0.500 (0.500–0.500)",
        "1.000 (1.000–1.000)",
        "0.500 (0.400–0.600)",
    ]


def test_loads_are_matched_and_what_one_file_lacks_is_left_out() -> None:
    first = [example_run(concurrency=1), example_run(concurrency=4, p99=40), example_run(rate=5.0, concurrency=None)]
    second = [example_run(concurrency=4, p99=10), example_run(rate=5.0, concurrency=2), example_run(rate=6.0)]
    found = {comparison.load: comparison.ratios["p99"] for comparison in compare(first, second)}
    assert found == {"4 in flight": Ratio(0.25, 0.25, 0.25), "5 images/s sent": Ratio(1, 1, 1)}


def test_detectors_are_matched_where_a_file_has_several() -> None:
    other = SUBJECT.model_copy(update={"model": "other"})
    openvino = SUBJECT.model_copy(update={"runtime": "openvino"})
    both = [example_run(), example_run(subject=other, p50=30)]
    assert [row.load for row in compare(both, both)] == ["demo, 1 in flight", "other, 1 in flight"]
    # One runtime in each file: that is what is compared.
    (row,) = compare([example_run()], [example_run(subject=openvino, p50=5)])
    assert row.ratios["p50"] == Ratio(0.5, 0.5, 0.5)


def test_what_was_not_measured_has_no_ratio() -> None:
    (row,) = compare([example_run(cpu_seconds_per_image=None)], [example_run(latency_ms=None)])
    assert row.ratios["CPU per image"] is row.ratios["p50"] is None
    assert cells(row)[-1] == "–"


@pytest.mark.parametrize(
    "other",
    [{"concurrency": 2}, {"rate": 5.0}, {"number": 2}, {"complete": False, "stopped": "gone"}, {"masks": False}],
)
def test_nothing_to_compare(other: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="No complete run"):
        compare([example_run()], [example_run(**other)])  # type: ignore[arg-type]
