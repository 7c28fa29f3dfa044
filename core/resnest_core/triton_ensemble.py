"""A detector's ensemble in Triton, over gRPC: builds requests, reads responses and errors, checks its tensors.

Shared by the gateway and the gRPC client; `tritonclient` is imported where it is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from resnest_core import tensors
from resnest_core.card import METADATA_KEY, ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import unpack
from resnest_core.errors import (
    InvalidModelError,
    MissingExtraError,
    ModelNotFoundError,
    NotAnImageError,
    OverloadedError,
    ParameterError,
    RemoteError,
    ResNeStError,
    TimedOutError,
    UnreachableError,
)

if TYPE_CHECKING:
    from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
    from tritonclient.grpc.model_config_pb2 import ModelConfig

IMAGE = "image"  # bytes [1], encoded
SCORE_THRESHOLD = "score_threshold"  # float32 [1], optional
WANT_MASKS = "want_masks"  # bool [1], optional, mask models only

MAX_MESSAGE = 2**31 - 1
# A restarted server is found again within seconds, and a stalled connection is closed after the keep-alive time-out.
# Servers accept one ping in 5 minutes while they send nothing; with more, they end slow requests ("too many pings").
_CONNECTION: list[tuple[str, int | str]] = [
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),  # a new client doesn't wait out the back-off of an earlier one
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),  # the variables http_proxy, grpc_proxy, … are for other connections
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),  # gRPC resolves a name again when a connection has ended
]
# A target with several addresses is several servers, which take turns; one that can't be reached is left out.
ROUND_ROBIN: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
CHANNEL_OPTIONS = [*_CONNECTION, ("grpc.service_config", json.dumps(ROUND_ROBIN))]
# Detection has no side effects, so what a server refuses, or doesn't finish, is sent to the next one. The first pauses
# are short so that few other requests take a turn meanwhile: a server that stops refuses requests until it ends.
RETRIES = {
    "name": [{"service": "inference.GRPCInferenceService"}],
    "retryPolicy": {
        "maxAttempts": 5,  # gRPC's upper limit
        "initialBackoff": "0.01s",
        "backoffMultiplier": 4,  # 0.01, 0.04, 0.16 and 0.64 s
        "maxBackoff": "1s",
        "retryableStatusCodes": ["UNAVAILABLE", "NOT_FOUND"],  # the latter: it has not loaded the model
    },
}
RETRYING_CHANNEL_OPTIONS = [
    *_CONNECTION,
    ("grpc.service_config", json.dumps({**ROUND_ROBIN, "methodConfig": [RETRIES]})),
    ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE),  # a larger request wouldn't be sent again: by default 256 KiB
]
AWAY = ("UNAVAILABLE", "CANCELLED", "ABORTED")
QUEUE_IS_FULL = "queue size"  # in Triton's own message
REFUSALS = ("Server is stopping", "unknown model")  # likewise: another Triton may answer


def import_client() -> Any:
    """Return the module `tritonclient.grpc`.

    Raises:
        MissingExtraError: it isn't installed.
    """
    try:
        import tritonclient.grpc
    except ImportError as error:
        raise MissingExtraError("tritonclient", "client") from error
    except RuntimeError as error:  # it is there, what it needs for gRPC isn't
        raise MissingExtraError("tritonclient[grpc]", "client") from error
    return tritonclient.grpc


def make_inputs(data: bytes, score_threshold: float, want_masks: bool, card: ModelCard) -> list[InferInput]:
    """Return the tensors of a request for one encoded image."""
    grpc = import_client()
    arrays: dict[str, tuple[str, np.ndarray[Any, Any]]] = {
        IMAGE: ("BYTES", np.array([[data]], np.object_)),
        SCORE_THRESHOLD: ("FP32", np.array([[score_threshold]], np.float32)),
    }
    if card.has_masks:
        arrays[WANT_MASKS] = ("BOOL", np.array([[want_masks]], np.bool_))
    inputs = []
    for name, (datatype, array) in arrays.items():
        tensor = grpc.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs


def make_outputs(want_masks: bool, card: ModelCard) -> list[InferRequestedOutput]:
    """Return the outputs to request: masks only if they are wanted."""
    grpc = import_client()
    names = tensors.output_names(card.has_masks and want_masks)
    return [grpc.InferRequestedOutput(name) for name in (*names, tensors.ORIGINAL_SIZES)]


def read_result(result: InferResult, want_masks: bool, card: ModelCard) -> Detections:
    """Return the detections of an answer.

    Raises:
        RemoteError: it lacks tensors, or they make no sense.
    """
    names = tensors.output_names(card.has_masks and want_masks)
    try:
        arrays = {name: result.as_numpy(name) for name in (*names, tensors.ORIGINAL_SIZES)}
        missing = [name for name, array in arrays.items() if array is None]
        if missing:
            raise RemoteError(f"{card.name} answered without {', '.join(missing)}: export its repository again.")
        height, width = (int(side) for side in arrays.pop(tensors.ORIGINAL_SIZES)[0])
        return unpack(arrays, 0, (height, width), want_masks)
    except (ParameterError, IndexError, TypeError, ValueError) as error:
        raise RemoteError(f"{card.name} answered what makes no sense: export its repository again.") from error


def read_error(error: Exception, model: str, address: str) -> ResNeStError:
    """Return the error of this project that an error of tritonclient stands for.

    An invalid argument is the image's fault: everything else was checked before it was sent.
    """
    status = str(getattr(error, "status", lambda: "")() or "").rpartition(".")[2]
    message = str(getattr(error, "message", lambda: "")() or error)
    if status == "INVALID_ARGUMENT":
        return NotAnImageError(_sentence(message))
    if status == "NOT_FOUND" or "unknown model" in message.lower():
        return ModelNotFoundError(f"There is no model {model!r} at {address}: export it into Triton's repository.")
    if status == "DEADLINE_EXCEEDED":
        return TimedOutError(f"Triton at {address} didn't answer for {model} in time: try again later.")
    if status == "RESOURCE_EXHAUSTED" or (status == "UNAVAILABLE" and QUEUE_IS_FULL in message):
        return OverloadedError(f"Triton at {address} has no room for {model} now: try again later.")
    if status in AWAY or not status:
        return UnreachableError(f"Triton at {address} doesn't answer for {model} now: try again later.")
    return RemoteError(f"{model} failed in Triton at {address}: its log says why.")


def is_refused_for_now(error: Exception) -> bool:
    """Return whether a Triton refused a request because it stops, or has not loaded the model."""
    return any(words in str(error) for words in REFUSALS)


def _sentence(message: str) -> str:
    """Return our own sentence out of what Triton puts before it."""
    return re.sub(r"^in ensemble '[^']*', ", "", message).rpartition("message: ")[2].strip()


def read_card(config: ModelConfig) -> ModelCard | None:
    """Return the card in a model's configuration; None: it isn't the ensemble of a detector.

    Raises:
        InvalidModelError: the card is damaged.
    """
    parameters = {name: value.string_value for name, value in config.parameters.items()}
    if config.platform != "ensemble" or METADATA_KEY not in parameters:
        return None
    card = ModelCard.from_metadata(parameters, f"Triton's model {config.name}")
    return card.model_copy(update={"name": config.name})


def check_tensors(metadata: Any, card: ModelCard) -> None:
    """Compare an ensemble's tensors, of Triton's model metadata, with those that this version of the project asks.

    Raises:
        InvalidModelError: names every difference at once.
    """
    asked = {IMAGE: "BYTES [1]", SCORE_THRESHOLD: "FP32 [1]"}
    if card.has_masks:
        asked[WANT_MASKS] = "BOOL [1]"
    rows, side = card.max_detections, card.mask_size
    answered = {
        tensors.NUM_DETECTIONS: "INT64 [1]",
        tensors.BOXES: f"FP32 [{rows}, 4]",
        tensors.SCORES: f"FP32 [{rows}]",
        tensors.LABELS: f"INT64 [{rows}]",
        tensors.ORIGINAL_SIZES: "INT64 [2]",
    }
    if side:
        answered[tensors.MASKS] = f"FP16 [{rows}, {side}, {side}]"
    differences = [*_differences("input", asked, metadata.inputs), *_differences("output", answered, metadata.outputs)]
    if differences:
        raise InvalidModelError(
            f"Triton's model {card.name} is of another version ({card.project_version}): {'; '.join(differences)}. "
            "Make its repository again with `resnest repository`."
        )


def _differences(kind: str, expected: Mapping[str, str], found: Sequence[Any]) -> list[str]:
    there = {tensor.name: f"{tensor.datatype} {[int(side) for side in tensor.shape[1:]]}" for tensor in found}
    return [
        f"{kind} {name} is {there.get(name, 'missing')} instead of {expected.get(name, 'none')}"
        for name in sorted(expected.keys() | there.keys())
        if expected.get(name) != there.get(name)
    ]
