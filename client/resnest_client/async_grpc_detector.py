"""Asynchronous gRPC client of a detector in Triton."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from functools import partial
from typing import Any, TypeVar

from tenacity import AsyncRetrying

from resnest_client.async_detector import AsyncDetector
from resnest_client.client_limits import CONNECT_TIMEOUT, GRPC_MAX_CONCURRENCY, RETRIES, TIMEOUT, check_bounds
from resnest_client.image_bytes import encoded
from resnest_client.retries import grpc_policy
from resnest_core import triton_ensemble
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import checked_threshold
from resnest_core.errors import (
    InvalidModelError,
    ModelNotFoundError,
    RemoteError,
    ResNeStError,
    RuntimeUnavailableError,
)
from resnest_core.grpc_address import URL, grpc_address
from resnest_core.images import Color, Image

T = TypeVar("T")


class AsyncGrpcDetector(AsyncDetector):
    """Detects objects through the Triton at `url`: `async with AsyncGrpcDetector(url) as detector`.

    Arguments and errors are those of `GrpcDetector`, but the client connects only on `async with` or `open`. Cancelling
    a task cancels its request; Triton drops it if it is still queued.
    """

    def __init__(
        self,
        url: str = URL,
        model: str | None = None,
        *,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        max_concurrency: int = GRPC_MAX_CONCURRENCY,
    ) -> None:
        super().__init__(max_concurrency)
        triton_ensemble.import_client()
        check_bounds(timeout, max_concurrency)
        self._address = grpc_address(url)
        self._model = model
        self._timeout = timeout
        self._policy = grpc_policy(retries, timeout)
        self._places = asyncio.Semaphore(max_concurrency)
        self._client: Any = None

    async def read_card(self) -> ModelCard:
        from tritonclient.grpc.aio import InferenceServerClient
        from tritonclient.utils import InferenceServerException

        self._client = InferenceServerClient(self._address, channel_args=triton_ensemble.CHANNEL_OPTIONS)
        try:
            card = await (self._first_card() if self._model is None else self._card_of(self._model))
            triton_ensemble.check_tensors(await self._look(self._client.get_model_metadata, card.name), card)
        except InferenceServerException as error:
            raise self._no_card(error) from error
        return card

    async def _detect(self, image: Image, score_threshold: float | None, masks: bool, color: Color) -> Detections:
        from tritonclient.utils import InferenceServerException

        threshold = checked_threshold(score_threshold, self.card)
        async with self._places:
            data = await asyncio.to_thread(encoded, image, color)  # reads or encodes the image
            inputs = triton_ensemble.make_inputs(data, threshold, masks, self.card)
            self._check_open()
            infer = partial(
                self._client.infer, self.card.name, inputs, outputs=triton_ensemble.make_outputs(masks, self.card)
            )
            try:
                result = await self._ask(infer, self._timeout)
            except InferenceServerException as error:
                raise triton_ensemble.read_error(error, self.card.name, self._address) from error
        return triton_ensemble.read_result(result, masks, self.card)

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _ask(self, call: Any, seconds: float) -> Any:
        """Call Triton's client, with retries, until the call succeeds or its time is over."""
        end = time.monotonic() + seconds

        async def attempt() -> Any:
            return await call(client_timeout=max(end - time.monotonic(), 0))

        return await AsyncRetrying(**self._policy)(attempt)

    def _look(self, call: Any, *arguments: str) -> Awaitable[Any]:
        return self._ask(partial(call, *arguments), min(self._timeout, CONNECT_TIMEOUT))

    async def _card_of(self, model: str) -> ModelCard:
        card = triton_ensemble.read_card((await self._look(self._client.get_model_config, model)).config)
        if card is None:
            raise InvalidModelError(f"Triton's model {model} is not the ensemble of a detector: name that one.")
        return card

    async def _first_card(self) -> ModelCard:
        index = await self._look(self._client.get_model_repository_index)
        for name in sorted(model.name for model in index.models if model.state == "READY"):
            card = triton_ensemble.read_card((await self._look(self._client.get_model_config, name)).config)
            if card is not None:
                return card
        raise ModelNotFoundError(
            f"Triton at {self._address} has none of this project's models ready: `resnest repository` makes them."
        )

    def _no_card(self, error: Exception) -> ResNeStError:
        meaning = triton_ensemble.read_error(error, self._model or "", self._address)
        if isinstance(meaning, RuntimeUnavailableError):
            return RuntimeUnavailableError(
                f"Triton can't be reached at {self._address}: start it, or name the address of its gRPC port."
            )
        if isinstance(meaning, RemoteError):
            return RemoteError(f"What answers at {self._address} is not Triton: name the address of its gRPC port.")
        return meaning
