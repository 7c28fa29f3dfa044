"""The 16-bit parts of a detector, computed by PyTorch on the CPU: which they are, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from resnest_core.images import load_image
from resnest_core.preprocess import prepare, stack
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.tensorrt.graph import fixed_size_network
from tests.export import goldens
from tests.export.tensorrt.conftest import detector

PHOTOGRAPH = "000000000544"
FEW = 100  # proposals, as 16 bits are slow on CPUs
DECIDING = ("rpn_cls_reg", "fc_cls", "fc_reg", "attention.fc1", "attention.fc2")
FOUND = {torch.float16: 0.95, torch.bfloat16: 0.75}  # of the detections, by class and place


@pytest.fixture(scope="module")
def inputs() -> list[torch.Tensor]:
    image = prepare(load_image(goldens.photograph_path(PHOTOGRAPH)), goldens.card("demo"))
    return [*(torch.from_numpy(array) for array in stack([image]).values()), torch.full((1, 1), 0.3)]


@pytest.fixture(scope="module", params=[torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    kind: torch.dtype = request.param
    return kind


@pytest.fixture(scope="module")
def half(dtype: torch.dtype) -> Iterator[DeployedDetector]:
    yield DeployedDetector(fixed_size_network(detector("demo", max_proposals=FEW), dtype), goldens.card("demo"))


def test_each_layer_has_its_type(half: DeployedDetector, dtype: torch.dtype, inputs: list[torch.Tensor]) -> None:
    seen: dict[str, torch.dtype] = {}
    for name, module in half.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            module.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0].dtype}))
    with torch.inference_mode():
        outputs = half(*inputs)
    # TensorRT-RTX builds no transposed convolution in bfloat16.
    is_kept = {name: "upsample" in name and dtype is torch.bfloat16 for name in seen}
    for name, kind in seen.items():
        expected = torch.float32 if any(part in name for part in DECIDING) or is_kept[name] else dtype
        assert kind is expected, name
    assert sum(kind is dtype for kind in seen.values()) > 30
    assert [tensor.dtype for tensor in outputs] == [torch.int64, torch.float32, torch.float32, torch.int64, torch.half]


def test_detections_are_nearly_those_of_float32(
    half: DeployedDetector, dtype: torch.dtype, inputs: list[torch.Tensor]
) -> None:
    exact = DeployedDetector(detector("demo", max_proposals=FEW), goldens.card("demo"))
    with torch.inference_mode():
        (count, boxes, _, labels, _), (other, ours, _, kinds, _) = exact(*inputs), half(*inputs)
    assert count >= 5
    n, m = int(count), int(other)
    distance = np.abs(boxes[0, :n, None].numpy() - ours[0, None, :m].numpy()).max(-1)
    again = (distance < 4) & (labels[0, :n, None].numpy() == kinds[0, None, :m].numpy())
    assert again.any(1).mean() >= FOUND[dtype]
