"""Windows of a large image: they cover it, and what they find is put together once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnest_core import InProcessDetector, Tiles
from resnest_core.detections import Detections
from resnest_core.errors import ParameterError
from resnest_core.runtimes.fake import FAKE_CARD, FakeRuntime
from resnest_core.tiles import Window, merged

SIZE_HW = (1000, 1800)
TILES = Tiles(1000, 0.2)  # two windows, side by side: 0…1000 and 800…1800
LEFT, RIGHT = TILES.windows(SIZE_HW)


def seen(window: Window, *objects: tuple[float, float, float, float, int, float]) -> tuple[Window, Detections]:
    """Return what a window finds of objects (x1, y1, x2, y2, label, score) in the image: clipped."""
    rows = np.array(objects, np.float32).reshape(-1, 6)
    offset = np.array([window.left, window.top] * 2, np.float32)
    limits = np.array([window.right - window.left, window.bottom - window.top] * 2, np.float32)
    size_hw = window.bottom - window.top, window.right - window.left
    return window, Detections(
        boxes_xyxy=np.clip(rows[:, :4] - offset, 0, limits).astype(np.float32),
        scores=rows[:, 5],
        labels=rows[:, 4].astype(np.int64),
        masks=np.ones((len(rows), 28, 28), np.float16),
        image_size_hw=size_hw,
    )


def together(*parts: tuple[Window, Detections], size_hw: tuple[int, int] = SIZE_HW) -> Detections:
    return merged(parts, size_hw, FAKE_CARD)


def boxes(found: Detections) -> list[list[float]]:
    corners: list[list[float]] = found.boxes_xyxy.tolist()
    return corners


@given(st.integers(200, 3000), st.sampled_from([0, 0.2, 0.5, 0.9]), st.integers(1, 5000), st.integers(1, 5000))
def test_windows_cover_the_image_and_overlap(size: int, overlap: float, height: int, width: int) -> None:
    windows = Tiles(size, overlap).windows((height, width))
    for low, high, side in (("left", "right", width), ("top", "bottom", height)):
        spans = sorted({(getattr(window, low), getattr(window, high)) for window in windows})
        assert spans[0][0] == 0 and spans[-1][1] == side
        assert all(end - start == min(size, side) for start, end in spans)
        shared = [before[1] - after[0] for before, after in pairwise(spans)]
        assert all(pixels >= overlap * size - 1 for pixels in shared)


@pytest.mark.parametrize(
    ("size", "overlap", "match"),
    [(63, 0.2, "at least 64"), (1024, -0.1, "from 0 to 0.9"), (1024, 1.0, "from 0 to 0.9"), (64, np.nan, "overlap")],
)
def test_what_cannot_be_tiles(size: int, overlap: float, match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        Tiles(size, overlap)


def test_an_object_that_both_see_whole_is_there_once() -> None:
    found = together(seen(LEFT, (850, 100, 950, 200, 0, 0.7)), seen(RIGHT, (851, 100, 950, 201, 0, 0.8)))
    assert boxes(found) == [[851, 100, 950, 201]] and found.scores.tolist() == pytest.approx([0.8])


def test_the_whole_view_wins_over_a_part_with_a_better_score() -> None:
    whole = (600, 100, 900, 300, 0, 0.6)
    found = together(seen(LEFT, whole), seen(RIGHT, (*whole[:5], 0.9)))
    assert boxes(found) == [[600, 100, 900, 300]]


def test_an_object_larger_than_the_overlap_is_put_together() -> None:
    wide = (500, 100, 1300, 300, 0, 0.6)
    found = together(seen(LEFT, wide), seen(RIGHT, wide))
    assert boxes(found) == [[500, 100, 1300, 300]] and found.masks is not None
    assert found.masks[0, 4:24, 1:27].min() == 1  # of both parts


def test_objects_beside_each_other_stay_two() -> None:
    first, second = (500, 100, 990, 300, 0, 0.6), (810, 320, 1300, 500, 0, 0.7)
    found = together(seen(LEFT, first, second), seen(RIGHT, first, second))
    assert len(found) == 2
    other_class = together(seen(LEFT, (850, 100, 950, 200, 0, 0.7)), seen(RIGHT, (850, 100, 950, 200, 1, 0.8)))
    assert other_class.labels.tolist() == [1, 0]  # best first


def test_a_part_of_what_another_window_sees_is_dropped() -> None:
    # The right window has seen little of the object, and misjudged its height.
    found = together(seen(LEFT, (700, 100, 950, 400, 0, 0.9)), seen(RIGHT, (800, 120, 860, 220, 0, 0.5)))
    assert boxes(found) == [[700, 100, 950, 400]]


def test_views_that_disagree_in_the_overlap_are_suppressed() -> None:
    # In the overlap, 800…1000, the second view is half as high; over all they overlap by more than half.
    found = together(seen(LEFT, (500, 100, 810, 400, 0, 0.9)), seen(RIGHT, (800, 100, 810, 140, 0, 0.5)))
    assert len(found) == 1
    wide = together(seen(LEFT, (810, 100, 990, 200, 0, 0.9)), seen(RIGHT, (810, 130, 990, 235, 0, 0.8)))
    assert len(wide) == 1 and wide.scores.tolist() == pytest.approx([0.9])


def test_windows_that_found_nothing() -> None:
    assert len(together(seen(LEFT), seen(RIGHT))) == 0
    assert len(together(seen(LEFT), seen(RIGHT, (900, 1, 999, 99, 2, 0.4)))) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), unique=True, max_size=10), st.integers(0, 2**32 - 1))
def test_small_objects_come_back_as_they_are(cells: list[tuple[int, int]], seed: int) -> None:
    """Objects smaller than the overlap, apart from each other, wherever they are: each once, with its own box."""
    rng = np.random.default_rng(seed)
    size_hw, tiles = (2000, 2000), Tiles(800, 0.3)
    objects = []
    for row, column in cells:
        x, y = column * 500 + rng.uniform(10, 200), row * 500 + rng.uniform(10, 200)
        objects.append(
            (x, y, x + rng.uniform(30, 230), y + rng.uniform(30, 230), int(rng.integers(3)), rng.uniform(0.1, 1))
        )
    parts = []
    for window in tiles.windows(size_hw):
        inside = [one for one in objects if _visible(one[:4], window)]
        parts.append(seen(window, *inside))
    found = together(*parts, size_hw=size_hw)
    assert len(found) == len(objects)
    expected: NDArray[np.float32] = np.array(sorted(one[:4] for one in objects), np.float32).reshape(-1, 4)
    np.testing.assert_allclose(np.array(sorted(boxes(found))).reshape(-1, 4), expected, atol=0.01)


def _visible(box: tuple[float, ...], window: Window) -> bool:
    """Return whether a tenth of a box is in the window."""
    width = min(box[2], window.right) - max(box[0], window.left)
    height = min(box[3], window.bottom) - max(box[1], window.top)
    return width > 0 and height > 0 and width * height > 0.1 * (box[2] - box[0]) * (box[3] - box[1])


def test_a_detector_in_tiles() -> None:
    runtime = FakeRuntime()
    image = np.zeros((*SIZE_HW, 3), np.uint8)
    found = InProcessDetector(runtime).detect(image, tiles=TILES, score_threshold=0.5)
    assert found.image_size_hw == SIZE_HW and found.image is image and found.card == FAKE_CARD
    assert 1 <= len(found) <= 6 and found.boxes_xyxy.max() > 1000
    whole = InProcessDetector(runtime).detect(image[:100, :100], tiles=TILES)
    np.testing.assert_array_equal(whole.boxes_xyxy, InProcessDetector(runtime).detect(image[:100, :100]).boxes_xyxy)
