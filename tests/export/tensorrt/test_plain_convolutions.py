"""Split attention in plain convolutions, compared with the grouped form; and means of maps in 16 bits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from resnest_export.batch_norm_folding import fold_batch_norm
from resnest_export.mmdet_config.settings import BackboneSettings
from resnest_export.models import ZOO, build
from resnest_export.models.resnest import Bottleneck
from resnest_export.tensorrt.plain_convolutions import PlainBottleneck, mean_of_map, use_plain_convolutions

SETTINGS = BackboneSettings((1, 1, 1, 1))


def bottleneck(radix: int, stride: int, pools: bool, project: bool) -> Bottleneck:
    """A bottleneck of 8 channels with batch norms that have seen other values than 0 and 1, folded."""
    torch.manual_seed(radix)
    settings = replace(SETTINGS, radix=radix, avg_down_stride=pools)
    block = Bottleneck(settings, 16 if project else 32, 8, stride, project).eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_var):
                values.data.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    fold_batch_norm(block)
    return block


@pytest.mark.parametrize("radix", [1, 2, 4])
@pytest.mark.parametrize(
    ("stride", "pools", "project"), [(1, True, False), (1, True, True), (2, True, True), (2, False, True)]
)
@pytest.mark.parametrize("block", [1, 4])
def test_the_same_as_with_groups(radix: int, stride: int, pools: bool, project: bool, block: int) -> None:
    grouped = bottleneck(radix, stride, pools, project)
    x = torch.rand(2, 16 if project else 32, 8 * stride, 12 * stride)
    with torch.inference_mode():
        expected = grouped(x)
        plain = PlainBottleneck(grouped, block)
        torch.testing.assert_close(plain(x), expected)
    convolutions = [module for module in plain.modules() if isinstance(module, nn.Conv2d)]
    assert all(conv.groups == 1 for conv in convolutions)
    assert len(convolutions) == 2 * radix + 3 + project


def test_every_block_of_a_detector_is_replaced() -> None:
    detector = build(ZOO["demo"])
    fold_batch_norm(detector)
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        expected = detector.backbone(images)
        use_plain_convolutions(detector)
        for ours, theirs in zip(detector.backbone(images), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, Bottleneck) for module in detector.modules())
    pools = [module for module in detector.backbone.modules() if isinstance(module, nn.AvgPool2d)]
    assert len(pools) == 6 and not any(pool.ceil_mode for pool in pools)


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_mean_neither_overflows_nor_loses_small_values(dtype: torch.dtype, block: int) -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 2, 200, 336).mul(torch.tensor([600.0, 0.01])[:, None, None]).to(dtype)
    assert x.sum() > torch.finfo(torch.float16).max
    mean = mean_of_map(x, block)
    assert mean.dtype is torch.float32
    exact = x.double().mean((2, 3), keepdim=True).float()
    torch.testing.assert_close(mean, exact, rtol=1e-4 if dtype is torch.float32 else 2e-3, atol=0)
