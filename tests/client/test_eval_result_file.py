"""`resnest eval --results FILE.json`: detections that are there already, in COCO's results format."""

# ruff: noqa: F811 - fixtures are imported by their names

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resnest_core.errors import ParameterError
from resnest_core.runtimes import FakeRuntime
from tests.client.test_detect import detect, repository  # noqa: F401 - a fixture
from tests.client.test_eval import (  # noqa: F401 - fixtures
    COUNT,
    data,
    evaluate,
    figures,
    folder,
    instances,
    kept,
    local,
    read,
)


def test_kept_results_have_the_figures_of_their_run(
    data: list[object], figures: Path, kept: Path, instances: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local(monkeypatch, FakeRuntime())
    assert evaluate(*data, "--output", figures, "--results", kept).exit_code == 0
    before = read(figures)
    monkeypatch.setattr("resnest_client.detector_options._local", lambda *_: pytest.fail("a detector was opened"))
    results = kept.with_suffix(".json")
    result = evaluate("--annotations", instances, "--results", results, "--output", figures, "--per-class")
    assert (result.exit_code, result.stderr) == (0, "")
    content = read(figures)
    assert (content["bbox"], content["segm"]) == (before["bbox"], before["segm"])
    assert (content["model"], content["results"], content["partial"]) == (None, str(results), False)
    assert content["images"]["evaluated"] == COUNT and content["per_class"]["car"]["objects"] == COUNT
    assert result.stdout.startswith(f"results {results}\n12 of the 12 images")


@pytest.mark.usefixtures("repository")
def test_results_of_detect(folder: Path, instances: Path, figures: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    assert detect(folder, "--format", "coco", "--model", "first", "--output", results).exit_code == 0
    assert evaluate("--annotations", instances, "--results", results, "--output", figures).exit_code == 0
    assert read(figures)["bbox"]["AP"] == pytest.approx(2 / 3)


def test_results_of_nothing_are_zero(instances: Path, figures: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text("[]")
    assert evaluate("--annotations", instances, "--results", results, "--output", figures).exit_code == 0
    content = read(figures)
    assert (content["bbox"]["AP"], content["segm"]["AP"]) == (0, 0)


def row(**changed: Any) -> dict[str, Any]:
    counts = {"size": [100, 150], "counts": [0, 5000, 10_000]}
    whole = {"image_id": 0, "category_id": 1, "bbox": [0, 0, 50, 100], "score": 0.9, "segmentation": counts}
    return {key: value for key, value in (whole | changed).items() if value is not None}


def test_boxes_only_and_masks_only(instances: Path, figures: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    for rows, kinds in (
        ([row(segmentation=None)], ["bbox"]),
        ([row(), row(segmentation=None)], ["bbox"]),
        ([row(bbox=None)], ["bbox", "segm"]),
        ([row(image_id="0")], ["bbox", "segm"]),
    ):
        results.write_text(json.dumps(rows))
        assert evaluate("--annotations", instances, "--results", results, "--output", figures).exit_code == 0
        assert [kind for kind in ("bbox", "segm") if kind in read(figures)] == kinds


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{}", "is no list of COCO's results: the whole: input should be a valid list."),
        ("[", "is not JSON, or not all of it"),
        ([{}], "is no list of COCO's results: 0.image_id"),
        ([row(score="high")], "0.score: input should be a valid number"),
        ([row(bbox=[0, 0, 1])], "0.bbox: list should have at least 4 items"),
        ([row(image_id=99)], "has results of images that the annotations don't list, with the ids 99"),
        ([row(category_id=9)], "has results of categories that the annotations don't list, with the ids 9"),
        ([row(bbox=None, segmentation=None)], "Result 0 of .* has neither a box nor a mask"),
        ([row(segmentation={"size": [9, 9], "counts": [81]})], "Result 0 of .* has neither a box nor a mask"),
    ],
)
def test_files_that_are_no_results(
    content: str | list[dict[str, Any]], sentence: str, instances: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results.json"
    results.write_text(content if isinstance(content, str) else json.dumps(content))
    result = evaluate("--annotations", instances, "--results", results)
    with pytest.raises(ParameterError, match=sentence):
        raise result.exception or AssertionError


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model", "demo"], "is evaluated in place of a detector: leave out its options"),
        (["--url", "http://x"], "is evaluated in place of a detector: leave out its options"),
        (["--limit", "3"], "leave out its options and --limit"),
        (["--output", "RESULTS"], "holds the detections themselves: name another --output"),
    ],
)
def test_options_that_would_do_nothing(options: list[str], sentence: str, instances: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text("[]")
    options = [str(results) if option == "RESULTS" else option for option in options]
    result = evaluate("--annotations", instances, "--results", results, *options)
    with pytest.raises(ParameterError, match=sentence):
        raise result.exception or AssertionError


def test_without_results_the_folder_of_images_is_needed(instances: Path) -> None:
    result = evaluate("--annotations", instances)
    with pytest.raises(ParameterError, match="--images names the folder of the images"):
        raise result.exception or AssertionError
