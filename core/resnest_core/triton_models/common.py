"""Shared by both models: configuration, tensors, and errors that fail one request only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from resnest_core.card import ModelCard
from resnest_core.errors import ImageError, ParameterError, ResNeStError

Request = Any
Response = Any


def read_parameters(args: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of a model's `config.pbtxt`."""
    parameters = json.loads(args["model_config"])["parameters"]
    return {name: value["string_value"] for name, value in parameters.items()}


def read_instances(args: Mapping[str, str]) -> int:
    """Return how many instances of the model Triton starts, all groups together."""
    groups = json.loads(args["model_config"]).get("instance_group", [])
    return max(sum(int(group.get("count", 1)) for group in groups), 1)


def read_card(parameters: Mapping[str, str]) -> ModelCard:
    """Return the card that the configuration carries."""
    return ModelCard.from_metadata(dict(parameters), "config.pbtxt")


def read(request: Request, name: str) -> NDArray[Any] | None:
    """Return a request's tensor; None: it has none of this name."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def respond(outputs: Mapping[str, NDArray[Any]]) -> Response:
    """Return the response with these tensors."""
    tensors = [pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in outputs.items()]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def fail(error: Exception) -> Response:
    """Return an error response; only this project's own errors are quoted."""
    kind = pb_utils.TritonError
    if isinstance(error, ImageError | ParameterError):
        told = kind(str(error), kind.INVALID_ARG)
    elif isinstance(error, ResNeStError):
        told = kind(str(error), kind.UNAVAILABLE)
    else:
        pb_utils.Logger.log_error(f"{type(error).__name__}: {error}")
        told = kind("The model failed on this request: the server's log says why.", kind.INTERNAL)
    return pb_utils.InferenceResponse(error=told)


def cancelled() -> Response:
    """Return the response to a request that the client has cancelled."""
    kind = pb_utils.TritonError
    return pb_utils.InferenceResponse(error=kind("The request was cancelled.", kind.CANCELLED))
