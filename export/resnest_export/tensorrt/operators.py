"""Attributes, kernel and launch of the two operators, shared by both TensorRT plugin interfaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from resnest_core.errors import ParameterError
from resnest_export.kernels.compiling import CompiledKernel, compile_nms, compile_roi_align
from resnest_export.kernels.contracts import (
    NMS,
    ROI_ALIGN,
    NmsAttributes,
    Operator,
    RoIAlignAttributes,
    Signature,
    TensorType,
)
from resnest_export.kernels.launching import Launch, nms_launch, roi_align_launch

Shapes = Sequence[Sequence[Any]]

ELEMENT_TYPES = ("float32", "float16", "bfloat16", "int32")
"""Element types by name, which is the same in NumPy and in both TensorRT modules."""
VECTOR = 8
"""HWC8, TensorRT's channels-last layout of 16-bit types, pads the channels to a multiple of this."""


@dataclass(frozen=True)
class PluginOperator:
    """An operator with its compile and launch functions, which take the inputs' shapes (ints or symbolic)."""

    operator: Operator
    attributes: type[Any]
    compile: Callable[[Any, Signature, Shapes], CompiledKernel]
    launch: Callable[[Any, Shapes], Launch]


def signature(operator: Operator, types: Sequence[TensorType]) -> Signature:
    """Return the signature for `types`, which lists the types of all inputs, then of all outputs."""
    count = len(operator.inputs)
    return Signature(inputs=tuple(types[:count]), outputs=tuple(types[count:]))


def output_types(operator: Operator, inputs: Sequence[str]) -> tuple[str, ...]:
    """Return the element types of the outputs for those of the inputs, named as in NumPy.

    Raises:
        ParameterError: the operator doesn't support these types.
    """
    for each in operator.signatures:
        if [tensor.dtype for tensor in each.inputs] == list(inputs):
            return tuple(tensor.dtype for tensor in each.outputs)
    raise ParameterError(f"{operator.name} doesn't take inputs of {', '.join(inputs)}: export the model again.")


def offered(operator: Operator, channels: int) -> tuple[Signature, ...]:
    """Return the signatures that TensorRT may choose from, for maps of `channels` channels.

    For each type only one layout of maps, so that TensorRT measures none: channels-last, unless TensorRT would pad the
    channels. It measures on regions without content, which says nothing about the layouts' speed on real ones.
    """

    def is_dense(each: Signature) -> bool:
        return all(not kind.channels_last or kind.dtype == "float32" or channels % VECTOR == 0 for kind in each.outputs)

    dense = [each for each in operator.signatures if is_dense(each)]
    last = {each.outputs[0].dtype for each in dense if each.outputs[0].channels_last}
    return tuple(each for each in dense if each.outputs[0].channels_last or each.outputs[0].dtype not in last)


# The numbers of channels and candidates are fixed in these networks, so they are ints even if other sizes are symbolic.
OPERATORS = {
    ROI_ALIGN.name: PluginOperator(
        ROI_ALIGN,
        RoIAlignAttributes,
        lambda attributes, types, shapes: compile_roi_align(attributes, types, shapes[0][1]),
        lambda attributes, shapes: roi_align_launch(attributes, shapes, shapes[0][1]),
    ),
    NMS.name: PluginOperator(
        NMS,
        NmsAttributes,
        lambda attributes, _, shapes: compile_nms(attributes, shapes[1][1]),
        lambda _, shapes: nms_launch(shapes),
    ),
}
