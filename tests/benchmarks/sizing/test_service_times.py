"""Service times: samples by batch size, and what is written on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.sizing.service_times import ServiceTimes
from resnest_core.errors import ParameterError


def test_samples_are_drawn_by_batch_size() -> None:
    service = ServiceTimes({1: [0.3, 0.1], 4: [0.8]})
    assert [service.seconds(1, draw) for draw in (0, 0.49, 0.5, 0.99)] == [0.1, 0.1, 0.3, 0.3]
    assert service.seconds(4, 0.5) == 0.8
    assert service.mean() == pytest.approx(0.2)


def test_a_size_that_was_not_measured_costs_as_much_per_image_as_the_nearest() -> None:
    service = ServiceTimes({1: [0.2], 4: [0.4]})
    assert service.seconds(2, 0) == pytest.approx(0.4)
    assert service.seconds(3, 0) == pytest.approx(0.3)
    assert service.seconds(8, 0) == pytest.approx(0.8)
    assert service.seconds_per_image(1) == pytest.approx(0.2)
    assert service.seconds_per_image(4) == pytest.approx(0.1)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "service.json"
    ServiceTimes({1: [0.25, 0.5], 2: [0.75]}).save(path)
    service = ServiceTimes.parse(str(path))
    assert (service.mean(1), service.mean(2)) == (0.375, 0.75)


def test_numbers_are_read() -> None:
    assert ServiceTimes.parse("0.25").mean() == 0.25
    assert ServiceTimes.parse("0.2,0.4").mean() == pytest.approx(0.3)


@pytest.mark.parametrize("text", ["", "fast", "0", "-1", "nan", "inf", "0.2,", "missing.json"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ParameterError):
        ServiceTimes.parse(text)


@pytest.mark.parametrize("content", ["[]", "{}", '{"1": []}', '{"1": 2}', '{"0": [1]}', '{"1": ["x"]}', "{"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "service.json"
    path.write_text(content)
    with pytest.raises(ParameterError):
        ServiceTimes.parse(str(path))
