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
            return len((await engine.detect(picture(), options, Timings())).detections)

    assert asyncio.run(ask()) == 3
    assert client.asked["headers"]["traceparent"].startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
    assert (client.asked["client_timeout"], client.asked["timeout"]) == (7, 7_000_000)
    assert client.asked["inputs"] == ["image", "score_threshold", "want_masks"]
