"""A detector between the images and its runtime."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_core import tensors
from resnest_core.detector import InProcessDetector, checked_threshold
from resnest_core.drawing import encode
from resnest_core.errors import NotAnImageError, ParameterError
from resnest_core.images import Pixels
from resnest_core.preprocess import prepare
from resnest_core.runtimes import FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD

BOXES_ONLY = FAKE_CARD.model_copy(update={"mask_size": None})


def plain(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), 90, np.uint8)


def test_each_image_of_a_batch_has_its_own_threshold_and_masks() -> None:
    runtime = FakeRuntime(count=4)  # scores 0.9, 0.72, 0.576, 0.461
    detector = InProcessDetector(runtime)
    sizes = [(30, 50), (50, 30), (40, 40)]
    images = [prepare(plain(*size), detector.card) for size in sizes]
    found = detector.infer(images, [0.05, 0.6, 0.95], [True, False, True])
    assert len(runtime.calls) == 1
    assert [len(one) for one in found] == [4, 2, 0]
    assert [one.image_size_hw for one in found] == sizes
    assert [one.masks is None for one in found] == [False, True, False]
    for one, (height, width) in zip(found[:2], sizes, strict=False):
        assert one.boxes_xyxy[:, 2].max() == pytest.approx(0.9 * width)
        assert one.boxes_xyxy[:, 3].max() == pytest.approx(0.9 * height)


def test_what_the_runtime_is_given() -> None:
    runtime = FakeRuntime()
    InProcessDetector(runtime).detect(plain(40, 60), masks=False)
    [inputs] = runtime.calls
    assert {name: array.dtype for name, array in inputs.items()} == {
        name: np.dtype(kind) for name, kind in tensors.INPUT_TYPES.items()
    }
    assert inputs[tensors.IMAGES].shape == (1, 320, 480, 3)  # 40×60 fits 320×480, of 533×320
    assert inputs[tensors.IMAGE_SIZES].tolist() == [[320, 480]]
    assert inputs[tensors.ORIGINAL_SIZES].tolist() == [[40, 60]]
    assert inputs[tensors.SCORE_THRESHOLDS].tolist() == [[pytest.approx(0.05)]]
    assert inputs[tensors.WANT_MASKS].tolist() == [[False]]


@pytest.mark.parametrize("masks", [True, False])
def test_a_model_without_masks_gives_none(masks: bool) -> None:
    assert InProcessDetector(FakeRuntime(BOXES_ONLY)).detect(plain(9, 9), masks=masks).masks is None


def test_no_detection_keeps_the_shapes() -> None:
    found = InProcessDetector(FakeRuntime(count=0)).detect(plain(9, 9))
    assert (found.boxes_xyxy.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))
    assert found.masks is not None and found.masks.shape == (0, 28, 28)


@pytest.mark.parametrize("size_hw", [(1, 1), (20, 1), (50, 1000), (1000, 50)])
def test_extreme_shapes_are_answered(size_hw: tuple[int, int]) -> None:
    found = InProcessDetector(FakeRuntime()).detect(encode(plain(*size_hw), "image/png"))
    assert len(found) == 3 and found.image_size_hw == size_hw


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf, -0.001, 1.001, 50])
def test_a_threshold_out_of_range_is_refused_before_anything_runs(threshold: float) -> None:
    runtime = FakeRuntime()
    with pytest.raises(ParameterError, match="score_threshold must be a number from 0 to 1, not "):
        InProcessDetector(runtime).detect(plain(9, 9), score_threshold=threshold)
    assert runtime.calls == []


@given(st.floats(0, 1))
def test_a_threshold_is_at_least_the_models(threshold: float) -> None:
    assert checked_threshold(threshold, FAKE_CARD) == max(threshold, 0.05)
    assert checked_threshold(None, FAKE_CARD) == 0.05


def test_a_bad_image_is_refused_before_anything_runs() -> None:
    runtime = FakeRuntime()
    with pytest.raises(NotAnImageError):
        InProcessDetector(runtime).detect(b"no image")
    assert runtime.calls == []


def test_closing_closes_the_runtime() -> None:
    class Closing(FakeRuntime):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    runtime = Closing()
    with InProcessDetector(runtime):
        assert runtime.closed == 0
    assert runtime.closed == 1
