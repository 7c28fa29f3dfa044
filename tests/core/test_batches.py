"""Many images through one network: order, batches of one shape, bounded reading ahead, errors in their places."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_core import InProcessDetector, tensors
from resnest_core.batches import AHEAD
from resnest_core.detections import Detections
from resnest_core.errors import NotAnImageError, ParameterError, ResNeStError, RuntimeUnavailableError
from resnest_core.images import Image, Pixels
from resnest_core.runtimes.fake import FakeRuntime
from resnest_core.tensors import Tensors

SHAPES = [(320, 480), (480, 320), (100, 300)]


def image(shape: tuple[int, int], value: int = 0) -> Pixels:
    return np.full((*shape, 3), value, np.uint8)


@given(st.lists(st.sampled_from([*SHAPES, None]), max_size=12), st.integers(1, 5))
def test_every_image_gets_its_answer_in_order(shapes: list[tuple[int, int] | None], batch_size: int) -> None:
    images: list[Image] = [b"no image" if shape is None else image(shape) for shape in shapes]
    runtime = FakeRuntime()
    detector = InProcessDetector(runtime)
    answers = list(detector.detect_many(images, batch_size=batch_size, on_error="yield"))
    assert len(answers) == len(images)
    for shape, given_image, answer in zip(shapes, images, answers, strict=True):
        if shape is None:
            assert isinstance(answer, NotAnImageError)
        else:
            assert isinstance(answer, Detections)
            assert answer.image_size_hw == shape and answer.image is given_image
            np.testing.assert_array_equal(answer.boxes_xyxy, detector.detect(given_image).boxes_xyxy)
    batches = [call[tensors.IMAGES].shape for call in runtime.calls[: len(runtime.calls)]]
    assert all(shape[0] <= batch_size for shape in batches)


def test_images_of_one_shape_share_batches_across_others() -> None:
    runtime = FakeRuntime()
    list(InProcessDetector(runtime).detect_many([image(SHAPES[index % 2]) for index in range(8)]))
    assert [len(call[tensors.IMAGES]) for call in runtime.calls] == [4, 4]


def test_reading_is_lazy_and_the_next_batch_runs_meanwhile() -> None:
    read, second_runs = [0], threading.Event()

    def images() -> Iterator[Pixels]:
        while True:
            read[0] += 1
            yield image(SHAPES[0])

    def before_run(inputs: Tensors) -> None:  # noqa: ARG001
        if len(runtime.calls) == 2:
            second_runs.set()

    runtime = FakeRuntime(before_run=before_run)
    results = InProcessDetector(runtime).detect_many(images(), batch_size=2)
    assert read == [0]
    next(results)
    assert second_runs.wait(10)  # while the caller holds the first result
    for _ in range(20):
        next(results)
    assert read[0] <= 21 + AHEAD * 2
    results.close()  # type: ignore[attr-defined]


def test_errors_end_it_or_are_yielded() -> None:
    images: list[Image] = [image(SHAPES[0]), "absent.jpg", image(SHAPES[0])]
    detector = InProcessDetector(FakeRuntime())
    results = detector.detect_many(images)
    assert len(next(results)) == 3
    with pytest.raises(NotAnImageError, match=r"absent.jpg can't be read"):
        next(results)
    kinds = [type(answer) for answer in detector.detect_many(images, on_error="yield")]
    assert kinds == [Detections, NotAnImageError, Detections]


def test_an_error_of_the_runtime_is_each_of_its_batchs() -> None:
    def fail(inputs: Tensors) -> None:  # noqa: ARG001
        raise RuntimeUnavailableError("The GPU is gone.")

    detector = InProcessDetector(FakeRuntime(before_run=fail))
    answers = list(detector.detect_many([image(SHAPES[0])] * 3, on_error="yield"))
    assert [isinstance(answer, ResNeStError) for answer in answers] == [True] * 3


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"on_error": "ignore"}, "on_error must be raise or yield"),
        ({"score_threshold": 2}, "score_threshold"),
    ],
)
def test_arguments_are_checked_at_once(options: dict[str, object], match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        InProcessDetector(FakeRuntime()).detect_many([], **options)  # type: ignore[call-overload]
