"""A whole detector in PyTorch with the kernels' operators: what can be verified of it without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from resnest_core import tensors
from resnest_core.card import ModelCard, read_card
from resnest_core.tensors import Tensors
from resnest_export.models import ZOO, build, detector, roi_heads, rpn
from tests.core.networks import DEMO
from tests.weights import demo_state_dict
from tools.gpu_check import pytorch_detector
from tools.gpu_check.comparison import two_images
from tools.gpu_check.outcome import Outcome
from tools.gpu_check.pytorch_network import CopiedConstants, PyTorchRuntime, deployed

SHAPE_HW = (320, 448)


def stand_in_roi_align(features: Sequence[Tensor], rois: Tensor, *, output_size: int, **_: Any) -> Tensor:
    return features[0].new_empty(len(rois), features[0].shape[1], output_size, output_size)


def stand_in_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, *, iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    assert boxes.dtype == scores.dtype == torch.float32 and groups.dtype == torch.int32 and 0 < iou_threshold < 1
    return groups.new_empty(len(scores), max_output), groups.new_empty(len(scores), 1)


class FromTheHost(TorchFunctionMode):
    """Notes what makes a tensor of numbers, or reads one in the host's memory, where a mode within lets it through."""

    MAKING = (Tensor.new_tensor, torch.tensor, torch.as_tensor, torch.from_numpy)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = any(isinstance(leaf, Tensor) and leaf.is_cpu for leaf in tree_leaves((args, kwargs)))
        if func in self.MAKING or read:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("name", "dtype"), [("demo", torch.float16), ("mask_rcnn_s50", torch.float16), ("cascade_rcnn_s50", torch.float32)]
)
def test_a_run_can_be_captured(name: str, dtype: torch.dtype) -> None:
    """On a device without values, what asks for one fails; and from the second run on nothing comes from the host."""
    card = read_card(DEMO)
    if not ZOO[name].masks:
        card = card.model_copy(update={"mask_size": None})
    network = deployed(build(ZOO[name]), card, dtype, "meta")
    sizes = torch.empty(2, 2, dtype=torch.int64, device="meta")
    inputs = [
        torch.empty(2, *SHAPE_HW, 3, dtype=torch.uint8, device="meta"),
        sizes,
        sizes,
        torch.empty(2, 1, device="meta"),
    ]
    with (
        torch.inference_mode(),
        FromTheHost() as host,
        CopiedConstants(),
        patch.object(roi_heads, "multi_level_roi_align", stand_in_roi_align),
        patch.object(rpn, "batched_nms", stand_in_nms),
        patch.object(detector, "batched_nms", stand_in_nms),
    ):
        network(*inputs)
        assert host.found, "nothing is noted"
        host.found.clear()
        outputs = network(*inputs)
    assert not host.found
    assert [each.dtype for each in outputs[:4]] == [torch.int64, torch.float32, torch.float32, torch.int64]


class Stale(PyTorchRuntime):
    """Answers the request before, if it had the same shape."""

    def run(self, inputs: Tensors) -> Tensors:
        before, self.before = getattr(self, "before", inputs), inputs
        is_same = before[tensors.IMAGES].shape == inputs[tensors.IMAGES].shape
        return super().run(before if is_same else inputs)


@pytest.fixture
def small_demo() -> tuple[detector.TwoStageDetector, ModelCard]:
    """The demo at half its size, with few proposals, which take most of its time."""
    weights = demo_state_dict()
    small = build(ZOO["demo"].with_proposals(100))
    small.load_state_dict(weights)
    return small, read_card(DEMO).model_copy(update={"test_scale": (267, 160)})


@pytest.mark.parametrize(
    ("kind", "precision", "states"),
    [
        (PyTorchRuntime, "fp32", ["passed"] * 3),
        (PyTorchRuntime, "fp16", ["passed"] * 3),
        (Stale, "fp32", ["failed", "passed", "passed"]),
    ],
)
def test_a_whole_detector_is_compared_with_the_reference(
    small_demo: tuple[detector.TwoStageDetector, ModelCard],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: type[PyTorchRuntime],
    precision: str,
    states: list[str],
) -> None:
    """The same code as on a GPU, on the CPU, with the references of the operators and without a graph."""
    made: list[PyTorchRuntime] = []

    def make(*arguments: Any, **options: Any) -> PyTorchRuntime:
        made.append((kind if made else PyTorchRuntime)(*arguments, **options))  # the first is the reference
        return made[-1]

    monkeypatch.setattr(pytorch_detector, "PyTorchRuntime", make)
    monkeypatch.setattr(pytorch_detector, "TIMED", 1)
    pytorch_detector.check(*small_demo, "cpu", two_images(), [(precision, False)])
    outcomes = [outcome for line in capsys.readouterr().out.splitlines() if (outcome := Outcome.hear(line))]
    assert [outcome.check.rpartition(", ")[2] for outcome in outcomes] == ["alone", "in a batch", "time"]
    assert [outcome.state.value for outcome in outcomes] == states, outcomes


def test_without_cuda_the_rows_say_not_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    pytorch_detector.main()
    assert "not run" in capsys.readouterr().out


KERNELS = """
import torch
from resnest_export import ops
from tools.gpu_check import triton_operators as kernels

random = torch.Generator().manual_seed(0)
for last in (False, True):
    maps = [torch.randn(2, 16, 64 // s, 96 // s, generator=random) for s in (1, 2, 4, 8)]
    if last:
        maps = [each.contiguous(memory_format=torch.channels_last) for each in maps]
    corners = torch.rand(6, 2, generator=random) * 200
    rois = torch.cat([torch.tensor([0.0, 1, 0, 1, 0, 1])[:, None], corners, corners + 90], 1)
    options = dict(output_size=7, strides=(4, 8, 16, 32))
    found = kernels.multi_level_roi_align(maps, rois, **options)
    assert found.is_contiguous(memory_format=torch.channels_last) is last
    torch.testing.assert_close(found, ops.multi_level_roi_align(maps, rois, **options), atol=2e-4, rtol=0)
    assert kernels.multi_level_roi_align(maps, rois[:0], **options).shape == (0, 16, 7, 7)
boxes = torch.rand(2, 60, 4, generator=random) * 50
boxes[..., 2:] += boxes[..., :2]
scores, groups = torch.rand(2, 60, generator=random), torch.randint(0, 3, (2, 60), dtype=torch.int32)
for found, expected in zip(*(each(boxes, scores, groups, iou_threshold=0.5, max_output=30)
                             for each in (kernels.batched_nms, ops.batched_nms)), strict=True):
    assert torch.equal(found, expected)
from resnest_export.models import detector, roi_heads, rpn
before = detector.batched_nms, rpn.batched_nms, roi_heads.multi_level_roi_align
with kernels.kernels_in_models():
    within = detector.batched_nms, rpn.batched_nms, roi_heads.multi_level_roi_align
assert within == (kernels.batched_nms, kernels.batched_nms, kernels.multi_level_roi_align) != before
assert (detector.batched_nms, rpn.batched_nms, roi_heads.multi_level_roi_align) == before
"""


def test_the_operators_in_the_models_are_the_kernels() -> None:
    """In the Triton language's interpreter, which must be chosen before Triton is imported."""
    result = subprocess.run(
        [sys.executable, "-c", KERNELS],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
