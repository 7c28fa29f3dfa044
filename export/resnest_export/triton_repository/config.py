"""Triton's `ModelConfig` as frozen dataclasses: the part of `model_config.proto` that is used here, names unchanged.

What is None or empty isn't written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class DataType(Enum):
    """Type of a tensor."""

    TYPE_BOOL = "bool"
    TYPE_UINT8 = "uint8"
    TYPE_INT64 = "int64"
    TYPE_FP16 = "float16"
    TYPE_FP32 = "float32"
    TYPE_STRING = "bytes"


class Kind(Enum):
    """Where instances of a model run."""

    KIND_CPU = "cpu"
    KIND_GPU = "gpu"


class TimeoutAction(Enum):
    """What happens to a request that has waited too long."""

    REJECT = "reject"


@dataclass(frozen=True)
class ModelInput:
    """An input; `dims` is without the batch, −1 is any size."""

    name: str
    data_type: DataType
    dims: tuple[int, ...]
    optional: bool | None = None


@dataclass(frozen=True)
class ModelOutput:
    """An output; `dims` is without the batch, −1 is any size."""

    name: str
    data_type: DataType
    dims: tuple[int, ...]


@dataclass(frozen=True)
class ModelQueuePolicy:
    """How long requests may wait, and how many; a request may shorten its own time."""

    timeout_action: TimeoutAction
    default_timeout_microseconds: int
    allow_timeout_override: bool
    max_queue_size: int


@dataclass(frozen=True)
class ModelDynamicBatching:
    """How requests are put together."""

    preferred_batch_size: tuple[int, ...]
    max_queue_delay_microseconds: int
    default_queue_policy: ModelQueuePolicy


@dataclass(frozen=True)
class ModelInstanceGroup:
    """How many of a model run side by side, and where; `profile` names a TensorRT engine's by their numbers."""

    kind: Kind
    count: int
    profile: tuple[str, ...] = ()


@dataclass(frozen=True)
class GraphShape:
    """An input's shape without the batch."""

    dim: tuple[int, ...]


@dataclass(frozen=True)
class GraphSpec:
    """A shape of all inputs that a CUDA graph is captured for."""

    batch_size: int
    input: Mapping[str, GraphShape]


@dataclass(frozen=True)
class Cuda:
    """How TensorRT uses CUDA."""

    graphs: bool
    graph_spec: tuple[GraphSpec, ...] = ()


@dataclass(frozen=True)
class ModelOptimizationPolicy:
    """What makes a model faster."""

    cuda: Cuda


@dataclass(frozen=True)
class Latest:
    """The newest versions."""

    num_versions: int = 1


@dataclass(frozen=True)
class ModelVersionPolicy:
    """Which versions are served."""

    latest: Latest = field(default_factory=Latest)


@dataclass(frozen=True)
class ModelParameter:
    """A value that the model reads."""

    string_value: str


@dataclass(frozen=True)
class WarmupInput:
    """A tensor of a warm-up request: a file below the model's `warmup/`, or noise."""

    data_type: DataType
    dims: tuple[int, ...]
    input_data_file: str | None = None
    random_data: bool | None = None


@dataclass(frozen=True)
class ModelWarmup:
    """A request that is answered before the model is ready."""

    name: str
    batch_size: int
    inputs: Mapping[str, WarmupInput]


@dataclass(frozen=True)
class Step:
    """A model of an ensemble; the maps lead from its tensors' names to the ensemble's."""

    model_name: str
    model_version: int
    input_map: Mapping[str, str]
    output_map: Mapping[str, str]


@dataclass(frozen=True)
class ModelEnsembling:
    """The models that an ensemble consists of."""

    step: tuple[Step, ...]


@dataclass(frozen=True)
class ModelResponseCache:
    """Whether Triton keeps answers."""

    enable: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """A `config.pbtxt`."""

    name: str
    max_batch_size: int
    input: tuple[ModelInput, ...]
    output: tuple[ModelOutput, ...]
    platform: str | None = None
    backend: str | None = None
    default_model_filename: str | None = None
    version_policy: ModelVersionPolicy = field(default_factory=ModelVersionPolicy)
    instance_group: tuple[ModelInstanceGroup, ...] = ()
    optimization: ModelOptimizationPolicy | None = None
    dynamic_batching: ModelDynamicBatching | None = None
    ensemble_scheduling: ModelEnsembling | None = None
    model_warmup: tuple[ModelWarmup, ...] = ()
    response_cache: ModelResponseCache = field(default_factory=ModelResponseCache)
    parameters: Mapping[str, ModelParameter] = field(default_factory=dict)
