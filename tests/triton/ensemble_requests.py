"""Sends requests to a model's ensemble over gRPC and HTTP with Triton's own clients."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray

from resnest_core import tensors
from resnest_core.detections import Detections
from resnest_core.detector import unpack
from tests.triton.server import TritonServer

PROTOCOLS = ("grpc", "http")
PATIENCE_SECONDS = 240


@dataclass(frozen=True)
class Client:
    """Triton's own client of one protocol; for one thread."""

    module: Any
    client: Any

    @property
    def protocol(self) -> str:
        """One of PROTOCOLS."""
        return "grpc" if self.module is tritonclient.grpc else "http"

    def infer(self, model: str, arrays: Mapping[str, NDArray[Any]], **options: Any) -> dict[str, NDArray[Any]]:
        """Send tensors, and return those of the answer."""
        inputs = []
        for name, array in arrays.items():
            datatype = "BYTES" if array.dtype == np.object_ else tritonclient.utils.np_to_triton_dtype(array.dtype)
            inputs.append(self.module.InferInput(name, array.shape, datatype))
            inputs[-1].set_data_from_numpy(array)
        answer = self.client.infer(model, inputs, **options)
        response = answer.get_response()
        outputs = response["outputs"] if isinstance(response, dict) else response.outputs
        names = [one["name"] if isinstance(one, dict) else one.name for one in outputs]
        return {name: answer.as_numpy(name) for name in names}

    def detect(
        self,
        data: bytes,
        model: str = "demo",
        *,
        score_threshold: float | None = None,
        want_masks: bool | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Detections:
        """Ask the ensemble for one encoded image; `options` are the client's own."""
        arrays: dict[str, NDArray[Any]] = {"image": np.array([[data]], np.object_)}
        if score_threshold is not None:
            arrays["score_threshold"] = np.array([[score_threshold]], np.float32)
        if want_masks is not None:
            arrays["want_masks"] = np.array([[want_masks]])
        outputs = self.infer(model, arrays, **(options or {}))
        height, width = outputs[tensors.ORIGINAL_SIZES][0]
        return unpack(outputs, 0, (int(height), int(width)), masks=want_masks is not False)

    @contextmanager
    def counting_batches(self, model: str, images: int) -> Iterator[Counter[int]]:
        """Fill a counter, at the end, with how many batches of which size the model ran within.

        Triton counts a request after it has answered it: what ran before is given time to be counted, and
        what ran within is waited for, until `images` are counted or ten seconds are over.
        """
        before, earlier = self.batches(model), None
        while before != earlier:
            time.sleep(0.2)
            before, earlier = self.batches(model), before
        ran: Counter[int] = Counter()
        yield ran
        deadline = time.monotonic() + 10
        while sum(ran.elements()) < images and time.monotonic() < deadline:
            time.sleep(0.02)
            ran.clear()
            ran.update(self.batches(model) - before)

    def batches(self, model: str) -> Counter[int]:
        """Return how many batches of which size the model has run, by Triton's own statistics."""
        options = {"as_json": True} if self.module is tritonclient.grpc else {}
        (statistics,) = self.client.get_inference_statistics(model, **options)["model_stats"]
        stats = statistics.get("batch_stats", [])
        return Counter({int(one["batch_size"]): int(one["compute_infer"]["count"]) for one in stats})


@contextmanager
def asking(server: TritonServer, protocol: str) -> Iterator[Client]:
    """Connect to a server."""
    if protocol == "grpc":
        module, client = tritonclient.grpc, tritonclient.grpc.InferenceServerClient(server.grpc)
    else:
        module = tritonclient.http
        client = module.InferenceServerClient(server.http, network_timeout=PATIENCE_SECONDS, connection_timeout=10)
    with client:
        yield Client(module, client)
