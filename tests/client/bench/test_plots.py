"""Plot files are written and aren't empty."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from resnest_client.bench.plots import plot
from resnest_client.bench.runs import Measured
from resnest_core.errors import MissingExtraError
from resnest_core.images import load_image
from tests.client.bench.examples import SUBJECT, example_run


def test_both_are_written_as_png_and_svg(tmp_path: Path) -> None:
    other = SUBJECT.model_copy(update={"model": "other"})
    draws = np.random.default_rng(0).gamma(4, 5, 200).tolist()
    runs = [
        *(example_run(concurrency=many, images_per_second=float(many), p99=20.0 * many) for many in (1, 4, 16)),
        example_run(rate=3.0),
        example_run(subject=other),
    ]
    files = plot([Measured(run, draws) for run in runs], tmp_path / "new" / "plots")
    assert {file.name for file in files} == {
        f"{name}.{suffix}" for name in ("latency-cdf", "throughput-latency") for suffix in ("png", "svg")
    }
    for file in files:
        if file.suffix == ".png":
            pixels = load_image(file)
            assert min(pixels.shape[:2]) > 500
            assert 0.8 < (pixels == 255).mean() < 0.99
        else:
            text = " ".join(ElementTree.parse(file).getroot().itertext())
            assert len(text) > 100
            assert "ms" in file.read_text()


def test_one_answer_is_enough_and_none_makes_no_plot(tmp_path: Path) -> None:
    assert len(plot([Measured(example_run(), [5.0])], tmp_path)) == 4
    assert plot([Measured(example_run(latency_ms=None), [])], tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"resnest-serving\[bench\]"):
        plot([Measured(example_run(), [5.0])], tmp_path)
