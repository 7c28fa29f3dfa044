"""Soft-NMS against mmcv's loop written plainly, in PyTorch and as the ONNX function in both runtimes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import openvino
import pytest
import torch
from torch import Tensor

from resnest_export.mmdet_config.settings import NMSSettings
from resnest_export.onnx_domain import DOMAIN, VERSION
from resnest_export.ops.functions import BatchedSoftNMS
from resnest_export.ops.nms import iou
from resnest_export.ops.soft_nms import METHODS, batched_soft_nms

LIMIT = 12


def candidates(seed: int, images: int = 2, count: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes that overlap a lot, their scores, some of which are none, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, count, 2, generator=generator) * 30
    boxes = torch.cat([corner, corner + 20 + torch.rand(images, count, 2, generator=generator) * 20], dim=2)
    scores = torch.rand(images, count, generator=generator)
    scores = scores.masked_fill(torch.rand(images, count, generator=generator) < 0.3, -torch.inf)
    scores[1, 5:] = -torch.inf  # fewer than fit
    return boxes, scores, torch.randint(0, 3, (images, count), generator=generator).int()


def plain(boxes: Tensor, scores: Tensor, groups: Tensor, method: Any, least: float) -> list[tuple[int, float]]:
    """Return what one image keeps: place and lowered score."""
    left = {i: float(score) for i, score in enumerate(scores) if score > -math.inf}
    taken: list[tuple[int, float]] = []
    while left and len(taken) < LIMIT:
        best = max(left, key=lambda i: (left[i], -i))
        taken.append((best, left.pop(best)))
        for i in list(left):
            overlap = iou(boxes[i], boxes[best]) if groups[i] == groups[best] else 0.0
            if method == "gaussian":
                left[i] *= math.exp(-(overlap**2) / 0.5)
            elif overlap >= 0.3:
                left[i] *= 1 - overlap if method == "linear" else 0
            if left[i] < least:
                del left[i]
    return taken


def model(method: Any, least: float) -> onnx.ModelProto:
    node = onnx.helper.make_node(
        "BatchedSoftNMS",
        ["boxes", "scores", "groups"],
        ["indices", "lowered"],
        domain=DOMAIN,
        method=METHODS[method],
        max_output=LIMIT,
        iou_threshold=0.3,
        sigma=0.5,
        min_score=least,
    )
    kinds, value = onnx.TensorProto, onnx.helper.make_tensor_value_info
    inputs = [
        value("boxes", kinds.FLOAT, ["B", "M", 4]),
        value("scores", kinds.FLOAT, ["B", "M"]),
        value("groups", kinds.INT32, ["B", "M"]),
    ]
    outputs = [value("indices", kinds.INT32, ["B", LIMIT]), value("lowered", kinds.FLOAT, ["B", LIMIT])]
    return onnx.helper.make_model(
        onnx.helper.make_graph([node], "soft_nms", inputs, outputs),
        opset_imports=[onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(DOMAIN, VERSION)],
        functions=[BatchedSoftNMS.to_function_proto()],
        ir_version=10,
    )


def assert_is_plain(indices: Tensor, lowered: Tensor, inputs: Sequence[Tensor], method: Any, least: float) -> None:
    boxes, scores, groups = inputs
    for row in range(len(boxes)):
        expected = plain(boxes[row], scores[row], groups[row], method, least)
        count = len(expected)
        assert indices[row, :count].tolist() == [place for place, _ in expected]
        assert (indices[row, count:] == -1).all()
        torch.testing.assert_close(lowered[row, :count], torch.tensor([score for _, score in expected]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("least", [0.0, 0.2])
def test_pytorch(method: Any, least: float) -> None:
    for seed in range(10):
        inputs = candidates(seed)
        settings = NMSSettings("soft_nms", 0.3, method=method, sigma=0.5, min_score=least)
        indices, lowered = batched_soft_nms(*inputs, settings, max_output=LIMIT)
        assert_is_plain(indices, lowered, inputs, method, least)


@pytest.mark.parametrize("method", METHODS)
def test_exported(method: Any, tmp_path: Path) -> None:
    path = tmp_path / "soft_nms.onnx"
    onnx.save(model(method, 0.05), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    plain_path = tmp_path / "plain.onnx"
    onnx.save(onnx.inliner.inline_local_functions(onnx.load(path)), plain_path)
    compiled = openvino.compile_model(plain_path, "CPU")
    nothing = (torch.zeros(2, 3, 4), torch.full((2, 3), -torch.inf), torch.zeros(2, 3, dtype=torch.int32))
    for inputs in (*map(candidates, range(5)), nothing):
        feed = dict(zip(("boxes", "scores", "groups"), (tensor.numpy() for tensor in inputs), strict=True))
        found = session.run(None, feed)
        assert_is_plain(torch.from_numpy(found[0]), torch.from_numpy(found[1]), inputs, method, 0.05)
        result = compiled(feed)
        indices, lowered = (torch.from_numpy(np.array(result[i])) for i in (0, 1))
        assert_is_plain(indices, lowered, inputs, method, 0.05)
