"""Roboflow's answer, as `supervision` reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnest_core.detections import Detections
from resnest_core.formats import roboflow
from resnest_core.formats.outline import outline
from resnest_core.masks import MASK_FORMS, POLYGON_TOLERANCE, Box, Mask, paste
from tests.core.examples import CARD, DATA, MASK_SIZE, golden, random_detections, seeds

counts = st.integers(0, 5)
forms = st.sampled_from(sorted(MASK_FORMS))


def answer(detections: Detections, masks: str = "rle") -> dict[str, Any]:
    """Return what a client reads."""
    read: dict[str, Any] = json.loads(json.dumps(roboflow(detections, CARD, masks=masks), allow_nan=False))
    return read


def largest_part(mask: Mask, box: Box, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask's largest part, its holes filled, on a canvas of the whole image."""
    crop, (left, top) = paste(mask, box, size_hw)
    part = np.zeros(size_hw, bool)
    if crop.any():
        # In the frame of `paste`, as `outline` does it: elsewhere OpenCV may number parts of equal size otherwise.
        _, parts, stats, _ = cv2.connectedComponentsWithStats(crop.astype(np.uint8), connectivity=8)
        largest = 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
        part[top : top + crop.shape[0], left : left + crop.shape[1]] = parts == largest
    # What can be reached from outside, in steps along the rows and columns, is no hole.
    _, around = cv2.connectedComponents(np.pad(~part, 1, constant_values=True).astype(np.uint8), connectivity=4)
    filled: NDArray[np.bool_] = (around != around[0, 0])[1:-1, 1:-1]
    return filled


def near_the_rim(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels that have one of the other kind among their eight neighbours."""
    kernel = np.ones((3, 3), np.uint8)
    padded = np.pad(mask, 1, mode="edge").astype(np.uint8)
    near: NDArray[np.bool_] = (cv2.dilate(padded, kernel) != cv2.erode(padded, kernel))[1:-1, 1:-1]
    return near


@settings(deadline=None)
@given(seeds, counts, forms, st.booleans())
def test_every_field(seed: int, count: int, masks: str, has_masks: bool) -> None:
    detections = random_detections(seed, count=count, masks=has_masks)
    height, width = detections.image_size_hw
    found = answer(detections, masks)
    assert found.keys() == {"inference_id", "image", "predictions"}
    assert found["image"] == {"width": width, "height": height}
    assert len(found["predictions"]) == count
    for index, row in enumerate(found["predictions"]):
        fields = {"x", "y", "width", "height", "confidence", "class", "class_id", "detection_id"}
        assert row.keys() == fields | ({"points"} if has_masks else set())
        x1, y1, x2, y2 = detections.boxes_xyxy[index].astype(float)
        assert row["x"] == pytest.approx((x1 + x2) / 2, abs=1e-3)
        assert row["y"] == pytest.approx((y1 + y2) / 2, abs=1e-3)
        assert row["width"] == pytest.approx(x2 - x1, abs=1.1e-3)
        assert row["height"] == pytest.approx(y2 - y1, abs=1.1e-3)
        assert row["confidence"] == pytest.approx(float(detections.scores[index]), abs=1e-7)
        assert (row["class_id"], row["class"]) == (detections.labels[index], CARD.classes[detections.labels[index]])
        for point in row.get("points", []):
            assert point.keys() == {"x", "y"}
            assert 0 <= point["x"] <= width and 0 <= point["y"] <= height
    assert len({row["detection_id"] for row in found["predictions"]}) == count


@settings(deadline=None)
@given(seeds, counts)
def test_none_leaves_points_out(seed: int, count: int) -> None:
    found = answer(random_detections(seed, count=count), "none")
    assert ["points" in row for row in found["predictions"]] == [False] * count


@settings(deadline=None)
@given(seeds, counts, forms)
def test_supervision_reads_it(seed: int, count: int, masks: str) -> None:
    detections = random_detections(seed, count=count)
    read = supervision.Detections.from_inference(answer(detections, masks))
    assert len(read) == count
    np.testing.assert_allclose(read.xyxy, detections.boxes_xyxy, atol=5.1e-4)
    if not count:
        return
    assert detections.masks is not None and read.confidence is not None
    np.testing.assert_allclose(read.confidence, detections.scores, atol=1e-7)
    np.testing.assert_array_equal(read.class_id, detections.labels)
    assert list(read.data["class_name"]) == [CARD.classes[label] for label in detections.labels]
    assert read.mask is not None, "one prediction without a mask would cost all of them theirs"
    for mine, box, theirs in zip(detections.masks, detections.boxes_xyxy, read.mask, strict=True):
        expected = largest_part(mine, box, detections.image_size_hw)
        if expected.any():
            assert not ((theirs != expected) & ~near_the_rim(expected)).any()
        else:
            assert np.count_nonzero(theirs) <= 1


@settings(deadline=None)
@given(seeds, counts)
def test_supervision_reads_it_without_masks(seed: int, count: int) -> None:
    detections = random_detections(seed, count=count)
    read = supervision.Detections.from_inference(answer(detections, "none"))
    assert (len(read), read.mask) == (count, None)


@settings(deadline=None)
@given(seeds)
def test_an_outline_that_keeps_every_corner_is_the_part(seed: int) -> None:
    detections = random_detections(seed, count=1)
    assert detections.masks is not None
    mask, box = detections.masks[0], detections.boxes_xyxy[0]
    canvas = np.zeros(detections.image_size_hw, np.uint8)
    points = outline(mask, box, detections.image_size_hw, tolerance=0)
    if len(points):
        cv2.fillPoly(canvas, [points], [1])
    np.testing.assert_array_equal(canvas.astype(bool), largest_part(mask, box, detections.image_size_hw))


@settings(deadline=None)
@given(seeds)
def test_tolerance_bounds_the_points(seed: int) -> None:
    detections = random_detections(seed, count=1)
    assert detections.masks is not None
    mask, box = detections.masks[0], detections.boxes_xyxy[0]
    crop, _ = paste(mask, box, detections.image_size_hw)
    counts = [len(outline(mask, box, detections.image_size_hw, tolerance)) for tolerance in (4, POLYGON_TOLERANCE, 0)]
    assert counts == sorted(counts)
    assert counts[-1] <= 4 * crop.size


def test_a_large_disc_needs_a_fraction_of_its_rim() -> None:
    y, x = np.mgrid[:MASK_SIZE, :MASK_SIZE] - (MASK_SIZE - 1) / 2
    disc = np.clip(1.5 - np.hypot(x, y) / MASK_SIZE * 2.5, 0, 1).astype(np.float16)
    points = outline(disc, np.array([0, 0, 1000, 1000], np.float32), (1000, 1000))
    assert 20 < len(points) < 2 * np.pi * 400 / 4


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        (np.zeros((MASK_SIZE, MASK_SIZE), np.float16), [2, 3, 12, 13]),
        (np.ones((MASK_SIZE, MASK_SIZE), np.float16), [5.2, 5.2, 5.2, 5.2]),
        (np.ones((MASK_SIZE, MASK_SIZE), np.float16), [5, 5, 6, 6]),
        (np.ones((MASK_SIZE, MASK_SIZE), np.float16), [5, 5, 6, 15]),
    ],
    ids=["empty mask", "box without an area", "one pixel", "a line"],
)
def test_masks_too_small_for_a_ring(mask: Mask, box: list[float]) -> None:
    whole = np.ones((MASK_SIZE, MASK_SIZE), np.float16)
    detections = Detections(
        boxes_xyxy=np.array([[1, 1, 9, 9], box], np.float32),
        scores=np.array([0.9, 0.8], np.float32),
        labels=np.array([0, 1]),
        masks=np.stack([whole, mask]),
        image_size_hw=(20, 20),
    )
    read = supervision.Detections.from_inference(answer(detections))
    assert read.mask is not None
    np.testing.assert_array_equal(read.mask[0], largest_part(whole, detections.boxes_xyxy[0], (20, 20)))
    assert np.count_nonzero(read.mask[1]) == max(
        1, np.count_nonzero(paste(mask, detections.boxes_xyxy[1], (20, 20))[0])
    )


def test_of_a_mask_with_a_hole_and_two_parts_the_larger_outline_is_taken() -> None:
    mask = np.zeros((MASK_SIZE, MASK_SIZE), np.float16)
    mask[2:20, 2:20] = 1
    mask[8:12, 8:12] = 0
    mask[23:26, 23:26] = 1
    box = np.array([0, 0, MASK_SIZE, MASK_SIZE], np.float32)
    points = outline(mask, box, (MASK_SIZE, MASK_SIZE)).tolist()
    assert sorted(points) == [[2, 2], [2, 19], [19, 2], [19, 19]]


@pytest.mark.parametrize("path", sorted((DATA / "demo" / "golden").glob("*.npz")), ids=lambda path: path.stem)
def test_what_a_real_detector_finds(path: Path) -> None:
    detections = golden(path)
    names = tuple(map(str, range(80)))
    card = CARD.model_copy(update={"classes": names, "category_ids": tuple(range(80))})
    read = supervision.Detections.from_inference(json.loads(json.dumps(roboflow(detections, card))))
    assert detections.masks is not None and read.mask is not None
    for mask, box, theirs in zip(detections.masks, detections.boxes_xyxy, read.mask, strict=True):
        mine = largest_part(mask, box, detections.image_size_hw)
        differ = theirs != mine
        if mine.any():
            assert not (differ & ~near_the_rim(mine)).any()
        if np.count_nonzero(mine) > 1000:
            assert np.count_nonzero(differ) < 0.02 * np.count_nonzero(mine)
