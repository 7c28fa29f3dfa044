"""Configurations of a detector's three Triton models, as Triton's protobuf message `ModelConfig`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from resnest_core import tensors
from resnest_core.buckets import COMMON_RATIO_HW, WASTE, bucket_size_hw, bucket_sizes_hw
from resnest_core.card import METADATA_KEY, NETWORK_SUFFIX, PREPROCESS_SUFFIX, ModelCard
from resnest_core.errors import MissingExtraError
from resnest_core.images import MAX_PIXELS
from resnest_core.preprocess import resized_size_hw
from resnest_core.triton_ensemble import IMAGE, SCORE_THRESHOLD
from resnest_export.triton_repository.options import Platform, Serving

try:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as pb
    from tritonclient.utils import np_to_triton_dtype
except (ImportError, RuntimeError) as error:  # tritonclient raises RuntimeError if its gRPC dependencies are missing
    raise MissingExtraError("tritonclient[grpc]", "export") from error

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

MADE_BY = "# Made by `resnest repository`: change its options, not this file.\n"
NEWEST = -1
VERSIONS = {"latest": {"num_versions": 1}}
NO_CACHE = {"enable": False}
# Triton makes an execution context for each profile of an engine. By default each allocates what the largest profile
# needs; this way each allocates what its own needs. Known to Triton from 25.05 on (README of its TensorRT backend,
# "Parameters"); earlier releases ignore it.
ALLOCATION = {"execution_context_allocation_strategy": "ON_PROFILE_CHANGE"}


def to_text(config: ModelConfig) -> str:
    """Return the content of a `config.pbtxt`; maps are sorted by key, so equal messages give equal texts."""
    return MADE_BY + str(text_format.MessageToString(config, as_utf8=True, use_short_repeated_primitives=True))


def configs(card: ModelCard, serving: Serving, profiles: int = 1) -> tuple[ModelConfig, ModelConfig, ModelConfig]:
    """Return the configurations of the ensemble, the preprocessing and the network.

    `profiles` is the number of optimization profiles of the TensorRT engine.
    """
    return ensemble(card), preprocess(card, serving), network(card, serving, profiles)


def ensemble(card: ModelCard) -> ModelConfig:
    """Return the ensemble, the model that clients call: an encoded image in, detections out, one image per request."""
    # Tensor names are unique within an ensemble, and the request's `want_masks` isn't the network's.
    between = {name: f"prepared_{name}" for name in tensors.input_names(card.has_masks)}
    between[tensors.ORIGINAL_SIZES] = tensors.ORIGINAL_SIZES
    found = {name: name for name in tensors.output_names(card.has_masks)}
    asked = {one.name: one.name for one in _request_inputs(card)}
    steps = [
        pb.ModelEnsembling.Step(
            model_name=card.name + PREPROCESS_SUFFIX, model_version=NEWEST, input_map=asked, output_map=between
        ),
        pb.ModelEnsembling.Step(
            model_name=card.name + NETWORK_SUFFIX, model_version=NEWEST, input_map=between, output_map=found
        ),
    ]
    original_sizes = pb.ModelOutput(name=tensors.ORIGINAL_SIZES, data_type=pb.TYPE_INT64, dims=[2])
    return pb.ModelConfig(
        name=card.name,
        platform="ensemble",
        max_batch_size=1,
        input=_request_inputs(card),
        output=[*_network_outputs(card), original_sizes],
        version_policy=VERSIONS,
        ensemble_scheduling=pb.ModelEnsembling(step=steps),
        response_cache=NO_CACHE,
        parameters=_parameters(card),
    )


def preprocess(card: ModelCard, serving: Serving) -> ModelConfig:
    """Return the configuration of the model that decodes, resizes and pads."""
    own = {} if serving.waste == WASTE else {"waste": str(serving.waste)}
    instances = pb.ModelInstanceGroup(kind=pb.ModelInstanceGroup.KIND_CPU, count=serving.preprocess_processes)
    return pb.ModelConfig(
        name=card.name + PREPROCESS_SUFFIX,
        backend="python",
        # One image per call: a batch would be decoded image after image in one process, while the others are idle.
        max_batch_size=1,
        input=_request_inputs(card),
        output=[pb.ModelOutput(**tensor) for tensor in _network_inputs(card)],
        version_policy=VERSIONS,
        instance_group=[instances],
        dynamic_batching=_queue(serving),
        response_cache=NO_CACHE,
        parameters=_parameters(card, buckets=serving.buckets.value, max_pixels=str(MAX_PIXELS), **own),
    )


def network(card: ModelCard, serving: Serving, profiles: int = 1) -> ModelConfig:
    """Return the network's configuration; `profiles` is the number of profiles of the TensorRT engine."""
    backend, platform, filename, kind = {
        Platform.CPU: ("python", None, None, pb.ModelInstanceGroup.KIND_CPU),
        Platform.ONNXRUNTIME: ("onnxruntime", "onnxruntime_onnx", "model.onnx", pb.ModelInstanceGroup.KIND_CPU),
        Platform.TENSORRT: ("tensorrt", "tensorrt_plan", "model.plan", pb.ModelInstanceGroup.KIND_GPU),
    }[serving.platform]
    on_cpu, on_tensorrt = serving.platform is Platform.CPU, serving.platform is Platform.TENSORRT
    own = {"runtime": serving.runtime, "threads": str(serving.threads)} if on_cpu else ALLOCATION if on_tensorrt else {}
    # Without a list of profiles, Triton uses the first only.
    names = map(str, range(profiles)) if on_tensorrt else ()
    instances = pb.ModelInstanceGroup(kind=kind, count=serving.network_instances, profile=names)
    return pb.ModelConfig(
        name=card.name + NETWORK_SUFFIX,
        backend=backend,
        platform=platform,
        default_model_filename=filename,
        max_batch_size=serving.max_batch,
        input=[pb.ModelInput(**tensor) for tensor in _network_inputs(card)],
        output=_network_outputs(card),
        version_policy=VERSIONS,
        instance_group=[instances],
        optimization=pb.ModelOptimizationPolicy(cuda=_cuda_graphs(card, serving)) if serving.cuda_graphs else None,
        dynamic_batching=_queue(serving, _preferred_batches(serving), serving.delay_microseconds),
        model_warmup=[_warmup(card, serving)],
        response_cache=NO_CACHE,
        parameters=_parameters(card, **own),
    )


def warmup_size_hw(card: ModelCard) -> tuple[int, int]:
    """Return the (height, width) of the resized image in the warm-up request."""
    return resized_size_hw(COMMON_RATIO_HW, card)


def _cuda_graphs(card: ModelCard, serving: Serving) -> Any:
    """Return CUDA graph settings: one graph per bucket and preferred batch size; without buckets Triton chooses."""
    cuda = pb.ModelOptimizationPolicy.Cuda
    fixed = {tensor["name"]: tensor["dims"] for tensor in _network_inputs(card)}
    specs = [
        cuda.GraphSpec(
            batch_size=batch,
            input={
                name: cuda.GraphSpec.Shape(dim=dims) for name, dims in (fixed | {tensors.IMAGES: (*size_hw, 3)}).items()
            },
        )
        for size_hw in bucket_sizes_hw(card, serving.buckets)
        for batch in sorted({1, *_preferred_batches(serving)})
    ]
    return cuda(graphs=True, graph_spec=specs)


def _preferred_batches(serving: Serving) -> tuple[int, ...]:
    return tuple(size for size in (serving.max_batch // 2, serving.max_batch) if size)


def _warmup(card: ModelCard, serving: Serving) -> Any:
    padded_hw = bucket_size_hw(warmup_size_hw(card), card, serving.buckets, serving.waste)
    inputs = {}
    for tensor in _network_inputs(card):
        name, data_type = tensor["name"], tensor["data_type"]
        if name == tensors.IMAGES:
            inputs[name] = pb.ModelWarmup.Input(data_type=data_type, dims=(*padded_hw, 3), random_data=True)
        else:
            inputs[name] = pb.ModelWarmup.Input(data_type=data_type, dims=tensor["dims"], input_data_file=name)
    return pb.ModelWarmup(name="photograph", batch_size=1, inputs=inputs)


def _queue(serving: Serving, preferred_batches: tuple[int, ...] = (), delay_microseconds: int = 0) -> Any:
    return pb.ModelDynamicBatching(
        preferred_batch_size=preferred_batches,
        max_queue_delay_microseconds=delay_microseconds,
        default_queue_policy=pb.ModelQueuePolicy(
            timeout_action=pb.ModelQueuePolicy.REJECT,
            default_timeout_microseconds=serving.timeout_microseconds,
            allow_timeout_override=True,
            max_queue_size=serving.max_queue,
        ),
    )


def _parameters(card: ModelCard, **others: str) -> dict[str, Any]:
    values = {METADATA_KEY: card.model_dump_json(), **others}
    return {name: pb.ModelParameter(string_value=value) for name, value in values.items()}


def _request_inputs(card: ModelCard) -> list[Any]:
    inputs = [
        pb.ModelInput(name=IMAGE, data_type=pb.TYPE_STRING, dims=[1]),
        pb.ModelInput(name=SCORE_THRESHOLD, data_type=pb.TYPE_FP32, dims=[1], optional=True),
        pb.ModelInput(name=tensors.WANT_MASKS, data_type=pb.TYPE_BOOL, dims=[1], optional=True),
    ]
    return inputs if card.has_masks else inputs[:2]


def _network_inputs(card: ModelCard) -> list[dict[str, Any]]:
    """Return name, data type and dims of each network input, for use in `ModelInput` and `ModelOutput`."""
    dims = {
        tensors.IMAGES: (-1, -1, 3),
        tensors.IMAGE_SIZES: (2,),
        tensors.ORIGINAL_SIZES: (2,),
        tensors.SCORE_THRESHOLDS: (1,),
        tensors.WANT_MASKS: (1,),
    }
    return [
        {"name": name, "data_type": _data_type(tensors.INPUT_TYPES[name]), "dims": dims[name]}
        for name in tensors.input_names(card.has_masks)
    ]


def _network_outputs(card: ModelCard) -> list[Any]:
    shapes = tensors.output_shapes(card.max_detections, card.mask_size)
    return [
        pb.ModelOutput(name=name, data_type=_data_type(tensors.OUTPUT_TYPES[name]), dims=shapes[name])
        for name in tensors.output_names(card.has_masks)
    ]


def _data_type(dtype: Any) -> int:
    return int(pb.DataType.Value(f"TYPE_{np_to_triton_dtype(np.dtype(dtype))}"))
