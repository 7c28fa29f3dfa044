"""The two operators as Python plugins with TensorRT's interface IPluginV3, for TensorRT-RTX.

TensorRT-RTX can build engines with them without a GPU. Running such an engine needs the plugins too: `enqueue` launches
the kernels' PTX on the given stream. Building is tested, `enqueue` is not yet.

This module imports TensorRT-RTX: import it only where it is used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, get_type_hints

import numpy as np
import tensorrt_rtx as trt
from typing_extensions import Self

from resnest_core.errors import ParameterError
from resnest_export.kernels.contracts import TensorType
from resnest_export.onnx_domain import DOMAIN, VERSION
from resnest_export.tensorrt.driver import LoadedKernel
from resnest_export.tensorrt.operators import (
    ELEMENT_TYPES,
    OPERATORS,
    PluginOperator,
    offered,
    output_types,
    signature,
)
from resnest_export.tensorrt.rtx_library import make_findable

DTYPES = {getattr(trt, name): name for name in ELEMENT_TYPES}
TYPES = {name: dtype for dtype, name in DTYPES.items()}
CHANNELS_LAST = {
    trt.float32: trt.TensorFormat.HWC,
    trt.float16: trt.TensorFormat.HWC8,
    trt.bfloat16: trt.TensorFormat.HWC8,
}

_creators: list[Creator] = []  # TensorRT keeps no reference to them


def register() -> None:
    """Register the plugins with TensorRT-RTX; further calls in the same process have no effect.

    Raises:
        RuntimeUnavailableError: its library can't be made available under the name that its plugins load.
    """
    make_findable()
    registry = trt.get_plugin_registry()
    if not _creators:
        _creators.extend(Creator(row) for row in OPERATORS.values())
        for creator in _creators:
            registry.register_creator(creator, DOMAIN)


class Plugin(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):  # type: ignore[misc]
    """A node of one of the two operators."""

    def __init__(self, row: PluginOperator, attributes: Any) -> None:
        for base in Plugin.__bases__:
            base.__init__(self)
        self.row = row
        self.attributes = attributes
        self.kernel: LoadedKernel | None = None
        self.fields = _fields(dataclasses.asdict(attributes))  # TensorRT keeps pointers into these arrays
        self.plugin_name = row.operator.name
        self.plugin_namespace = DOMAIN
        self.plugin_version = str(VERSION)
        self.num_outputs = len(row.operator.outputs)

    def get_capability_interface(self, type: Any) -> Self:  # noqa: A002, ARG002 - TensorRT's own name
        return self

    def clone(self) -> Plugin:
        return Plugin(self.row, self.attributes)

    def get_fields_to_serialize(self) -> Any:
        return trt.PluginFieldCollection(self.fields)

    def get_output_data_types(self, input_types: Sequence[Any]) -> list[Any]:
        return [TYPES[name] for name in output_types(self.row.operator, [DTYPES[each] for each in input_types])]

    def get_output_shapes(self, inputs: Sequence[Any], shape_inputs: Sequence[Any], expr_builder: Any) -> list[Any]:  # noqa: ARG002
        shapes = self.attributes.output_shapes([_dims(dims) for dims in inputs])
        return [
            trt.DimsExprs([expr_builder.constant(dim) if isinstance(dim, int) else dim for dim in shape])
            for shape in shapes
        ]

    def supports_format_combination(self, pos: int, in_out: Sequence[Any], num_inputs: int) -> bool:  # noqa: ARG002
        types = [_tensor_type(each.desc) for each in in_out[: pos + 1]]
        several = offered(self.row.operator, in_out[0].desc.dims[1])
        return any([*each.inputs, *each.outputs][: len(types)] == types for each in several)

    def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None: ...

    def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        if self.kernel is None:
            types = [_tensor_type(each) for each in (*inputs, *outputs)]
            chosen = signature(self.row.operator, [each for each in types if each])
            self.kernel = LoadedKernel(self.row.compile(self.attributes, chosen, [each.dims for each in inputs]))

    def attach_to_context(self, context: Any) -> Plugin:  # noqa: ARG002
        return self.clone()

    def enqueue(
        self,
        input_desc: Sequence[Any],
        output_desc: Sequence[Any],  # noqa: ARG002
        inputs: Sequence[int],
        outputs: Sequence[int],
        workspace: int,  # noqa: ARG002
        stream: int,
    ) -> None:
        assert self.kernel is not None
        launch = self.row.launch(self.attributes, [tuple(each.dims) for each in input_desc])
        self.kernel.launch(launch, inputs, outputs, stream)


class Creator(trt.IPluginCreatorV3One):  # type: ignore[misc]
    """Creates a node's plugin from its attributes in the ONNX file or in an engine."""

    def __init__(self, row: PluginOperator) -> None:
        super().__init__()
        self.row = row
        self.hints = get_type_hints(row.attributes)
        self.name = row.operator.name
        self.plugin_namespace = DOMAIN
        self.plugin_version = str(VERSION)
        self.field_names = trt.PluginFieldCollection(
            [trt.PluginField(name, np.empty(0), _field_type(hint)) for name, hint in self.hints.items()]
        )

    def create_plugin(self, name: str, fields: Any, phase: Any) -> Plugin:  # noqa: ARG002
        values = {field.name: np.array(field.data) for field in fields}
        missing = self.hints.keys() - values.keys()
        if missing:
            raise ParameterError(f"{self.name} has no {', '.join(sorted(missing))}: export the model again.")
        arguments = {
            key: tuple(values[key].tolist()) if hint not in (int, float) else hint(values[key].item())
            for key, hint in self.hints.items()
        }
        return Plugin(self.row, self.row.attributes(**arguments))


def _field_type(hint: Any) -> Any:
    return trt.PluginFieldType.FLOAT32 if hint is float else trt.PluginFieldType.INT32


def _fields(values: dict[str, Any]) -> list[Any]:
    fields = []
    for name, value in values.items():
        array = np.array(value, np.float32 if isinstance(value, float) else np.int32).reshape(-1)
        fields.append(trt.PluginField(name, array, _field_type(type(value))))
    return fields


def _dims(dims: Any) -> list[Any]:
    """Return constant sizes as ints, and dynamic ones as TensorRT's expressions."""
    each = [dims[axis] for axis in range(len(dims))]
    return [dim.get_constant_value() if dim.is_constant() else dim for dim in each]


def _tensor_type(desc: Any) -> TensorType | None:
    """Return a tensor's type as the kernels' `TensorType`; None: the kernels don't support it."""
    if desc.type not in DTYPES:
        return None
    if desc.format == trt.TensorFormat.LINEAR:
        return TensorType(DTYPES[desc.type])
    if desc.format == CHANNELS_LAST.get(desc.type) and len(desc.dims) == 4:
        return TensorType(DTYPES[desc.type], channels_last=True)
    return None
