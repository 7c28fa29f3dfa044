"""The NMS kernel in the Triton language's interpreter: exactly the boxes of the references."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from resnest_core.errors import ParameterError
from resnest_export.kernels.contracts import NmsAttributes
from resnest_export.ops.nms import batched_nms, batched_nms_reference
from tests.export.kernels.interpreter import Interpreter

INF, NAN = float("inf"), float("nan")

Boxes = list[list[float]]


def kept(
    interpreter: Interpreter,
    boxes: Boxes,
    scores: Sequence[float],
    groups: Sequence[int] | None = None,
    *,
    threshold: float = 0.5,
    max_output: int = 4,
) -> list[int]:
    """Return the indices that one image keeps, which both references have to keep as well."""
    problem = (
        torch.tensor([boxes]),
        torch.tensor([scores]),
        torch.tensor([groups or [0] * len(scores)], dtype=torch.int32),
    )
    indices, num = interpreter.nms(*problem, NmsAttributes(threshold, max_output))
    for reference in (batched_nms, batched_nms_reference):
        expected, count = reference(*problem, iou_threshold=threshold, max_output=max_output)
        assert (indices.tolist(), num.tolist()) == (expected.tolist(), count.tolist()), reference.__name__
    assert num.shape == (1, 1)
    found: list[int] = indices[0].tolist()
    assert found[int(num) :] == [-1] * (max_output - int(num))
    return found[: int(num)]


def test_at_the_threshold_a_box_stays(interpreter: Interpreter) -> None:
    boxes: Boxes = [[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 6], [20, 20, 30, 30], [0, 0, 10, 10]]
    # IoU with the first: 0.5, which is at the threshold and stays; 0.6 and 1, which go.
    assert kept(interpreter, boxes, [0.9, 0.8, 0.7, 0.95, 0.6]) == [3, 0, 1]


def test_of_equal_scores_the_first_stays(interpreter: Interpreter) -> None:
    boxes: Boxes = [[0.0, 0, 10, 10], [0, 0, 10, 9], [40, 40, 50, 50], [40, 40, 50, 51]]
    assert kept(interpreter, boxes, [0.5] * 4) == [0, 2]


def test_all_suppressed_by_the_best(interpreter: Interpreter) -> None:
    assert kept(interpreter, [[0.0, 0, 10, 10]] * 9, np.linspace(0.1, 0.9, 9).tolist()) == [8]


def test_none_suppressed_and_the_maximum_reached(interpreter: Interpreter) -> None:
    corners = np.arange(10.0)[:, None] * 20
    boxes = np.hstack([corners, corners, corners + 10, corners + 10]).tolist()
    scores = np.linspace(0.1, 1, 10).tolist()
    assert kept(interpreter, boxes, scores) == [9, 8, 7, 6]
    assert kept(interpreter, boxes, scores, max_output=10) == list(range(9, -1, -1))
    assert kept(interpreter, boxes, scores, max_output=13) == list(range(9, -1, -1))


def test_one_box_and_none(interpreter: Interpreter) -> None:
    assert kept(interpreter, [[0.0, 0, 10, 10]], [0.5], max_output=1) == [0]
    assert kept(interpreter, [[0.0, 0, 10, 10]], [-INF], max_output=1) == []


def test_boxes_without_extent_suppress_nothing(interpreter: Interpreter) -> None:
    boxes: Boxes = [[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10], [5, 0, 5, 10]]
    assert kept(interpreter, boxes, [0.9, 0.8, 0.7, 0.6], threshold=0.0) == [0, 1, 2, 3]


def test_what_is_not_a_number_is_no_box(interpreter: Interpreter) -> None:
    """And costs the others nothing: group 1 lies as far away as without it."""
    good = [0.0, 0, 10, 10]
    boxes: Boxes = [good, [NAN, 0, 9, 9], good, [0, 0, INF, 9], good, [0, -INF, 9, 9], [20, 20, 30, 30], good]
    scores = [NAN, 0.9, 0.8, 0.95, 0.7, 0.85, INF, 0.6]
    assert kept(interpreter, boxes, scores, [0, 0, 0, 1, 1, 0, 0, 1], max_output=8) == [6, 2, 4]


def test_far_groups_are_decided_at_float32s_steps(interpreter: Interpreter) -> None:
    low, high = [0.0, 0, 8, 1.0045], [0.0, 0, 8, 2.0115]  # IoU 0.4994; at steps of 1/128 1.0078 ÷ 2.0078 = 0.502
    boxes: Boxes = [low, high, low, high, [1300.0, 0, 1333, 10]]
    groups = [0, 0, 79, 79, 1]
    assert kept(interpreter, boxes, [0.9, 0.8, 0.7, 0.6, 0.5], groups, max_output=5) == [0, 1, 2, 4]
    # What is no box doesn't widen the image: 79 · 9 away the steps are fine.
    assert kept(interpreter, boxes, [0.9, 0.8, 0.7, 0.6, -INF], groups, max_output=5) == [0, 1, 2, 3]


def test_groups_are_apart_left_of_zero_too(interpreter: Interpreter) -> None:
    boxes: Boxes = [[-30.0, -30, -10, -10], [-9, -9, 1, 1]]
    assert kept(interpreter, boxes, [0.9, 0.8], [1, 0], threshold=0.0) == [0, 1]


def test_what_is_not_there_is_not_at_zero(interpreter: Interpreter) -> None:
    """Three boxes lie in registers for four; those left of zero are 9 wide, or 1310 if there is one at 0 as well."""
    low, high = [-1309.0, -1309, -1301, -1307.9955], [-1309.0, -1309, -1301, -1306.9885]
    boxes: Boxes = [low, high, [-1305, -1305, -1304, -1304]]
    assert kept(interpreter, boxes, [0.9, 0.8, 0.7], [79, 79, 0]) == [0, 1, 2]
    # What is no box counts as one at 0 in the reference, and 79 · 1310 away the steps are coarse.
    assert kept(interpreter, boxes, [0.9, 0.8, -INF], [79, 79, 0]) == [0]


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, float, int]:
    """Boxes that overlap a good deal, of scores with ties and gaps."""
    batch, count = draw(st.sampled_from([1, 3])), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    corners = rng.uniform(-8, 24, (batch, count, 2, 2))
    boxes = np.concatenate([corners.min(2), corners.max(2)], axis=-1).astype(np.float32)
    scores = (rng.integers(1, 20, (batch, count)) / 20).astype(np.float32)
    scores[rng.random((batch, count)) < 0.2] = draw(st.sampled_from([-INF, NAN]))
    if draw(st.booleans()):  # as TopK returns them: another path of the kernel
        scores = -np.sort(-np.nan_to_num(scores, nan=INF), axis=-1)
        boxes[rng.random((batch, count)) < 0.1] = draw(st.sampled_from([NAN, INF, 0.0]))
    groups = rng.integers(0, draw(st.sampled_from([1, 4, 80])), (batch, count)).astype(np.int32)
    arrays = [torch.from_numpy(array) for array in (boxes, scores, groups)]
    return (arrays[0], arrays[1], arrays[2], draw(st.sampled_from([0.0, 0.3, 0.5, 0.7])), draw(st.integers(1, 50)))


@given(problem=problems())
@settings(max_examples=40, deadline=None)
def test_agrees_with_the_reference(
    interpreter: Interpreter, problem: tuple[Tensor, Tensor, Tensor, float, int]
) -> None:
    boxes, scores, groups, threshold, max_output = problem
    indices, num = interpreter.nms(boxes, scores, groups, NmsAttributes(threshold, max_output), compiled_for=64)
    expected, count = batched_nms_reference(boxes, scores, groups, iou_threshold=threshold, max_output=max_output)
    assert indices.tolist() == expected.tolist()
    assert num.tolist() == count.tolist()


def test_sorted_and_unsorted_scores_keep_the_same_boxes(interpreter: Interpreter) -> None:
    """Also those that follow boxes that are none; of equal scores the first, in either order."""
    boxes: Boxes = [[0.0, 0, 10, 10], [0, 0, NAN, 10], [0, 0, 10, 9], [40, 40, 50, 50], [0, 0, 10, 4], [9, 9, 8, 8]]
    assert kept(interpreter, boxes, [0.9, 0.9, 0.5, 0.5, 0.5, -INF]) == [0, 3, 4]
    assert kept(interpreter, boxes, [0.5, 0.9, 0.5, 0.5, 0.9, -INF]) == [4, 0, 3]
    assert kept(interpreter, boxes, [0.9, 0.9, NAN, 0.5, 0.5, -INF]) == [0, 3, 4]
    assert kept(interpreter, boxes, [INF, 0.9, 0.5, -INF, 0.5, 0.5]) == [0, 4, 5]


@pytest.mark.parametrize("is_sorted", [True, False])
@pytest.mark.parametrize(("count", "max_output", "threshold"), [(4096, 100, 0.5), (4096, 1000, 0.7), (1000, 1000, 0.7)])
def test_full_size(interpreter: Interpreter, count: int, max_output: int, threshold: float, is_sorted: bool) -> None:
    """As many as the class stage and the proposals have: classes in a large image, scores with ties."""
    rng = np.random.default_rng(count + max_output)
    corner, size = rng.uniform(0, 1200, (1, count, 2)), rng.uniform(4, 300, (1, count, 2))
    boxes = torch.from_numpy(np.concatenate([corner, corner + size], axis=-1).astype(np.float32))
    scores = torch.from_numpy(rng.integers(1, 2 * count, (1, count)).astype(np.float32) / (2 * count))
    scores[0, ::7] = -INF
    if is_sorted:
        scores = scores.sort(descending=True).values
    groups = torch.from_numpy(rng.integers(0, 80, (1, count)).astype(np.int32))
    indices, num = interpreter.nms(boxes, scores, groups, NmsAttributes(threshold, max_output))
    expected, expected_num = batched_nms(boxes, scores, groups, iou_threshold=threshold, max_output=max_output)
    assert num.item() == expected_num.item() > 0.8 * max_output
    assert indices.tolist() == expected.tolist()


def test_more_boxes_than_fit_are_refused(interpreter: Interpreter) -> None:
    many = torch.zeros(1, 4097)
    with pytest.raises(ParameterError, match=r"at most 4096 boxes of an image on a GPU, not 4097"):
        interpreter.nms(torch.zeros(1, 4097, 4), many, many.int(), NmsAttributes(0.5, 10))
