"""Annotations as other tools write them: ids, names, masks and numbers."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resnest_core.errors import ParameterError
from resnest_core.evaluation import Annotations, compare, read_annotations
from resnest_core.runtimes.fake import FAKE_CARD

SQUARE = [[10, 10, 60, 10, 60, 60, 10, 60]]
Rows = list[dict[str, Any]]
Written = Callable[..., Annotations]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Write annotations of a car in each of two images, changed, and read them."""

    def write(
        ids: tuple[Any, Any] = (1, 2), names: tuple[str, str] = ("a.png", "b.png"), **changed: Any
    ) -> Annotations:
        content = {
            "images": [{"id": id_, "file_name": name, "height": 100, "width": 100} for id_, name in zip(ids, names)],  # noqa: B905
            "categories": [{"id": 3, "name": "car"}],
            "annotations": [annotation(id_) for id_ in ids],
        } | changed
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(content))
        return read_annotations(path, FAKE_CARD)

    return write


def annotation(image_id: Any, **changed: Any) -> dict[str, Any]:
    row = {"image_id": image_id, "category_id": 3, "bbox": [10, 10, 50, 50], "area": 2500, "segmentation": SQUARE}
    return {key: value for key, value in (row | changed).items() if value != "absent"}


def found(truth: Annotations) -> Rows:
    """Return each image's car, found where it is."""
    coco = truth.indices["segm" if truth.has_masks else "bbox"]
    mask = next((one["segmentation"] for one in coco.dataset["annotations"]), None)
    return [
        {"image_id": image.id, "category_id": 3, "bbox": [10, 10, 50, 50], "score": 0.9, "segmentation": mask}
        for image in truth.images
    ]


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        ((1, 2), [1, 2]),
        ((0, 10**15), [0, 10**15]),
        ((491525.0, 2.0), [491525, 2]),
        (("a.png", "b.png"), ["a.png", "b.png"]),
        (("000000000042", "7"), ["000000000042", "7"]),
        ((5, "left"), [5, "left"]),
    ],
)
def test_ids_are_kept_as_they_are(ids: tuple[Any, Any], kept: list[object], written: Written) -> None:
    truth = written(ids)
    assert [image.id for image in truth.images] == kept
    for iou_type in ("bbox", "segm"):
        assert compare(truth, found(truth), iou_type, [*truth.numbers]).figures["AP"] == pytest.approx(1)
        assert compare(truth, found(truth)[:1], iou_type, kept[:1]).figures["AP"] == pytest.approx(1)  # type: ignore[arg-type]
        assert compare(truth, found(truth)[:1], iou_type, kept).figures["AR100"] == pytest.approx(0.5)  # type: ignore[arg-type]
    assert truth.objects([kept[0]]) == {3: 1}  # type: ignore[list-item]


def test_an_id_that_is_text_in_one_place_and_a_number_in_another(written: Written) -> None:
    truth = written((1, "2"), annotations=[annotation("1"), annotation(2)])
    assert [image.id for image in truth.images] == [1, "2"]
    assert truth.objects([1, "2"]) == {3: 2}
    with pytest.raises(ParameterError, match="has 2 images with the id 1"):
        written((1, "1"))


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("images\\a.png", "images\\sub\\b.png"), ("images/a.png", "images/sub/b.png")),
        (("a\\b.png", "b.png"), ("a\\b.png", "b.png")),
        ((unicodedata.normalize("NFC", "é.png"), "b.png"), (unicodedata.normalize("NFD", "é.png"), "b.png")),
        ((unicodedata.normalize("NFD", "x\\é.png"), "b.png"), (unicodedata.normalize("NFC", "x/é.png"), "b.png")),
    ],
    ids=["backslashes", "a backslash of the name's own", "composed", "decomposed, backslash"],
)
def test_names_of_other_systems_match(
    names: tuple[str, str], files: tuple[str, str], written: Written, tmp_path: Path
) -> None:
    for file in files:
        (tmp_path / "in" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / file).touch()
    present, missing = written(names=names).find(tmp_path / "in")
    assert ([file for _, file in present], missing) == ([tmp_path / "in" / file for file in files], [])


@pytest.mark.parametrize(
    "name", ["..\\a.png", "x\\..\\..\\a.png", "C:\\a.png", "\\\\server\\a.png", "\\a.png", "../a.png", "/a.png"]
)
def test_names_outside_the_folder_are_refused(name: str, written: Written) -> None:
    with pytest.raises(ParameterError, match="outside any folder"):
        written(names=(name, "b.png"))


@pytest.mark.parametrize(
    "segmentation", ["absent", None, [], [[]], {}, [[10, 10, 60, 60]], [[10, 10], [60, 60]]], ids=str
)
def test_objects_without_a_segmentation_count_for_boxes_only(segmentation: object, written: Written) -> None:
    truth = written(annotations=[annotation(1), annotation(2, segmentation=segmentation)])
    assert (truth.has_masks, truth.iou_types, truth.without_mask) == (True, ("bbox", "segm"), 1)
    rows = found(truth)
    assert compare(truth, rows, "bbox", [1, 2]).figures["AR100"] == pytest.approx(1)
    assert compare(truth, rows[:1], "bbox", [1, 2]).figures["AR100"] == pytest.approx(0.5)
    assert compare(truth, rows[:1], "segm", [1, 2]).figures["AR100"] == pytest.approx(1)
    assert truth.objects([1, 2]) == {3: 2}


def test_parts_of_fewer_than_three_points_are_no_parts(written: Written) -> None:
    """pycocotools takes a first part of four numbers for a box, and all others with it."""
    plain = written()
    for segmentation in ([[1, 1, 99, 99], *SQUARE], [*SQUARE, [1, 1, 99, 99]], [[], *SQUARE]):
        truth = written(annotations=[annotation(1, segmentation=segmentation), annotation(2)])
        assert truth.indices["segm"].dataset["annotations"] == plain.indices["segm"].dataset["annotations"]


def test_area_and_crowd_that_are_left_out(written: Written) -> None:
    """The area is that of the mask, else of the box, as COCO's own is; its size decides which figures count it."""
    counts = {"size": [100, 100], "counts": [0, 900, 9100]}
    truth = written(
        annotations=[
            annotation(1, area="absent", iscrowd=None, segmentation=counts),
            annotation(2, area=None, iscrowd=False, segmentation="absent"),
        ]
    )
    rows = truth.indices["bbox"].dataset["annotations"]
    assert [(row["area"], row["iscrowd"]) for row in rows] == [(900, 0), (2500, 0)]
    assert compare(truth, found(truth), "bbox", [1]).figures["APm"] is None
    assert compare(truth, found(truth), "bbox", [1]).figures["APs"] == pytest.approx(1)


def test_nothing_found_is_an_empty_list_of_results(written: Written) -> None:
    truth = written()
    for iou_type in ("bbox", "segm"):
        assert compare(truth, json.loads("[]"), iou_type, [1, 2]).figures["AP"] == 0
