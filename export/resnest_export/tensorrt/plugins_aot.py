"""The two operators as ahead-of-time (AOT) plugins, for TensorRT from 10.9 on.

TensorRT stores the kernels' PTX and symbolic expressions for grid and scalars in the engine, so running an engine needs
neither these plugins nor Python. Tested with NVIDIA's `tensorrt.plugin` of 10.9, 10.13 and 11.4 on a substitute for
TensorRT's native library, not yet with TensorRT itself.

This module imports TensorRT: import it only where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from inspect import Parameter, Signature
from types import GenericAlias
from typing import Any, get_type_hints

import numpy as np
import tensorrt as trt
import tensorrt.plugin as trtp

from resnest_export.kernels.contracts import TensorType
from resnest_export.onnx_domain import DOMAIN
from resnest_export.tensorrt.operators import (
    ELEMENT_TYPES,
    OPERATORS,
    PluginOperator,
    offered,
    output_types,
    signature,
)

NAMES = {"float32": "FP32", "float16": "FP16", "bfloat16": "BF16", "int32": "INT32"}
DTYPES = {getattr(trt, name): name for name in ELEMENT_TYPES}
TYPES = {name: dtype for dtype, name in DTYPES.items()}


def _array_of(dtype: type[np.generic]) -> type[Any]:
    """Return an annotation that `tensorrt.plugin` reads as an array of `dtype`: a class with what it asks of `NDArray`.

    NumPy's own annotations aren't classes: before TensorRT 11.2 `register` fails on them from Python 3.13 on.
    """
    return type(f"{dtype.__name__}_array", (), {"__origin__": np.ndarray, "__args__": (Any, np.dtype[dtype])})  # type: ignore[valid-type]


# Attributes of one number are arrays too: before TensorRT 11.2 `tensorrt.plugin` converts an array of one number by
# int() or float(), which NumPy refuses from 2.4 on.
INT32_ARRAY = _array_of(np.int32)
FLOAT32_ARRAY = _array_of(np.float32)

_registered: set[str] = set()


def register() -> None:
    """Register the plugins with TensorRT; further calls in the same process have no effect."""
    for name, row in OPERATORS.items():
        if name in _registered:
            continue
        plugin = f"{DOMAIN}::{name}"
        tensors, attributes = _parameters(row)
        outputs = Parameter("outputs", Parameter.POSITIONAL_OR_KEYWORD)
        tactic = Parameter("tactic", Parameter.POSITIONAL_OR_KEYWORD)
        described = GenericAlias(tuple, (trtp.TensorDesc,) * len(row.operator.outputs))
        kernel = GenericAlias(tuple, (str, str, trtp.KernelLaunchParams, trtp.SymExprs))
        several = GenericAlias(list, trtp.AutoTuneCombination)
        with_outputs = [*tensors, *attributes, outputs]
        trtp.register(plugin)(_signed(partial(describe, row), [*tensors, *attributes], described))
        trtp.autotune(plugin)(_signed(partial(combinations, row), with_outputs, several))
        trtp.aot_impl(plugin)(_signed(partial(implement, row), [*with_outputs, tactic], kernel))
        _registered.add(name)


def describe(row: PluginOperator, *tensors: Any, **values: Any) -> tuple[Any, ...]:
    """Return the outputs' shapes and types."""
    shapes = _attributes(row, values).output_shapes([tuple(each.shape_expr) for each in tensors])
    types = output_types(row.operator, [DTYPES[each.dtype] for each in tensors])
    return tuple(trtp.from_shape_expr(tuple(shape), TYPES[dtype]) for shape, dtype in zip(shapes, types, strict=True))


def combinations(row: PluginOperator, *arguments: Any) -> list[Any]:
    """Return the combinations of types and layouts that are offered for the network's types."""
    tensors = arguments[: len(row.operator.inputs)]
    dtypes = [DTYPES[tensor.dtype] for tensor in tensors]
    found = []
    for each in offered(row.operator, tensors[0].shape[1]):
        if [kind.dtype for kind in each.inputs] == dtypes:
            kinds = (*each.inputs, *each.outputs)
            types, layouts = (", ".join(names) for names in ((NAMES[k.dtype] for k in kinds), map(_layout, kinds)))
            found.append(trtp.AutoTuneCombination(types, layouts))
    return found


def implement(row: PluginOperator, *arguments: Any) -> tuple[str, str, Any, Any]:
    """Return the kernel's name, PTX, launch parameters and scalars."""
    count = len(row.operator.inputs)
    tensors, values, outputs = arguments[:count], arguments[count:-2], arguments[-2]
    attributes = _attributes(row, dict(zip(get_type_hints(row.attributes), values, strict=True)))
    types = signature(row.operator, [_tensor_type(each) for each in (*tensors, *outputs)])
    shapes = [[_known(dim) for dim in each.shape_expr] for each in tensors]
    kernel, launch = row.compile(attributes, types, shapes), row.launch(attributes, shapes)
    x, y, z = launch.grid
    parameters = trtp.KernelLaunchParams(
        grid_x=x, grid_y=y, grid_z=z, block_x=kernel.threads, shared_mem=kernel.shared_bytes
    )
    scalars = trtp.SymIntExprs.from_tuple(tuple(trtp.SymInt32(each) for each in launch.scalars))
    return kernel.name, kernel.ptx, parameters, scalars


def _parameters(row: PluginOperator) -> tuple[list[Parameter], list[Parameter]]:
    """Return the tensors and the attributes as parameters of the signature that TensorRT inspects."""
    kind = Parameter.POSITIONAL_OR_KEYWORD
    tensors = [Parameter(name, kind, annotation=trtp.TensorDesc) for name in row.operator.inputs]
    attributes = [
        Parameter(name, kind, annotation=FLOAT32_ARRAY if hint is float else INT32_ARRAY)
        for name, hint in get_type_hints(row.attributes).items()
    ]
    return tensors, attributes


def _signed(function: Callable[..., Any], parameters: Sequence[Parameter], returned: Any) -> Callable[..., Any]:
    """Set the signature that TensorRT inspects on a function."""
    function.__signature__ = Signature(parameters, return_annotation=returned)  # type: ignore[attr-defined]
    return function


def _attributes(row: PluginOperator, values: dict[str, Any]) -> Any:
    """Return the operator's attributes from arrays: numbers, or tuples of them."""
    hints = get_type_hints(row.attributes)
    return row.attributes(
        **{
            name: value.item() if hints[name] in (int, float) else tuple(value.tolist())
            for name, value in values.items()
        }
    )


def _layout(kind: TensorType) -> str:
    if not kind.channels_last:
        return "LINEAR"
    return "HWC" if kind.dtype == "float32" else "HWC8"


def _tensor_type(tensor: Any) -> TensorType:
    return TensorType(DTYPES[tensor.dtype], channels_last=tensor.format != trt.TensorFormat.LINEAR)


def _known(dim: Any) -> Any:
    """Return a constant size as an int, and a dynamic one as TensorRT's expression."""
    return dim.constant_value() if dim.is_constant else dim
