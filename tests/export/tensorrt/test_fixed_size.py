"""Selection of detections from a limited number of candidates, and the count of candidates."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from resnest_core.errors import ParameterError
from resnest_export.models import ZOO, build
from resnest_export.tensorrt.fixed_size import FixedSizeDetector, all_rois, check_settings
from tests.export.mmdet_config.texts import changed

CLASSES = 4
DEMO = build(ZOO["demo"])
THRESHOLD = torch.full((2, 1), 0.05)


def proposals(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Scores (2, P, C), all different, and boxes (2, P, 1, 4)."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(2, count, CLASSES, generator=generator)
    corner = 100 * torch.rand(2, count, 1, 2, generator=generator)
    return scores, torch.cat([corner, corner + 1 + 50 * torch.rand(2, count, 1, 2, generator=generator)], dim=-1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 60), floor=st.floats(0.05, 0.95))
def test_the_best_candidates_are_enough(seed: int, count: int, floor: float) -> None:
    scores, boxes = proposals(seed, count)
    threshold = torch.full((2, 1), floor)
    above = int((scores > floor).sum((1, 2)).max())
    expected = DEMO.best(scores, boxes, threshold)
    answer = DEMO.best(scores, boxes, threshold, most=max(above, 1))
    found = expected[1] > -torch.inf
    assert torch.equal(answer[1], expected[1])
    for ours, theirs in zip(answer, expected, strict=True):
        assert torch.equal(ours[found], theirs[found])


def test_of_more_candidates_the_best_are_looked_at() -> None:
    scores, boxes = proposals(0, 50)
    boxes += 1000 * torch.arange(50)[:, None, None]  # no two overlap
    limited = DEMO.best(scores, boxes, THRESHOLD, most=10)[1]
    assert torch.equal(limited[:, :10], scores.flatten(1).sort(descending=True).values[:, :10])
    assert (limited[:, 10:] == -torch.inf).all()


def test_candidates_are_counted() -> None:
    detector = FixedSizeDetector(build(ZOO["demo"]))
    images, sizes = torch.zeros(2, 3, 64, 96), torch.tensor([[64, 96]] * 2)
    with torch.inference_mode():
        detector(images, sizes, torch.full((2, 1), -1.0), torch.ones(2, 1, dtype=torch.bool))
    assert detector.most_candidates == 1000 * 80


def test_rois_name_their_image() -> None:
    boxes = torch.arange(16.0).view(2, 2, 4)
    assert all_rois(boxes).tolist() == [[0, 0, 1, 2, 3], [0, 4, 5, 6, 7], [1, 8, 9, 10, 11], [1, 12, 13, 14, 15]]


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("model.test_cfg.rcnn.nms", {"type": "soft_nms", "iou_threshold": 0.5}, "soft-NMS"),
        ("model.test_cfg.rpn.nms_pre", 1001, "test_rpn.nms_pre 1001, more than the 1000"),
        ("model.test_cfg.rpn.max_per_img", 3841, "test_rpn.max_per_img 3841, more than TopK's 3840"),
        ("model.data_preprocessor.pad_size_divisor", 1, "padding to multiples of 1, which isn't"),
    ],
)
def test_what_an_engine_cannot_do_is_refused_with_the_reason(path: str, value: object, reason: str) -> None:
    with pytest.raises(ParameterError, match=f"A TensorRT engine can't have .*{reason}.*: export to onnx"):
        check_settings(changed(path, value))


def test_what_an_engine_can_do_is_not_refused() -> None:
    check_settings(ZOO["cascade_mask_rcnn_s101"].settings)
    check_settings(changed("model.test_cfg.rpn.nms_pre", 1000))
