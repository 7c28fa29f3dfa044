"""A stand-in for the part of TensorRT's library that its own `tensorrt.plugin`, which is Python, works on.

Importing this puts it in TensorRT's place: do so in a process of its own, with the folder of `plugin` in $BINDINGS.
"""

from __future__ import annotations

import enum
import os
import sys
from types import ModuleType
from typing import Any

trt: Any = ModuleType("tensorrt")
trt.__path__ = [os.environ["BINDINGS"]]  # whose folder `plugin` is NVIDIA's

ENUMS = {
    "DataType": "FLOAT HALF BF16 INT32 INT8 INT64 BOOL UINT8 FP8 INT4",
    "TensorFormat": "LINEAR HWC HWC8 CHW2 CHW4",
    "PluginFieldType": "INT8 INT16 INT32 INT64 FLOAT16 FLOAT32 FLOAT64 CHAR UNKNOWN",
    "TensorRTPhase": "BUILD RUNTIME",
    "QuickPluginCreationRequest": "STRICT_AOT STRICT_JIT PREFER_AOT PREFER_JIT UNKNOWN",
    "DimensionOperation": "SUM PROD SUB MAX MIN EQUAL LESS FLOOR_DIV CEIL_DIV",
    "PluginArgType": "INT",
    "PluginArgDataType": "INT8 INT16 INT32",
}
for name, members in ENUMS.items():
    setattr(trt, name, enum.EnumMeta.__call__(enum.Enum, name, members))
trt.float32, trt.float16, trt.bfloat16, trt.int32 = list(trt.DataType)[:4]


class Logger:
    WARNING = 2

    def log(self, severity: int, message: str) -> None: ...


class IDimensionExpr:
    """A size: a number, or a formula in words."""

    def __init__(self, value: int | str) -> None:
        self.value = value

    def is_constant(self) -> bool:
        return isinstance(self.value, int)

    def get_constant_value(self) -> int:
        assert isinstance(self.value, int)
        return self.value


class IExprBuilder:
    def constant(self, value: int) -> IDimensionExpr:
        return IDimensionExpr(value)

    def operation(self, operation: enum.Enum, first: IDimensionExpr, second: IDimensionExpr) -> IDimensionExpr:
        return IDimensionExpr(f"{operation.name}({first.value}, {second.value})")


class Registry:
    """The creators by their name."""

    def __init__(self) -> None:
        self.creators: dict[str, Any] = {}

    def register_creator(self, creator: Any, namespace: str) -> None:
        self.creators[f"{namespace}::{creator.name}"] = creator

    def get_creator(self, name: str, _version: str, namespace: str) -> Any:
        return self.creators[f"{namespace}::{name}"]


class PluginField:
    def __init__(self, name: str, data: Any, type: enum.Enum) -> None:  # noqa: A002 - TensorRT's name
        self.name, self.data, self.type = name, data, type


class Dims(tuple[int, ...]):
    MAX_DIMS = 8


class DimsExprs(list[Any]):
    def __init__(self, length: int) -> None:
        super().__init__([None] * length)


class PluginTensorDesc:
    dims: Dims
    type: Any
    format: Any
    scale = 1.0


class DynamicPluginTensorDesc:
    def __init__(self, desc: PluginTensorDesc) -> None:
        self.desc = desc
        self.min = self.opt = self.max = desc.dims


for kind in (Logger, IDimensionExpr, IExprBuilder, PluginField, Dims, DimsExprs, PluginTensorDesc):
    setattr(trt, kind.__name__, kind)
trt.DynamicPluginTensorDesc = DynamicPluginTensorDesc
trt.PluginFieldCollection = list
for name in (
    *("IPluginV3", "IPluginV3QuickCore", "IPluginV3QuickBuild", "IPluginV3QuickRuntime", "IPluginV3QuickAOTBuild"),
    *("IPluginCreatorV3Quick", "ISymExpr", "ITensor"),
):
    setattr(trt, name, type(name, (), {}))
registry = Registry()
trt.get_plugin_registry = lambda: registry
sys.modules["tensorrt"] = trt
