import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from resnest_core.errors import ParameterError, RemoteError
from resnest_core.formats import FORMATS, coco, from_native, native
from resnest_core.masks import MASK_FORMS, paste
from tests.core.examples import CARD, MASK_SIZE, random_detections, seeds

counts = st.integers(0, 5)
forms = st.sampled_from([*MASK_FORMS, "none"])


@settings(deadline=None)
@given(seeds, counts, forms)
def test_native_says_everything_in_plain_json(seed: int, count: int, masks: str) -> None:
    detections = random_detections(seed, count=count)
    answer = json.loads(json.dumps(native(detections, CARD, masks=masks), allow_nan=False))
    height, width = detections.image_size_hw
    assert (answer["model"], answer["image"]) == ("fake", {"width": width, "height": height})
    assert len(answer["detections"]) == count
    for index, row in enumerate(answer["detections"]):
        assert set(row) == {"box", "score", "label", "class"} | ({"mask"} if masks != "none" else set())
        np.testing.assert_allclose(row["box"], detections.boxes_xyxy[index], atol=5.1e-4)
        assert row["score"] == pytest.approx(float(detections.scores[index]), abs=1e-7)
        assert row["label"] == detections.labels[index]
        assert row["class"] == CARD.classes[row["label"]]
        x1, y1, x2, y2 = row["box"]
        assert 0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height


@settings(deadline=None)
@given(seeds, st.sampled_from(sorted(MASK_FORMS)))
def test_native_masks_are_of_the_form_asked_for(seed: int, masks: str) -> None:
    detections = random_detections(seed, count=2)
    assert detections.masks is not None
    for row, mask, box in zip(
        native(detections, CARD, masks=masks)["detections"], detections.masks, detections.boxes_xyxy, strict=True
    ):
        assert row["mask"] == MASK_FORMS[masks](mask, box, detections.image_size_hw)


@settings(deadline=None)
@given(seeds, counts, st.booleans())
def test_native_goes_there_and_back(seed: int, count: int, masks: bool) -> None:
    detections = random_detections(seed, count=count, masks=masks)
    answer = json.loads(json.dumps(native(detections, CARD, masks="raw")))
    back = from_native(answer, MASK_SIZE if masks else None)
    np.testing.assert_allclose(back.boxes_xyxy, detections.boxes_xyxy, atol=5.1e-4)
    np.testing.assert_allclose(back.scores, detections.scores, atol=1e-7)
    np.testing.assert_array_equal(back.labels, detections.labels)
    assert back.image_size_hw == detections.image_size_hw
    assert [array.dtype for array in (back.boxes_xyxy, back.scores, back.labels)] == [np.float32, np.float32, np.int64]
    if detections.masks is None or back.masks is None:
        assert detections.masks is back.masks is None
    else:
        assert back.masks.dtype == np.float16
        np.testing.assert_array_equal(back.masks, detections.masks)


def damaged(**row: Any) -> dict[str, Any]:
    answer = native(random_detections(0, count=2), CARD, masks="raw")
    answer["detections"][1] |= row
    return answer


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        None,
        "text",
        {"detections": [], "image": None},
        {"detections": None, "image": {"width": 1, "height": 1}},
        damaged(box=[1, 2, 3]),
        damaged(box="left"),
        damaged(score="high"),
        damaged(label=10**30),
        damaged(mask=None),
        damaged(mask={"shape": [2, 2], "dtype": "float16", "data": "AAAA"}),
        damaged(mask={"shape": [1, 1], "dtype": "float16", "data": "AAA="}),
        native(random_detections(0), CARD, masks="rle"),
    ],
)
def test_what_is_no_native_answer_is_refused(answer: Any) -> None:
    with pytest.raises(RemoteError, match="not a native one"):
        from_native(answer, MASK_SIZE)


@settings(max_examples=50, deadline=None)
@given(seeds, counts, forms)
def test_coco_loads_as_results(seed: int, count: int, masks: str) -> None:
    detections = random_detections(seed, count=count)
    results = json.loads(json.dumps(coco(detections, CARD, image_id=7, masks=masks), allow_nan=False))
    assert len(results) == count
    for index, row in enumerate(results):
        x1, y1, x2, y2 = detections.boxes_xyxy[index].astype(float)
        np.testing.assert_allclose(row["bbox"], [x1, y1, x2 - x1, y2 - y1], atol=5.1e-4)
        assert row["category_id"] == CARD.category_ids[detections.labels[index]]
        assert row["score"] == pytest.approx(float(detections.scores[index]), abs=1e-7)
        assert ("segmentation" in row) == (masks != "none")
    if not results:
        return
    height, width = detections.image_size_hw
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 7, "height": height, "width": width}],
        "categories": [
            {"id": number, "name": name} for number, name in zip(CARD.category_ids, CARD.classes, strict=True)
        ],
        "annotations": [],
    }
    truth.createIndex()
    loaded = truth.loadRes(results)
    assert len(loaded.getAnnIds(imgIds=[7])) == count
    if masks != "none" and detections.masks is not None:
        for index, row in enumerate(results):
            crop, _ = paste(detections.masks[index], detections.boxes_xyxy[index], detections.image_size_hw)
            assert coco_mask.area(row["segmentation"]) == np.count_nonzero(crop)


def test_coco_image_id_is_0_unless_given() -> None:
    assert {row["image_id"] for row in coco(random_detections(0), CARD)} == {0}


@pytest.mark.parametrize("name", FORMATS)
def test_detections_without_masks_have_none_in_any_form(name: str) -> None:
    answer = json.dumps(FORMATS[name].make(random_detections(0, masks=False), CARD, masks="rle"))
    assert CARD.classes[0] in answer or '"category_id"' in answer
    assert not any(f'"{key}"' in answer for key in ("mask", "segmentation", "points", "segments"))


@settings(deadline=None)
@given(seeds, st.sampled_from(sorted(FORMATS)), forms)
def test_an_answer_is_plain_json_and_changes_nothing(seed: int, name: str, masks: str) -> None:
    detections = random_detections(seed, count=3)
    before = [array.copy() for array in (detections.boxes_xyxy, detections.scores, detections.labels)]
    json.dumps(FORMATS[name].make(detections, CARD, masks=masks), allow_nan=False)
    for array, old in zip((detections.boxes_xyxy, detections.scores, detections.labels), before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_where_answers_say_how_long_they_took() -> None:
    timings = {"decode": 2.0, "resize": 1.5, "queue": 3.0, "network": 90.25, "format": 0.75, "total": 98.5}
    said = {}
    for name, answer_format in FORMATS.items():
        if answer_format.add_timings:
            said[name] = answer_format.make(random_detections(0), CARD)
            answer_format.add_timings(said[name], timings)
    assert said.keys() == FORMATS.keys() - {"coco"}, "COCO's results have no place for it"
    assert said["native"]["timings_ms"] == timings
    assert said["roboflow"]["time"] == 0.0985
    assert said["ultralytics"]["images"][0]["speed"] == {"preprocess": 3.5, "inference": 90.25, "postprocess": 0.75}
    assert said["ultralytics"]["metadata"]["functionTimeCall"] == 0.0985


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("masks", [True, False])
def test_unknown_form_is_refused_with_the_known_ones(name: str, masks: bool) -> None:
    with pytest.raises(ParameterError, match="rle, polygons, png, raw or none"):
        FORMATS[name].make(random_detections(0, masks=masks), CARD, masks="outline")
