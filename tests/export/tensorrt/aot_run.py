"""Builds a node of each operator as TensorRT would, with NVIDIA's `tensorrt.plugin` over a stand-in; prints JSON."""

from __future__ import annotations

import inspect
import json
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.export.tensorrt.stand_in import (
    Dims,
    DynamicPluginTensorDesc,
    IDimensionExpr,
    IExprBuilder,
    PluginField,
    PluginTensorDesc,
    registry,
    trt,
)

Shape = tuple[int | str, ...]


def field(name: str, value: Any) -> PluginField:
    """An attribute as the parser of ONNX hands it over: always an array, in float32 or int32."""
    array = np.array(value, np.float32 if isinstance(value, float) else np.int32).reshape(-1)
    return PluginField(name, array, trt.PluginFieldType.FLOAT32)


def node(operator: str, attributes: dict[str, Any], tensors: list[tuple[Shape, str]]) -> dict[str, Any]:
    """Go through all that TensorRT asks of a plugin until it has the kernel of the first combination."""
    creator = registry.creators[f"resnest::{operator}"]
    fields = [field(name, value) for name, value in attributes.items()]
    request = trt.QuickPluginCreationRequest.STRICT_AOT
    plugin = creator.create_plugin(operator, "resnest", fields, trt.TensorRTPhase.BUILD, request)
    types = [getattr(trt, dtype) for _, dtype in tensors]
    output_types = plugin.get_output_data_types(types, [len(shape) for shape, _ in tensors])
    inputs = [[IDimensionExpr(side) for side in shape] for shape, _ in tensors]
    shapes = [[side.value for side in shape] for shape in plugin.get_output_shapes(inputs, [], IExprBuilder())]

    every = [*zip((shape for shape, _ in tensors), types, strict=True), *zip(shapes, output_types, strict=True)]
    descs = [desc(shape, dtype) for shape, dtype in every]
    dynamic = [DynamicPluginTensorDesc(each) for each in descs]
    supported = plugin.get_supported_format_combinations(dynamic, len(inputs))
    combinations = [supported[at : at + len(descs)] for at in range(0, len(supported), len(descs))]
    for each, chosen in zip(descs, combinations[0], strict=True):
        each.type, each.format = chosen.type, chosen.format
    plugin.configure_plugin(dynamic[: len(inputs)], dynamic[len(inputs) :])
    assert plugin.get_valid_tactics() == []
    plugin.set_tactic(0)
    launch, setter = SimpleNamespace(), Setter()
    plugin.get_launch_params(inputs, dynamic, len(inputs), launch, setter, IExprBuilder())
    name, ptx = plugin.get_kernel(descs[: len(inputs)], descs[len(inputs) :])
    return {
        "output_types": [each.name for each in output_types],
        "output_shapes": shapes,
        "formats": [each.format.name for each in descs],
        "combinations": len(combinations),
        "launch": {key: value.expr.value for key, value in vars(launch).items()},
        "scalars": [value.expr.value for value in setter.values],
        "name": name,
        "ptx": ptx.decode(),
    }


def desc(shape: Any, dtype: Any) -> PluginTensorDesc:
    made = PluginTensorDesc()
    made.dims = Dims(side if isinstance(side, int) else -1 for side in shape)
    made.type, made.format = dtype, trt.TensorFormat.LINEAR
    return made


class Setter:
    """Takes the scalars' formulas."""

    def __init__(self) -> None:
        self.nbSymExprs = 0  # TensorRT's name
        self.values: list[Any] = []

    def __setitem__(self, index: int, value: Any) -> None:
        assert index == len(self.values) < self.nbSymExprs
        self.values.append(value)


def maps_and_rois(channels: int, dtype: str) -> list[tuple[Shape, str]]:
    maps: list[tuple[Shape, str]] = [(("b", channels, f"h{i}", f"w{i}"), dtype) for i in range(4)]
    return [*maps, (("r", 5), "float32")]


def main() -> None:
    import tensorrt.plugin as trtp

    from resnest_export.tensorrt.plugins_aot import register

    parameters: list[inspect.Parameter] = []
    real = trtp.register

    def spy(name: str) -> Any:
        def wrapped(function: Any) -> Any:
            parameters.extend(inspect.signature(function).parameters.values())
            return real(name)(function)

        return wrapped

    trtp.register = spy
    register()
    register()  # a second time changes nothing
    roi_align = {"output_size": 7, "strides": [4, 8, 16, 32], "finest_scale": 56.0, "sampling_ratio": 0}
    nms = {"iou_threshold": 0.5, "max_output": 100}
    boxes: list[tuple[Shape, str]] = [(("b", 3840, 4), "float32"), (("b", 3840), "float32"), (("b", 3840), "int32")]
    found = {
        "roi_align": node("MultiLevelRoIAlign", roi_align, maps_and_rois(256, "float16")),
        "float32": node("MultiLevelRoIAlign", roi_align, maps_and_rois(256, "float32")),
        "few_channels": node("MultiLevelRoIAlign", roi_align, maps_and_rois(12, "float16")),
        "nms": node("BatchedNMS", nms, boxes),
        "annotations": [type(each.annotation).__name__ for each in parameters],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
