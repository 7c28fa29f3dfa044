"""`resnest eval` on annotations as other tools write them."""

# ruff: noqa: F811 - fixtures are imported by their names

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from resnest_core.runtimes import FakeRuntime
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

Change = Callable[[Callable[[dict[str, Any]], None]], None]


@pytest.fixture
def change(instances: Path) -> Change:
    """Change the annotations' file."""

    def rewrite(edit: Callable[[dict[str, Any]], None]) -> None:
        content = json.loads(instances.read_text())
        edit(content)
        instances.write_text(json.dumps(content))

    return rewrite


def figures_of(output: Path, *arguments: object) -> dict[str, Any]:
    result = evaluate(*arguments, "--output", output)
    assert result.exit_code == 0, result.output
    content = read(output)
    return {key: content.get(key) for key in ("bbox", "segm")}


def as_names(content: dict[str, Any]) -> None:
    for image in content["images"]:
        image["id"] = f"image {image['id']}"
    for one in content["annotations"]:
        one["image_id"] = f"image {one['image_id']}"


def on_windows(content: dict[str, Any]) -> None:
    for image in content["images"]:
        image["file_name"] = f"images\\{image['file_name']}"


@pytest.mark.parametrize("edit", [as_names, on_windows])
@pytest.mark.usefixtures("folder")
def test_ids_and_names_change_no_figure(
    edit: Callable[[dict[str, Any]], None],
    data: list[object],
    figures: Path,
    kept: Path,
    folder: Path,
    instances: Path,
    change: Change,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local(monkeypatch, FakeRuntime())
    before = figures_of(figures, *data)
    change(edit)
    options = ["--annotations", instances, "--images", folder.parent if edit is on_windows else folder]
    runtime = FakeRuntime()
    local(monkeypatch, runtime)
    for _ in range(2):  # the second run reads what the first kept
        assert figures_of(figures, *options, "--results", kept) == before
    assert len(runtime.calls) == COUNT
    found = COCO(str(instances)).loadRes(str(kept.with_suffix(".json")))
    assert len(found.dataset["annotations"]) == 3 * COUNT


def test_objects_without_segmentation_are_told_once(
    data: list[object],
    figures: Path,
    change: Change,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local(monkeypatch, FakeRuntime())
    before = figures_of(figures, *data)

    def edit(content: dict[str, Any]) -> None:
        for one in content["annotations"][:4]:
            one["segmentation"] = []

    change(edit)
    result = evaluate(*data, "--output", figures)
    assert result.exit_code == 0
    assert result.stderr == (
        "Annotated objects without a segmentation, which count for boxes and are left out for masks: 4.\n"
    )
    content = read(figures)
    assert content["objects_without_mask"] == 4
    assert content["bbox"] == before["bbox"] and content["segm"] != before["segm"]


def test_results_of_nothing(
    data: list[object],
    figures: Path,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local(monkeypatch, FakeRuntime(count=0))
    for _ in range(2):
        found = figures_of(figures, *data, "--results", kept)
        assert (found["bbox"]["AP"], found["segm"]["AP"]) == (0, 0)
        assert kept.with_suffix(".json").read_text() == "[]"
