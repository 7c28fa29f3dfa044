"""COCO metrics: against the ground truth itself, values calculated by hand, and pycocotools."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resnest_core.card import ModelCard, read_card
from resnest_core.detections import Detections
from resnest_core.detector import Detector
from resnest_core.errors import ImageError, ParameterError
from resnest_core.evaluation import FIGURES, Annotations, ImageId, compare, evaluate, read_annotations, results
from resnest_core.images import Color, Image, load_image
from resnest_core.repository import network_path
from resnest_core.runtimes.fake import FAKE_CARD
from tests.core.examples import golden

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "tests" / "data" / "demo"
ANNOTATIONS, PHOTOGRAPHS = DEMO / "instances.json", DEMO / "images"
DEMO_CARD = read_card(network_path(ROOT / "model_repository", "demo"))

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def truth() -> Annotations:
    return read_annotations(ANNOTATIONS, DEMO_CARD)


@pytest.fixture(scope="module")
def official() -> COCO:
    return COCO(str(ANNOTATIONS))


def ids(truth: Annotations) -> list[ImageId]:
    return [image.id for image in truth.images]


class Oracle(Detector):
    """Knows what is annotated in the photographs, and answers that: boxes, and masks if the card has them."""

    def __init__(self, official: COCO, card: ModelCard) -> None:
        self.card = card
        self._official = official

    def _detect(self, image: Image, score_threshold: float | None, masks: bool, color: Color) -> Detections:  # noqa: ARG002
        assert score_threshold is None
        assert isinstance(image, Path)
        objects = self._official.loadAnns(self._official.getAnnIds(imgIds=[int(image.stem)], iscrowd=False))
        boxes = np.array([one["bbox"] for one in objects], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        maps = [small_map(self._official.annToMask(one), box) for one, box in zip(objects, boxes, strict=True)]
        height, width = load_image(image).shape[:2]
        return Detections(
            boxes_xyxy=boxes,
            scores=np.linspace(1, 0.5, len(objects)).astype(np.float32),
            labels=np.array([self.card.category_ids.index(one["category_id"]) for one in objects]),
            masks=np.stack(maps).astype(np.float16) if masks and self.card.has_masks else None,
            image_size_hw=(height, width),
        )


def small_map(mask: Any, box_xyxy: Any) -> Any:
    """Return how much of each of 28×28 cells of the box a mask covers."""
    x1, y1, x2, y2 = box_xyxy
    fine = (np.arange(28 * 8) + 0.5) / (28 * 8)
    x, y = np.meshgrid((x1 + fine * (x2 - x1) - 0.5).astype(np.float32), (y1 + fine * (y2 - y1) - 0.5))
    sampled = cv2.remap(mask.astype(np.float32), x, y.astype(np.float32), cv2.INTER_LINEAR)
    return sampled.reshape(28, 8, 28, 8).mean(axis=(1, 3))


def test_truth_fed_back_is_perfect(truth: Annotations, official: COCO) -> None:
    rows = [
        {
            "image_id": one["image_id"],
            "category_id": one["category_id"],
            "bbox": one["bbox"],
            "segmentation": official.annToRLE(one),
            "score": 0.9,
        }
        for one in official.loadAnns(official.getAnnIds(iscrowd=False))
    ]
    assert len(rows) == 39
    for iou_type in ("bbox", "segm"):
        scores = compare(truth, rows, iou_type, ids(truth))
        for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", "ARs", "ARm", "ARl"):
            assert scores.figures[name] == pytest.approx(1, abs=1e-9), name
        found = {category: ap for category, ap in scores.ap_by_category.items() if ap is not None}
        assert found.keys() == {one["category_id"] for one in rows}
        assert list(found.values()) == pytest.approx([1] * len(found))


@pytest.mark.parametrize("masks", [True, False])
def test_a_detector_that_knows_the_truth_is_perfect(official: COCO, masks: bool) -> None:
    """Its masks too: maps of 28×28 come within IoU 0.95 of each object here."""
    detector = Oracle(official, DEMO_CARD if masks else DEMO_CARD.model_copy(update={"mask_size": None}))
    told: list[tuple[int, int]] = []
    figures = evaluate(detector, ANNOTATIONS, PHOTOGRAPHS, on_image=lambda *done: told.append(done))
    assert figures.keys() == ({"bbox", "segm"} if masks else {"bbox"})
    for found in figures.values():
        assert found["AP"] == pytest.approx(1, abs=1e-9)
    assert told == [(done, 6) for done in range(1, 7)]


def mmdetections_answers(truth: Annotations) -> Rows:
    rows: Rows = []
    for image in truth.images:
        rows += results(golden(DEMO / "golden" / f"{Path(image.file_name).stem}.npz"), DEMO_CARD, image)
    return rows


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("count", [6, 4])
def test_as_the_reference(truth: Annotations, official: COCO, iou_type: str, count: int) -> None:
    """pycocotools called by hand, as mmdetection calls it: for masks the boxes go, so that areas are the masks'."""
    rows = mmdetections_answers(truth)
    chosen = ids(truth)[:count]
    ours = compare(truth, rows, iou_type, chosen)
    reference = [{**row} for row in rows]
    if iou_type == "segm":
        for row in reference:
            del row["bbox"]
    evaluation = COCOeval(copy.deepcopy(official), official.loadRes(reference), iou_type)
    evaluation.params.imgIds = chosen
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert tuple(ours.figures) == FIGURES
    assert [-1 if value is None else value for value in ours.figures.values()] == pytest.approx(
        list(evaluation.stats), abs=1e-6
    )
    assert 0.3 < (ours.figures["AP"] or 0) < 1
    present = [ap for ap in ours.ap_by_category.values() if ap is not None]
    assert np.mean(present) == pytest.approx(ours.figures["AP"], abs=1e-6)


def test_rows_are_left_as_they_are_and_nothing_is_printed(
    truth: Annotations, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = mmdetections_answers(truth)
    before = copy.deepcopy(rows)
    compare(truth, rows, "bbox", ids(truth))
    compare(truth, rows, "segm", ids(truth))
    assert rows == before
    assert capsys.readouterr().out == ""


# Worked by hand: an image of 1000 × 1000 pixels with two cars of 100 × 100.

CARS = {
    "images": [{"id": 1, "file_name": "1.png", "height": 1000, "width": 1000}],
    "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    "annotations": [
        {"id": 0, "image_id": 1, "category_id": 3, "bbox": [0, 0, 100, 100], "area": 10000, "iscrowd": 0},
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [500, 500, 100, 100], "area": 10000, "iscrowd": 0},
    ],
}
Written = Callable[..., Annotations]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Return a function that writes annotations, and reads them for the fake model: `written(annotations=[…])`."""

    def write(content: object = None, **changed: object) -> Annotations:
        path = tmp_path / "instances.json"
        path.write_text(content if isinstance(content, str) else json.dumps({**CARS, **changed}))
        return read_annotations(path, FAKE_CARD)

    return write


def car(score: float, *box: float, category: int = 3) -> dict[str, Any]:
    return {"image_id": 1, "category_id": category, "bbox": list(box), "score": score}


def test_worked_by_hand(written: Written) -> None:
    """The best detection is a car, the next is nothing, the last overlaps the other car by 0.82.

    Up to IoU 0.80, 7 of the 10 thresholds, precision is 1 up to recall 0.5 (51 of COCO's 101 points) and 2/3 from
    there on (50 points); above, recall ends at 0.5. An object whose id is 0 counts as any.
    """
    rows = [car(0.9, 0, 0, 100, 100), car(0.8, 300, 300, 100, 100), car(0.7, 500, 500, 100, 82)]
    scores = compare(written(), rows, "bbox", [1])
    low, high = (51 + 50 * 2 / 3) / 101, 51 / 101
    ap, recall = (7 * low + 3 * high) / 10, (7 * 1 + 3 * 0.5) / 10
    expected = dict.fromkeys(FIGURES) | {
        "AP": ap,
        "AP50": low,
        "AP75": low,
        "APl": ap,
        "AR1": 0.5,
        "AR10": recall,
        "AR100": recall,
        "ARl": recall,
    }
    assert {name for name in FIGURES if scores.figures[name] is None} == {"APs", "APm", "ARs", "ARm"}
    assert scores.figures == pytest.approx(expected, abs=1e-9)
    assert scores.ap_by_category == {1: None, 3: pytest.approx(ap, abs=1e-9)}


def test_crowds_by_hand(written: Written) -> None:
    """A detection inside a crowd is neither right nor wrong, and a crowd needn't be found; the other class counts half.

    The car is found; the person isn't: AP 1 and 0, mean 0.5.
    """
    annotations = [
        CARS["annotations"][0],
        {**CARS["annotations"][1], "iscrowd": 1},
        {"id": 3, "image_id": 1, "category_id": 1, "bbox": [800, 0, 20, 20], "area": 400},
    ]
    truth = written(annotations=annotations)
    rows = [car(0.9, 520, 520, 50, 50), car(0.8, 0, 0, 100, 100), car(0.7, 0, 0, 20, 20, category=1)]
    scores = compare(truth, rows, "bbox", [1])
    assert scores.figures["AP"] == pytest.approx(0.5, abs=1e-9)
    assert (scores.figures["APs"], scores.figures["APm"]) == (0, None)
    assert scores.ap_by_category == {1: 0, 3: pytest.approx(1, abs=1e-9)}
    assert truth.objects([1]) == {1: 1, 3: 1}
    assert truth.objects([]) == {}


def test_nothing_found_is_zero_and_nothing_to_find_is_none(written: Written) -> None:
    images = [*CARS["images"], {"id": 2, "file_name": "2.png", "height": 9, "width": 9}]
    truth = written(images=images)
    assert compare(truth, [], "bbox", [1]).figures["AP"] == 0
    assert set(compare(truth, [], "bbox", [2]).figures.values()) == {None}
    assert set(compare(truth, [car(0.9, 0, 0, 9, 9)], "bbox", [2]).figures.values()) == {None}


def test_what_real_files_leave_out(written: Written) -> None:
    """Crowds, masks, ids of objects, categories that nothing has, objects of images that aren't listed."""
    annotations: Rows = [
        {"image_id": 1, "category_id": 3, "bbox": [0, 0, 100, 100], "area": 10000, "segmentation": []},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 100, 100], "area": 10000},
    ]
    categories = [*CARS["categories"], {"id": 0, "name": "things", "supercategory": "none"}]
    truth = written(annotations=annotations, categories=categories, info={"year": 2017})
    assert (truth.category_ids, truth.has_masks, truth.iou_types) == ((1, 3), False, ("bbox",))
    assert compare(truth, [car(0.9, 0, 0, 100, 100)], "bbox", [1]).figures["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"images": []}, "lists no images"),
        ({"annotations": []}, "annotates no object in its images"),
        ({"annotations": [{"image_id": 1}]}, "annotations.0.category_id: field required."),
        ({"annotations": None}, "is no file of COCO's annotations of objects: annotations: input should be a"),
        ({"images": [{"id": 1}]}, "images.0.file_name: field required."),
        ({"images": CARS["images"] * 2}, "has 2 images with the id 1"),
        ({"images": [{**CARS["images"][0], "file_name": "../1.png"}]}, "outside any folder"),
        ({"images": [{**CARS["images"][0], "file_name": "/1.png"}]}, "outside any folder"),
        ({"images": [{**CARS["images"][0], "width": 0}]}, "images.0.width: input should be"),
        ({"categories": []}, "that it doesn't list, with the ids 3."),
        (
            {"categories": [{"id": 3, "name": "bus"}]},
            "No category of .* is a class of the model fake: there are bus in the file, and person, bicycle, car",
        ),
        (
            {"annotations": [{**CARS["annotations"][0], "bbox": [0, 0, 5]}]},
            "annotations.0.bbox: list should have at least 4 items",
        ),
        (
            {"annotations": [{**CARS["annotations"][0], "area": float("nan")}]},
            "annotations.0.area: input should be a finite number.",
        ),
        (
            {
                "annotations": [{**CARS["annotations"][0], "category_id": 9}],
                "categories": [{"id": 9, "name": "dog"}],
            },
            "No category of .* is a class of the model fake: there are dog in the file, and person",
        ),
        (
            {"annotations": [{**CARS["annotations"][0], "category_id": id_} for id_ in range(10, 25)]},
            "with the ids 10, 11, .*, 19 and 5 more.",
        ),
    ],
)
def test_annotations_that_are_none(written: Written, changed: dict[str, object], sentence: str) -> None:
    with pytest.raises(ParameterError, match=rf"instances\.json.*{sentence}|{sentence}") as caught:
        written(**changed)
    assert "instances.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is not JSON"),
        (ANNOTATIONS.read_text()[:9000], "is not JSON, or not all of it"),
        ("[]", "is no file of COCO's annotations of objects: the whole: input should be"),
        ("{}", "images: field required."),
        ("[" * 100_000, "is not JSON"),
    ],
    ids=["empty", "torn", "a list", "an empty object", "deep"],
)
def test_files_that_are_none(written: Written, content: str, sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        written(content)


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"absent.json can't be read \(No such file or directory\)"):
        read_annotations(tmp_path / "absent.json", FAKE_CARD)
    with pytest.raises(ParameterError, match="Is a directory"):
        read_annotations(tmp_path, FAKE_CARD)
    (tmp_path / "photograph.json").write_bytes((PHOTOGRAPHS / "000000000073.jpg").read_bytes())
    with pytest.raises(ParameterError, match="is not JSON"):
        read_annotations(tmp_path / "photograph.json", FAKE_CARD)


@pytest.mark.parametrize(
    "segmentation",
    [
        "outline",
        [["a", "b"]],
        [["a", "b", "c", "d", "e", "f"]],
        [1, 2, 3],
        {"size": [1000, 1000]},
        {"size": [10, 10], "counts": [100]},
        {"size": [10, 10], "counts": "0d3"},
        {"counts": "0d3"},
    ],
    ids=str,
)
def test_masks_that_are_none(written: Written, segmentation: object) -> None:
    square = [[0, 0, 100, 0, 100, 100, 0, 100]]
    first, second = CARS["annotations"]
    annotations = [{**first, "segmentation": square}, {**second, "segmentation": segmentation}]
    with pytest.raises(ParameterError, match=r"an object of the image 1\.png has no mask: its"):
        written(annotations=annotations)


def test_images_that_are_not_there_do_not_count(official: COCO, tmp_path: Path) -> None:
    for name in ("000000000073.jpg", "000000000471.jpg"):
        (tmp_path / name).write_bytes((PHOTOGRAPHS / name).read_bytes())
    (tmp_path / "another.jpg").write_bytes(b"not looked at")
    truth = read_annotations(ANNOTATIONS, DEMO_CARD)
    present, missing = truth.find(tmp_path)
    assert [file.name for _, file in present] == ["000000000073.jpg", "000000000471.jpg"]
    assert [image.id for image in missing] == [544, 261888, 458756, 491525]
    detector = Oracle(official, DEMO_CARD.model_copy(update={"mask_size": None}))
    assert evaluate(detector, ANNOTATIONS, tmp_path)["bbox"]["AP"] == pytest.approx(1)


def test_folders_of_nothing(official: COCO, tmp_path: Path) -> None:
    detector = Oracle(official, DEMO_CARD)
    with pytest.raises(ParameterError, match=r"None of the 6 annotated images is in .*, not even 000000000073.jpg"):
        evaluate(detector, ANNOTATIONS, tmp_path)
    with pytest.raises(ParameterError, match="There is no folder absent"):
        evaluate(detector, ANNOTATIONS, Path("absent"))


def test_an_image_of_another_size_is_refused(official: COCO, tmp_path: Path) -> None:
    photograph = load_image(PHOTOGRAPHS / "000000000073.jpg")
    cv2.imwrite(str(tmp_path / "000000000073.jpg"), photograph[::2, ::2])
    with pytest.raises(ImageError, match="The image is 283×320 pixels, but 565×640 in the annotations"):
        evaluate(Oracle(official, DEMO_CARD), ANNOTATIONS, tmp_path)
