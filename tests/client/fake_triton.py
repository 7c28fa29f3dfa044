"""Triton's gRPC service on a loopback socket, in this process: an ensemble each for fake runtimes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from resnest_core import tensors
from resnest_core.card import METADATA_KEY
from resnest_core.detector import InProcessDetector
from resnest_core.errors import ImageError
from resnest_core.images import Image, load_image
from resnest_core.preprocess import prepare, stack
from resnest_core.runtimes import FakeRuntime, Runtime

Refusal = tuple[grpc.StatusCode, str]
UNAVAILABLE: Refusal = (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
DATATYPES = {"int64": "INT64", "float32": "FP32", "float16": "FP16"}


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """A server at `url` until `stop`.

    `refuse` is asked before each detection, with its number from 1: an error to answer instead, or None. `most` is how
    many detections were in flight at a time. `change` may change an answer, `change_metadata` what is told of a model.
    `states` are models' states
    where they aren't READY.
    """

    def __init__(
        self,
        *runtimes: FakeRuntime,
        refuse: Callable[[int], Refusal | None] = lambda _: None,
        change: Callable[[Any], None] = lambda _: None,
        change_metadata: Callable[[Any], None] = lambda _: None,
        states: dict[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self.detectors = {runtime.card.name: InProcessDetector(runtime) for runtime in runtimes or (FakeRuntime(),)}
        self.refuse = refuse
        self.change = change
        self.change_metadata = change_metadata
        self.states = states or {}
        self.asked = self.looked = self.in_flight = self.most = 0
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(40))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.url = f"grpc://127.0.0.1:{self.port}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        return service_pb2.ModelReadyResponse(ready=request.name in self.detectors)

    def RepositoryIndex(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        self.looked += 1
        names = [suffixed for name in self.detectors for suffixed in (f"{name}_network", name)]
        models = [
            service_pb2.RepositoryIndexResponse.ModelIndex(name=name, state=self.states.get(name, "READY"))
            for name in ("aardvark", *names)
        ]
        return service_pb2.RepositoryIndexResponse(models=models)

    def ModelConfig(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        name = request.name
        if name in self.detectors:
            config = model_config_pb2.ModelConfig(name=name, platform="ensemble")
            # A model's name is its folder's: the card in its configuration may still have the one of its export.
            card = self.detectors[name].card.model_copy(update={"name": "as_exported"})
            config.parameters[METADATA_KEY].string_value = card.model_dump_json()
        elif name == "aardvark" or name.endswith("_network"):
            config = model_config_pb2.ModelConfig(name=name, backend="python")
        else:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
        return service_pb2.ModelConfigResponse(config=config)

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        card = self.detectors[request.name].card
        answer = service_pb2.ModelMetadataResponse(name=card.name)
        inputs = {"image": ("BYTES", [1]), "score_threshold": ("FP32", [1])}
        inputs |= {"want_masks": ("BOOL", [1])} if card.has_masks else {}
        for name, (datatype, shape) in inputs.items():
            answer.inputs.add(name=name, datatype=datatype, shape=[-1, *shape])
        for name, array in run(FakeRuntime(card), np.zeros((8, 8, 3), np.uint8), 0.5, True).items():
            answer.outputs.add(name=name, datatype=DATATYPES[str(array.dtype)], shape=[-1, *array.shape[1:]])
        self.change_metadata(answer)
        return answer

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        with self._lock:
            self.asked += 1
            number = self.asked
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
        if not context.add_callback(self._ended):
            self._ended()  # it was cancelled before it began
        if refusal := self.refuse(number):
            context.abort(*refusal)
        contents = dict(zip((one.name for one in request.inputs), request.raw_input_contents, strict=True))
        runtime = self.detectors[request.model_name].runtime
        threshold = float(np.frombuffer(contents["score_threshold"], np.float32)[0])
        want_masks = contents.get("want_masks") == b"\1"
        try:
            outputs = run(runtime, contents["image"][4:], threshold, want_masks)
        except ImageError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"in ensemble '{request.model_name}', {error}")
        answer = service_pb2.ModelInferResponse(model_name=request.model_name)
        for name in (one.name for one in request.outputs):
            array = outputs[name]
            answer.outputs.add(name=name, datatype=DATATYPES[str(array.dtype)], shape=array.shape)
            answer.raw_output_contents.append(array.tobytes())
        self.change(answer)
        return answer

    def _ended(self) -> None:
        with self._lock:
            self.in_flight -= 1


def run(runtime: Runtime, image: Image, threshold: float, want_masks: bool) -> dict[str, NDArray[Any]]:
    """Return an ensemble's outputs."""
    inputs = stack([prepare(load_image(image), runtime.card)]) | {
        tensors.SCORE_THRESHOLDS: np.array([[threshold]], np.float32),
        tensors.WANT_MASKS: np.array([[want_masks]]),
    }
    return {**runtime.run(inputs), tensors.ORIGINAL_SIZES: inputs[tensors.ORIGINAL_SIZES]}


Triton = Callable[..., FakeTriton]
