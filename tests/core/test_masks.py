import base64
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from resnest_core.errors import ParameterError
from resnest_core.masks import MASK_FORMS, Box, Mask, from_raw, mask_form, paste, png, polygons, raw, rle
from tests.core.examples import DATA, MASK_SIZE, golden, random_boxes, random_mask, seeds

Case = tuple[Mask, Box, tuple[int, int]]
WHOLE = np.ones((MASK_SIZE, MASK_SIZE), np.float16)

MASKED = [path for path in sorted(DATA.glob("*/golden/**/*.npz")) if "mask_rle" in np.load(path)]


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    size_hw = int(rng.integers(1, 80)), int(rng.integers(1, 80))
    return random_mask(rng), random_boxes(rng, 1, size_hw)[0], size_hw


cases = st.builds(random_case, seeds)


def box(*corners: float) -> Box:
    return np.array(corners, np.float32)


def canvas(mask: Mask, box_xyxy: Box, image_size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the pasted mask in the whole image, 0 or 1."""
    crop, (x, y) = paste(mask, box_xyxy, image_size_hw)
    full = np.zeros(image_size_hw, np.uint8)
    full[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return full


def sampled(mask: Mask, box_xyxy: Box, image_size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Sample the map at every pixel of the image, written straight from the definition; zeros lie around it."""
    height, width = image_size_hw
    x1, y1, x2, y2 = box_xyxy.astype(float)
    y, x = np.mgrid[:height, :width] + 0.5
    u, v = (x - x1) / (x2 - x1) * MASK_SIZE - 0.5, (y - y1) / (y2 - y1) * MASK_SIZE - 0.5
    around = np.pad(mask.astype(float), 1)
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    total = np.zeros(image_size_hw)
    for row, row_share in ((top, 1 - (v - top)), (top + 1, v - top)):
        for column, column_share in ((left, 1 - (u - left)), (left + 1, u - left)):
            cells = around[np.clip(row + 1, 0, MASK_SIZE + 1), np.clip(column + 1, 0, MASK_SIZE + 1)]
            total += row_share * column_share * cells
    return total


def filled(parts: list[list[list[list[float]]]], image_size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the pixels whose centres lie inside an odd number of rings."""
    height, width = image_size_hw
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.zeros(image_size_hw, bool)
    for ring in (ring for part in parts for ring in part):
        for (x1, y1), (x2, y2) in zip(ring, ring[1:] + ring[:1], strict=True):
            if y1 != y2:
                inside ^= ((y1 > y) != (y2 > y)) & (x < x1 + (y - y1) / (y2 - y1) * (x2 - x1))
    return inside.astype(np.uint8)


def iou(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def disc(radius: float, *, hole: float = 0.0) -> Mask:
    """Return a disc, in cells of the map, with a hole in its middle."""
    y, x = np.mgrid[:MASK_SIZE, :MASK_SIZE] - (MASK_SIZE - 1) / 2
    distance = np.hypot(y, x)
    inside: NDArray[np.bool_] = (distance <= radius) & (distance >= hole)
    return inside.astype(np.float16)


def test_paste_takes_pixels_whose_centres_lie_in_the_box() -> None:
    crop, offset = paste(WHOLE, box(1.6, 0, 4.4, 2), (3, 6))
    assert offset == (1, 0)
    np.testing.assert_array_equal(crop, [[False, True, True, False]] * 2)  # centres 1.5, 2.5, 3.5, 4.5


def test_paste_includes_one_half() -> None:
    half = np.full((MASK_SIZE, MASK_SIZE), 0.5, np.float16)
    assert paste(half, box(0, 0, 28, 28), (28, 28))[0].all()
    assert not paste(np.nextafter(half, np.float16(0)), box(0, 0, 28, 28), (28, 28))[0].any()


@given(cases)
def test_paste_samples_as_defined(case: Case) -> None:
    x1, y1, x2, y2 = case[1]
    if x2 - x1 < 1e-3 or y2 - y1 < 1e-3:
        assert not canvas(*case).any()
        return
    expected = sampled(*case)
    sure = np.abs(expected - 0.5) > 1e-3
    np.testing.assert_array_equal(canvas(*case)[sure], expected[sure] >= 0.5)


@given(cases)
def test_rle_is_pycocotools_encoding_of_the_whole_image(case: Case) -> None:
    expected = coco_mask.encode(np.asfortranarray(canvas(*case)))
    assert rle(*case) == {"size": list(case[2]), "counts": expected["counts"].decode()}


@pytest.mark.parametrize(
    "corners",
    [(0, 0, 9, 7), (2, 0, 5, 7), (0, 2, 9, 5), (0, 3, 4, 7), (5, 0, 9, 4), (8, 6, 9, 7), (0, 0, 1, 1), (3, 3, 3, 3)],
)
def test_rle_of_full_boxes_at_the_images_edges(corners: Sequence[float]) -> None:
    case = WHOLE, box(*corners), (7, 9)
    expected = coco_mask.encode(np.asfortranarray(canvas(*case)))
    assert rle(*case)["counts"] == expected["counts"].decode()


@pytest.mark.parametrize("path", MASKED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_rle_is_close_to_mmdetections(path: Path) -> None:
    with np.load(path) as arrays:
        counts = arrays["mask_rle"]
    found = golden(path)
    assert found.masks is not None
    ious = []
    for mask, box_xyxy, expected in zip(found.masks, found.boxes_xyxy, counts, strict=True):
        ours = rle(mask, box_xyxy, found.image_size_hw)
        theirs = {"size": list(found.image_size_hw), "counts": str(expected)}
        if coco_mask.area(theirs):
            ious.append(coco_mask.iou([ours], [theirs], [0])[0, 0])
    assert np.mean(ious) > 0.97  # not 1: the kit rounds probabilities to 1/255


@settings(max_examples=50)
@given(cases)
def test_polygons_without_tolerance_hold_the_same_pixels(case: Case) -> None:
    parts = polygons(*case, tolerance=0)
    np.testing.assert_array_equal(filled(parts, case[2]), canvas(*case))
    points = np.array([point for part in parts for ring in part for point in ring]).reshape(-1, 2)
    height, width = case[2]
    assert ((points >= 0) & (points <= [width, height])).all()


@settings(max_examples=50)
@given(cases)
def test_polygons_are_close_and_shorter(case: Case) -> None:
    parts, exact = polygons(*case), polygons(*case, tolerance=0)
    assert [len(part) for part in parts] == [len(part) for part in exact]
    assert all(len(ring) >= 3 for part in parts for ring in part)
    pixels = canvas(*case)
    noisy = np.count_nonzero(np.diff(pixels)) > pixels.sum() / 3
    if pixels.sum() >= 400 and not noisy:
        assert iou(filled(parts, case[2]), pixels) >= 0.95
        assert sum(len(ring) for part in parts for ring in part) < sum(len(ring) for part in exact for ring in part)


def test_polygons_keep_holes_and_parts() -> None:
    [ring_shaped] = polygons(disc(12, hole=6), box(10, 20, 66, 76), (100, 100))
    assert len(ring_shaped) == 2
    outline, hole = (np.array(ring) for ring in ring_shaped)
    assert (outline.min(0) < hole.min(0)).all() and (outline.max(0) > hole.max(0)).all()

    stripes = np.zeros((MASK_SIZE, MASK_SIZE), np.float16)
    stripes[:, 2:8] = stripes[:, 20:26] = 1
    assert [len(part) for part in polygons(stripes, box(10, 20, 66, 76), (100, 100))] == [1, 1]


def test_polygon_of_a_full_box_reaches_its_edges() -> None:
    [[outline]] = polygons(WHOLE, box(2, 3, 12, 9), (20, 20))
    assert np.min(outline, axis=0).tolist() == [2, 3] and np.max(outline, axis=0).tolist() == [12, 9]


@settings(max_examples=50)
@given(cases)
def test_png_is_the_mask_over_its_box(case: Case) -> None:
    crop, offset = paste(*case)
    answer = png(*case)
    assert (answer["offset"], answer["size"]) == (list(offset), list(crop.shape))
    if crop.size:
        data = np.frombuffer(base64.b64decode(answer["data"]), np.uint8)
        np.testing.assert_array_equal(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), crop * np.uint8(255))
    else:
        assert answer["data"] == ""


@given(cases)
def test_raw_goes_there_and_back(case: Case) -> None:
    answer = json.loads(json.dumps(raw(*case)))
    assert (answer["shape"], answer["dtype"]) == ([MASK_SIZE, MASK_SIZE], "float16")
    back = from_raw(answer)
    assert back.dtype == np.float16
    np.testing.assert_array_equal(back, case[0])


def test_raw_is_little_endian() -> None:
    answer = raw(np.ones((1, 1), np.float16), box(0, 0, 1, 1), (1, 1))
    assert base64.b64decode(answer["data"]) == b"\x00\x3c"


@pytest.mark.parametrize("form", MASK_FORMS)
def test_memory_is_bounded_by_the_box(form: str) -> None:
    tracemalloc.start()
    MASK_FORMS[form](WHOLE, box(50_000, 50_000, 50_040, 50_040), (60_000, 60_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@settings(max_examples=50)
@given(cases, st.sampled_from(sorted(MASK_FORMS)))
def test_every_form_is_json(case: Case, form: str) -> None:
    answer = MASK_FORMS[form](*case)
    assert json.loads(json.dumps(answer)) == answer


def test_form_by_name() -> None:
    assert mask_form("rle") is rle
    assert mask_form("none") is None
    with pytest.raises(ParameterError, match="rle, polygons, png, raw or none, not outline"):
        mask_form("outline")


@settings(deadline=None)
@given(cases, st.sampled_from([0.05, 0.3, 0.4, 0.5, 0.6, 0.9]), st.sampled_from(["rle", "png"]))
def test_every_form_follows_the_threshold(case: tuple[Mask, Box, tuple[int, int]], threshold: float, form: str) -> None:
    """mmdetection's paste samples the map at every pixel of the image, zeros outside of it, and compares with ≥."""
    mask, box_xyxy, (height, width) = case
    x1, y1, x2, y2 = (float(value) for value in box_xyxy)
    expected = np.zeros((height, width), bool)
    if x2 > x1 and y2 > y1:
        rows, columns = (
            np.maximum(
                1 - abs(np.subtract.outer((np.arange(side) + 0.5 - low) / (high - low) * size, np.arange(size) + 0.5)),
                0,
            )
            for side, low, high, size in ((height, y1, y2, mask.shape[0]), (width, x1, x2, mask.shape[1]))
        )
        sampled = rows @ mask.astype(float) @ columns.T
        expected = sampled >= threshold
        certain = abs(sampled - threshold) > 1e-3
    else:
        certain = np.ones((height, width), bool)
    crop, (x, y) = paste(mask, box_xyxy, (height, width), threshold=threshold)
    found = np.zeros((height, width), bool)
    found[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    assert not ((found != expected) & certain).any()
    answer = MASK_FORMS[form](mask, box_xyxy, (height, width), threshold=threshold)
    if form == "rle":
        assert coco_mask.area({"size": answer["size"], "counts": answer["counts"].encode()}) == found.sum()
    else:
        assert (answer["offset"], answer["size"]) == ([x, y], list(crop.shape))
