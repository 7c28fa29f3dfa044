"""Quantization to int8 with calibration on photographs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx

from resnest_core import tensors
from resnest_core.card import ModelCard
from resnest_core.errors import ImageError, ParameterError
from resnest_core.image_folder import image_files
from resnest_core.images import check_image, load_image, read_file
from resnest_core.preprocess import prepare, stack
from resnest_export.onnx_domain import DOMAIN
from resnest_export.to_onnx import save_with_card

MAX_CALIBRATION = 64  # photographs; more barely change the ranges, and each takes seconds
SENSITIVE = ("backbone.stem", ".fc1.", ".fc2.", "rpn_cls", "rpn_reg", "fc_cls", "fc_reg")
"""Layers that aren't quantized, by parts of their weights' names: the stem, which has few channels with wide ranges
(int8 there cost the demo model 4 points of box AP), split attention's, which are tiny, and those that output scores and
box deltas."""


@dataclass(frozen=True)
class Rules:
    """A runtime's requirements for a quantized file, in the terms of ONNX Runtime's quantizer.

    Attributes:
        activation_type: of the layers' inputs.
        weight_type: of the weights.
        operators: those whose layers are quantized.
        unquantized_precision: of the layers that aren't; see `ModelCard.unquantized_precision`.
        options: of the quantizer.
    """

    activation_type: str
    weight_type: str
    operators: tuple[str, ...]
    unquantized_precision: Literal["fp32", "bf16"] = "fp32"
    options: Mapping[str, bool] = field(default_factory=dict)


CPU = Rules("QUInt8", "QInt8", ("Conv", "ConvTranspose", "Gemm", "MatMul"), "bf16")
"""Uint8 activations: CPUs have instructions that multiply uint8 with int8."""
DEQUANTIZED = "_DequantizeLinear_Output"  # how ONNX Runtime's quantizer names what was quantized and dequantized


def calibration_images(folder: Path) -> list[Path]:
    """Return at most MAX_CALIBRATION images of a folder, evenly spaced in the order of their names.

    Raises:
        ParameterError: there is none, or a chosen file isn't a valid image.
    """
    files = image_files(folder) if folder.is_dir() else []
    if not files:
        raise ParameterError(f"There are no images in {folder}: int8 needs photographs like those it will see.")
    places = np.linspace(0, len(files) - 1, min(len(files), MAX_CALIBRATION)).astype(int)
    chosen = [files[place] for place in places]
    for path in chosen:
        try:
            check_image(read_file(path))
        except ImageError as error:
            raise ParameterError(f"{path} can't be calibrated on: {error}") from error
    return chosen


def quantize(source: Path, destination: Path, card: ModelCard, images: Sequence[Path], rules: Rules = CPU) -> None:
    """Quantize the layers of the fp32 file `source` to int8, as pairs of QuantizeLinear and DequantizeLinear.

    These are the layers of `rules.operators`, such as convolutions and linear layers, but for SENSITIVE ones. Weights
    have one range per output channel. Activations have one range per tensor: the means of the images' minima and
    maxima, because outliers of single images would cost all others precision. A quantized tensor is read by all its
    consumers, such as the addition of a residual block, but for the custom operators, which read it unquantized: what
    they make of it is quantized again.

    Args:
        source: a file exported without Winograd convolutions.
        destination: the file to write.
        card: card of the new file; what isn't quantized gets the precision of the rules.
        images: photographs for calibration.
        rules: the target runtime's rules.

    Raises:
        ImageError: an image is damaged.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    layers = quantized_layers(onnx.load(source, load_external_data=False).graph, rules.operators)
    with _quiet():
        quantize_static(
            source,
            destination,
            _Inputs(images, card),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(rules.operators),
            nodes_to_quantize=layers,
            per_channel=True,
            activation_type=QuantType[rules.activation_type],
            weight_type=QuantType[rules.weight_type],
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "OpTypesToExcludeOutputQuantization": list(rules.operators),
                "CalibMovingAverage": True,
                **rules.options,
            },
        )
    model = onnx.load(destination)
    _read_unquantized(model.graph)
    save_with_card(model, card.model_copy(update={"unquantized_precision": rules.unquantized_precision}), destination)


def calibrated_ranges(
    source: Path, card: ModelCard, images: Sequence[Path], operators: Sequence[str]
) -> dict[str, float]:
    """Return the largest absolute values of the inputs and outputs of `operators` in the file `source`, by name.

    These are those of the means of the images' minima and maxima, as in `quantize`.

    Raises:
        ImageError: an image is damaged.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    with TemporaryDirectory() as folder, _quiet():
        calibrator = create_calibrator(
            source,
            list(operators),
            Path(folder) / "augmented.onnx",
            CalibrationMethod.MinMax,
            extra_options={"moving_average": True},
        )
        calibrator.collect_data(_Inputs(images, card))
        ranges = calibrator.compute_data()
    return {name: float(np.abs(data.range_value).max()) for name, data in ranges.items()}


def quantized_layers(graph: onnx.GraphProto, operators: Sequence[str]) -> list[str]:
    """Return the names of the nodes to quantize: those of `operators` with weights of the detector, but SENSITIVE ones.

    A node without stored weights, such as the mask head's product with the predicted class's row, isn't among them.
    """
    weights = {tensor.name for tensor in graph.initializer if tensor.name.endswith(".weight")}
    return [
        node.name
        for node in graph.node
        if node.op_type in operators
        and node.input[1] in weights
        and not any(part in node.input[1] for part in SENSITIVE)
    ]


def _read_unquantized(graph: onnx.GraphProto) -> None:
    """Let the custom operators read the values before they were quantized."""
    for node in graph.node:
        if node.domain == DOMAIN:
            for place, name in enumerate(node.input):
                node.input[place] = name.removesuffix(DEQUANTIZED)


class _Inputs:
    """Yields the network's inputs image by image, with the interface of ONNX Runtime's `CalibrationDataReader`."""

    def __init__(self, images: Sequence[Path], card: ModelCard) -> None:
        self._inputs = self._read(images, card)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._inputs, None)

    @staticmethod
    def _read(images: Sequence[Path], card: ModelCard) -> Iterator[dict[str, Any]]:
        for path in images:
            inputs = stack([prepare(load_image(path), card)]) | {
                tensors.SCORE_THRESHOLDS: np.zeros((1, 1), np.float32),
                tensors.WANT_MASKS: np.ones((1, 1), np.bool_),
            }
            yield {name: inputs[name] for name in tensors.input_names(card.has_masks)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence ONNX Runtime's advice, on the root logger, to preprocess the model first, which isn't needed."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
