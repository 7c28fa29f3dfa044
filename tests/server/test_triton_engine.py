"""The engine that asks Triton, with a client that records what it is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from opentelemetry import trace
from starlette.datastructures import QueryParams

from resnest_core import tensors
from resnest_core.runtimes.fake import FAKE_CARD, FakeRuntime
from resnest_server import Settings
from resnest_server.encoded_image import EncodedImage
from resnest_server.parameters import read_options
from resnest_server.timings import Timings
from resnest_server.triton_engine import TritonEngine
from tests.server.conftest import picture


class Client:
    """Answers as the fake runtime does."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    async def infer(self, model: str, inputs: list[Any], **options: Any) -> Client:
        self.asked = {"model": model, "inputs": [tensor.name() for tensor in inputs], **options}
        return self

    def as_numpy(self, name: str) -> Any:
        inputs = {
            tensors.ORIGINAL_SIZES: np.array([[40, 60]]),
            tensors.SCORE_THRESHOLDS: np.array([[0.05]], np.float32),
            tensors.WANT_MASKS: np.array([[True]]),
        }
        return {**FakeRuntime().run(inputs), tensors.ORIGINAL_SIZES: inputs[tensors.ORIGINAL_SIZES]}[name]


def test_the_trace_and_the_deadline_are_passed_on() -> None:
    engine, client = TritonEngine(FAKE_CARD, Settings(request_seconds=7)), Client()
    engine._client = client
    context = trace.SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0xF067AA0BA902B7, True, trace.TraceFlags(1))

    async def ask() -> int:
        with trace.use_span(trace.NonRecordingSpan(context)):
            options = read_options(QueryParams(""), [], None, FAKE_CARD)
            return len((await engine.detect(EncodedImage(picture(), 2400), options, Timings())).detections)

    assert asyncio.run(ask()) == 3
    assert client.asked["headers"]["traceparent"].startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
    assert (client.asked["client_timeout"], client.asked["timeout"]) == (7, 7_000_000)
    assert client.asked["inputs"] == ["image", "score_threshold", "want_masks"]


def test_huge_images_wait_here_and_small_ones_overtake_them() -> None:
    class Slow(Client):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []
            self.answer = asyncio.Event()

        async def infer(self, model: str, inputs: list[Any], **options: Any) -> Client:
            self.sizes.append(int(inputs[0].shape()[0]))
            await self.answer.wait()
            return await super().infer(model, inputs, **options)

    limit = 100
    engine, client = TritonEngine(FAKE_CARD, Settings(max_decoding_pixels=2 * limit)), Slow()
    engine._client = client
    asked: list[int] = []

    async def ask(pixels: int) -> None:
        options = read_options(QueryParams(""), [], None, FAKE_CARD)
        await engine.detect(EncodedImage(picture(), pixels), options, Timings())
        asked.append(pixels)

    async def main() -> None:
        huge = [asyncio.create_task(ask(limit)) for _ in range(16)]
        small = asyncio.create_task(ask(1))
        while len(client.sizes) < 2:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(client.sizes) == 2 and not asked
        client.answer.set()
        await asyncio.gather(small, *huge)

    asyncio.run(main())
    assert 1 in asked[:4] and len(asked) == 17
