"""Exports a detector to an ONNX file: dynamic batch, height and width; function bodies; the card as metadata."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from onnx.inliner import inline_selected_functions
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from resnest_core.card import METADATA_KEY, ModelCard
from resnest_core.tensors import IMAGES, input_names, output_names
from resnest_export.batch_norm_folding import fold_batch_norm
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.models.detector import TwoStageDetector
from resnest_export.onnx_domain import DOMAIN, VERSION
from resnest_export.ops.functions import WINOGRAD_CONV, function_bodies
from resnest_export.winograd import use_winograd

OPSET = 18
IR_VERSION = 10
EXAMPLE_SIZE_HW = (320, 544)  # any multiples of 32 that aren't equal
MIN_SIDE = 65  # where sides aren't multiples of 32: torch.export takes a level's side of one pixel for a constant


def export_onnx(detector: TwoStageDetector, card: ModelCard, path: Path, *, winograd: bool = True) -> None:
    """Write `detector` to `path` as ONNX, with folded batch norms and, if `winograd`, Winograd convolutions in heads.

    The file's tensors are those of `resnest_core.tensors`; its metadata contains the card. The detector isn't changed,
    so that the file can be compared with it.
    """
    detector = copy.deepcopy(detector)
    fold_batch_norm(detector)
    if winograd:
        use_winograd(detector)
    model = trace(DeployedDetector(detector, card), card)
    model.functions.extend(function_bodies(model.graph))
    model = inline_selected_functions(model, [(DOMAIN, WINOGRAD_CONV)])  # no operator that a runtime may replace
    save_with_card(model, card, path)


def trace(network: DeployedDetector, card: ModelCard) -> onnx.ModelProto:
    """Return `network` as ONNX without the custom operators' bodies and without the card."""
    model = _trace(network, card)
    if DOMAIN not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    model.ir_version = min(model.ir_version, IR_VERSION)
    model.producer_name = "resnest-serving"
    model.producer_version = card.project_version
    _name_dimensions(model.graph)
    return model


def save_with_card(model: onnx.ModelProto, card: ModelCard, path: Path) -> None:
    """Write a model with `card` as its only metadata, and check the file."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: card.model_dump_json()})
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)


def _trace(network: DeployedDetector, card: ModelCard) -> onnx.ModelProto:
    has_masks = card.has_masks
    batch = torch.export.Dim("batch")
    # Of other sides torch.export can't prove that the levels' sizes fit, and leaves that to the runtime.
    is_padded = card.size_divisor % 32 == 0
    height, width = (
        32 * torch.export.Dim(name) if is_padded else torch.export.Dim(name, min=MIN_SIDE)
        for name in ("rows", "columns")
    )
    size_hw = EXAMPLE_SIZE_HW if is_padded else tuple(side + 1 for side in EXAMPLE_SIZE_HW)
    sizes = torch.tensor([size_hw] * 2)
    example = (torch.zeros(2, *size_hw, 3, dtype=torch.uint8), sizes, sizes.clone(), torch.zeros(2, 1))
    if has_masks:
        example = (*example, torch.ones(2, 1, dtype=torch.bool))  # type: ignore[assignment]
    dynamic = ({0: batch, 1: height, 2: width}, *({0: batch} for _ in example[1:]))
    # PyTorch's cache of fake tensors costs more than it saves where sizes are symbols: 3 of 21 s for the demo.
    uncached = torch._dynamo.config.patch(fake_tensor_cache_enabled=False)
    with torch.no_grad(), _quiet(), uncached:
        program = torch.onnx.export(
            torch.export.export(
                network,
                example,
                dynamic_shapes=dynamic,
                prefer_deferred_runtime_asserts_over_guards=not is_padded,
            ),
            dynamo=True,
            opset_version=OPSET,
            input_names=input_names(has_masks),
            output_names=output_names(has_masks),
            verbose=False,
        )
    assert program is not None
    # torch.onnx stores the source file and line of each node as metadata.
    ClearMetadataAndDocStringPass()(program.model)
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch.onnx's warnings about optional packages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _name_dimensions(graph: onnx.GraphProto) -> None:
    """Give the dynamic dimensions of inputs and outputs readable names."""
    for value in (*graph.input, *graph.output):
        shape = value.type.tensor_type.shape
        shape.dim[0].dim_param = "batch"
        if value.name == IMAGES:
            shape.dim[1].dim_param, shape.dim[2].dim_param = "height", "width"
