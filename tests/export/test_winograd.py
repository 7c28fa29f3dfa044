"""Winograd convolutions compared with PyTorch's, and where they are used."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resnest_export.batch_norm_folding import fold_batch_norm
from resnest_export.mmdet_config.settings import BatchNormSettings
from resnest_export.models import ZOO, build
from resnest_export.models.layers import ConvModule
from resnest_export.winograd import WinogradConvs, transforms, use_winograd


def convs(count: int, channels: int) -> list[ConvModule]:
    modules = [ConvModule(channels, channels, 3, norm=BatchNormSettings(), relu=True).eval() for _ in range(count)]
    for module in modules:
        fold_batch_norm(module)
    return modules


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 16), count=st.integers(1, 3), regions=st.integers(0, 4), seed=st.integers(0, 99))
def test_the_convolutions_of_pytorch(size: int, count: int, regions: int, seed: int) -> None:
    torch.manual_seed(seed)
    modules, x = convs(count, 8), torch.randn(regions, 8, size, size)
    with torch.no_grad():
        expected = nn.Sequential(*modules)(x)
        torch.testing.assert_close(WinogradConvs(modules, size)(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [7, 14])
def test_error_at_the_heads_width(size: int) -> None:
    """Four convolutions of 256 channels move a feature by 1e-5 of the largest, where parity allows 1e-3."""
    torch.manual_seed(0)
    modules, x = convs(4, 256), torch.randn(20, 256, size, size).relu()
    with torch.no_grad():
        expected = nn.Sequential(*[module.double() for module in modules])(x.double())
        answer = WinogradConvs([module.float() for module in modules], size)(x)
    assert (answer - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_third_of_the_multiplications() -> None:
    into, back, of_weights = transforms(7)
    assert into.shape == (12, 7)  # two tiles of 6 a side: 144 multiplications instead of 441
    assert (back.shape, of_weights.shape) == ((7, 12), (9, 36))


@pytest.mark.parametrize(
    ("name", "used"), [("mask_rcnn_s50", 2), ("cascade_rcnn_s50", 3), ("cascade_mask_rcnn_s50", 6), ("demo", 0)]
)
def test_wide_heads_use_it(name: str, used: int) -> None:
    with torch.device("meta"):
        detector = build(ZOO[name])
        fold_batch_norm(detector)
    use_winograd(detector)
    assert sum(isinstance(module, WinogradConvs) for module in detector.modules()) == used
