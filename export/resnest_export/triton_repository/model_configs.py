"""The three models of a detector in Triton's repository, as configurations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from resnest_core import tensors
from resnest_core.buckets import COMMON_RATIO_HW, WASTE, Buckets, bucket_size_hw, bucket_sizes_hw
from resnest_core.card import METADATA_KEY, NETWORK_SUFFIX, ModelCard
from resnest_core.images import MAX_PIXELS
from resnest_core.preprocess import resized_size_hw
from resnest_core.triton_ensemble import IMAGE, SCORE_THRESHOLD
from resnest_export.triton_repository.config import (
    Cuda,
    DataType,
    GraphShape,
    GraphSpec,
    Kind,
    ModelConfig,
    ModelDynamicBatching,
    ModelEnsembling,
    ModelInput,
    ModelInstanceGroup,
    ModelOptimizationPolicy,
    ModelOutput,
    ModelParameter,
    ModelQueuePolicy,
    ModelWarmup,
    Step,
    TimeoutAction,
    WarmupInput,
)

PREPROCESS_SUFFIX = "_preprocess"
NEWEST = -1


class Platform(str, Enum):
    """What runs the network in Triton."""

    CPU = "cpu"
    """The Python backend with ONNX Runtime or OpenVINO: all that the server from the package index has."""
    ONNXRUNTIME = "onnxruntime"
    """Triton's own ONNX Runtime, of the official container. Not run yet."""
    TENSORRT = "tensorrt"
    """Triton's own TensorRT, of the official container, with a GPU. Not run yet."""


class NetworkRuntime(str, Enum):
    """What the Python backend runs the network with."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"


@dataclass(frozen=True)
class Serving:
    """How a model is served: the options of `resnest repository`."""

    platform: Platform = Platform.CPU
    runtime: NetworkRuntime = NetworkRuntime.ONNXRUNTIME
    """Of the platform `cpu`."""
    threads: int = 0
    """Of each instance of the network on the platform `cpu`; 0: its share of the CPUs that Triton may use."""
    buckets: Buckets = Buckets.EXACT
    max_batch: int = 8
    queue_delay_microseconds: int = 5_000
    """How long a request waits for others to share its batch."""
    timeout_microseconds: int = 60_000_000
    """How long a request may wait in a queue; its own time-out may be shorter."""
    max_queue: int = 64
    preprocess_instances: int = 2
    network_instances: int = 1

    @property
    def waste(self) -> float:
        """See `resnest_core.buckets.WASTE`: a TensorRT engine of buckets runs no other shapes, so nothing is waste."""
        return math.inf if self.platform is Platform.TENSORRT else WASTE


def configs(card: ModelCard, serving: Serving, profiles: int = 1) -> tuple[ModelConfig, ...]:
    """Return the configurations of the ensemble, the preprocessing and the network.

    `profiles` is how many a TensorRT engine has.
    """
    return ensemble(card), preprocess(card, serving), network(card, serving, profiles)


def ensemble(card: ModelCard) -> ModelConfig:
    """Return the public entry: an encoded image in, detections out; one image a request."""
    # Within an ensemble a name is one tensor: the request's `want_masks` and the network's are two.
    between = {name: f"prepared_{name}" for name in tensors.input_names(card.has_masks)}
    between[tensors.ORIGINAL_SIZES] = tensors.ORIGINAL_SIZES
    found = {name: name for name in tensors.output_names(card.has_masks)}
    asked = {one.name: one.name for one in _request_inputs(card)}
    return ModelConfig(
        name=card.name,
        platform="ensemble",
        max_batch_size=1,
        input=_request_inputs(card),
        output=(*_network_outputs(card), ModelOutput(tensors.ORIGINAL_SIZES, DataType.TYPE_INT64, (2,))),
        ensemble_scheduling=ModelEnsembling(
            (
                Step(card.name + PREPROCESS_SUFFIX, NEWEST, input_map=asked, output_map=between),
                Step(card.name + NETWORK_SUFFIX, NEWEST, input_map=between, output_map=found),
            )
        ),
        parameters=_parameters(card),
    )


def preprocess(card: ModelCard, serving: Serving) -> ModelConfig:
    """Return the model that decodes, resizes and pads."""
    own = {} if serving.waste == WASTE else {"waste": str(serving.waste)}
    return ModelConfig(
        name=card.name + PREPROCESS_SUFFIX,
        backend="python",
        max_batch_size=serving.max_batch,
        input=_request_inputs(card),
        output=tuple(ModelOutput(one.name, one.data_type, one.dims) for one in _network_inputs(card)),
        instance_group=(ModelInstanceGroup(Kind.KIND_CPU, serving.preprocess_instances),),
        # Decoding gains nothing from waiting for company.
        dynamic_batching=_batching(serving, queue_delay_microseconds=0),
        parameters=_parameters(card, buckets=serving.buckets.value, max_pixels=str(MAX_PIXELS), **own),
    )


def network(card: ModelCard, serving: Serving, profiles: int = 1) -> ModelConfig:
    """Return the network itself, on the platform that is asked for; `profiles` is how many a TensorRT engine has."""
    name, on_cpu = card.name + NETWORK_SUFFIX, serving.platform is Platform.CPU
    backend, platform, filename, kind = {
        Platform.CPU: ("python", None, None, Kind.KIND_CPU),
        Platform.ONNXRUNTIME: ("onnxruntime", "onnxruntime_onnx", "model.onnx", Kind.KIND_CPU),
        Platform.TENSORRT: ("tensorrt", "tensorrt_plan", "model.plan", Kind.KIND_GPU),
    }[serving.platform]
    own = {"runtime": serving.runtime.value, "threads": str(serving.threads)} if on_cpu else {}
    on_tensorrt = serving.platform is Platform.TENSORRT
    # Where none are named, Triton would use the first profile only.
    names = tuple(map(str, range(profiles))) if on_tensorrt else ()
    return ModelConfig(
        name=name,
        backend=backend,
        platform=platform,
        default_model_filename=filename,
        max_batch_size=serving.max_batch,
        input=_network_inputs(card),
        output=_network_outputs(card),
        instance_group=(ModelInstanceGroup(kind, serving.network_instances, names),),
        optimization=ModelOptimizationPolicy(_cuda_graphs(card, serving)) if on_tensorrt else None,
        dynamic_batching=_batching(serving, queue_delay_microseconds=serving.queue_delay_microseconds),
        model_warmup=(_warmup(card, serving),),
        parameters=_parameters(card, **own),
    )


def warmup_size_hw(card: ModelCard) -> tuple[int, int]:
    """Return the (height, width) of the resized image in the warm-up request."""
    return resized_size_hw(COMMON_RATIO_HW, card.test_scale)


def _cuda_graphs(card: ModelCard, serving: Serving) -> Cuda:
    """Return that a graph is captured for every bucket and the commonest batches; without buckets Triton chooses."""
    fixed = {one.name: one.dims for one in _network_inputs(card)}
    specs = [
        GraphSpec(batch, {name: GraphShape(dims) for name, dims in (fixed | {tensors.IMAGES: (*size_hw, 3)}).items()})
        for size_hw in bucket_sizes_hw(card, serving.buckets)
        for batch in sorted({1, *_preferred_batches(serving)})
    ]
    return Cuda(graphs=True, graph_spec=tuple(specs))


def _preferred_batches(serving: Serving) -> tuple[int, ...]:
    return tuple(size for size in (serving.max_batch // 2, serving.max_batch) if size)


def _warmup(card: ModelCard, serving: Serving) -> ModelWarmup:
    padded_hw = bucket_size_hw(warmup_size_hw(card), card, serving.buckets, serving.waste)
    inputs = {}
    for one in _network_inputs(card):
        if one.name == tensors.IMAGES:
            inputs[one.name] = WarmupInput(one.data_type, (*padded_hw, 3), random_data=True)
        else:
            inputs[one.name] = WarmupInput(one.data_type, one.dims, input_data_file=one.name)
    return ModelWarmup("photograph", 1, inputs)


def _batching(serving: Serving, queue_delay_microseconds: int) -> ModelDynamicBatching:
    return ModelDynamicBatching(
        preferred_batch_size=_preferred_batches(serving),
        max_queue_delay_microseconds=queue_delay_microseconds,
        default_queue_policy=ModelQueuePolicy(
            timeout_action=TimeoutAction.REJECT,
            default_timeout_microseconds=serving.timeout_microseconds,
            allow_timeout_override=True,
            max_queue_size=serving.max_queue,
        ),
    )


def _parameters(card: ModelCard, **others: str) -> dict[str, ModelParameter]:
    values = {METADATA_KEY: card.model_dump_json(), **others}
    return {name: ModelParameter(value) for name, value in values.items()}


def _request_inputs(card: ModelCard) -> tuple[ModelInput, ...]:
    inputs = (
        ModelInput(IMAGE, DataType.TYPE_STRING, (1,)),
        ModelInput(SCORE_THRESHOLD, DataType.TYPE_FP32, (1,), optional=True),
        ModelInput(tensors.WANT_MASKS, DataType.TYPE_BOOL, (1,), optional=True),
    )
    return inputs if card.has_masks else inputs[:2]


def _network_inputs(card: ModelCard) -> tuple[ModelInput, ...]:
    dims = {
        tensors.IMAGES: (-1, -1, 3),
        tensors.IMAGE_SIZES: (2,),
        tensors.ORIGINAL_SIZES: (2,),
        tensors.SCORE_THRESHOLDS: (1,),
        tensors.WANT_MASKS: (1,),
    }
    types = {name: DataType(np.dtype(type_).name) for name, type_ in tensors.INPUT_TYPES.items()}
    return tuple(ModelInput(name, types[name], dims[name]) for name in tensors.input_names(card.has_masks))


def _network_outputs(card: ModelCard) -> tuple[ModelOutput, ...]:
    shapes = tensors.output_shapes(card.max_detections, card.mask_size)
    types = {name: DataType(np.dtype(type_).name) for name, type_ in tensors.OUTPUT_TYPES.items()}
    return tuple(ModelOutput(name, types[name], shapes[name]) for name in tensors.output_names(card.has_masks))
