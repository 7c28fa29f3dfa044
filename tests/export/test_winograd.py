"""Winograd convolutions compared with PyTorch's, and where they are used."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx.inliner import inline_local_functions
from torch import nn

from resnest_export.batch_norm_folding import fold_batch_norm
from resnest_export.mmdet_config.settings import BatchNormSettings
from resnest_export.models import ZOO, build
from resnest_export.models.layers import ConvModule
from resnest_export.onnx_domain import DOMAIN, VERSION
from resnest_export.ops.functions import function_bodies
from resnest_export.winograd import WinogradConv, WinogradConvs, transformed, transforms, use_winograd


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


def function(conv: nn.Conv2d) -> bytes:
    """Return an ONNX model that calls the function, for maps of any size."""
    module = WinogradConv(conv)
    assert conv.bias is not None
    weights = transformed(conv, module.of_weights)
    arrays = {
        "weights": weights,
        "identity": module.identity,
        "bias": conv.bias,
        "into": module.into,
        "back": module.back,
    }
    node = onnx.helper.make_node("WinogradConv", ["x", *arrays], ["y"], domain=DOMAIN, channels=conv.out_channels)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "winograd",
        [info("x", onnx.TensorProto.FLOAT, ["b", conv.in_channels, "h", "w"])],
        [info("y", onnx.TensorProto.FLOAT, ["b", conv.out_channels, "h", "w"])],
        [onnx.numpy_helper.from_array(array.detach().contiguous().numpy(), name) for name, array in arrays.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(DOMAIN, VERSION)]
    model = onnx.helper.make_model(graph, functions=function_bodies(graph), opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(inline_local_functions(model).SerializeToString())


def runs(conv: nn.Conv2d) -> dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]]:
    """Return the function in both runtimes."""
    model = function(conv)
    session = onnxruntime.InferenceSession(model)
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {
        "onnxruntime": lambda x: np.asarray(session.run(None, {"x": x})[0]),
        "openvino": lambda x: np.array(compiled(x)[0]),
    }


@functools.cache
def small() -> tuple[nn.Conv2d, dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]]]:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 5, 3, padding=1)
    return conv, runs(conv)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 14), width=st.integers(1, 14), batch=st.integers(1, 3), seed=st.integers(0, 99))
def test_maps_of_any_size(runtime: str, height: int, width: int, batch: int, seed: int) -> None:
    conv, functions = small()
    torch.manual_seed(seed)
    x = torch.randn(batch, 8, height, width)
    with torch.no_grad():
        expected = conv(x).numpy()
    np.testing.assert_allclose(functions[runtime](x.numpy()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_error_at_the_pyramids_width(runtime: str) -> None:
    """Two convolutions, as of FPN and RPN, with no more than the error of the heads' four."""
    torch.manual_seed(0)
    convs, x = nn.Sequential(*[nn.Conv2d(256, 256, 3, padding=1) for _ in range(2)]), torch.randn(1, 256, 25, 38)
    answer = x.numpy()
    for conv in convs:
        assert isinstance(conv, nn.Conv2d)
        answer = runs(conv)[runtime](answer)
    with torch.no_grad():
        expected = convs.double()(x.double()).numpy()
    assert np.abs(answer - expected).max() <= 1e-5 * np.abs(expected).max()


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
    ("name", "heads", "maps"),
    [("mask_rcnn_s50", 2, 5), ("cascade_rcnn_s50", 3, 5), ("cascade_mask_rcnn_s50", 6, 5), ("demo", 0, 0)],
)
def test_wide_convolutions_use_it(name: str, heads: int, maps: int) -> None:
    with torch.device("meta"):
        detector = build(ZOO[name])
        fold_batch_norm(detector)
    use_winograd(detector)
    kinds = [type(module) for module in detector.modules()]
    assert (kinds.count(WinogradConvs), kinds.count(WinogradConv)) == (heads, maps)
