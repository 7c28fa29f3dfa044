"""A model that fails from now on isn't ready, says why, is refused at once, and recovers by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
import httpx
import pytest
from fastapi.testclient import TestClient

from resnest_core.detector import InProcessDetector
from resnest_core.runtimes import FakeRuntime
from resnest_server import Settings, create_app, engines, model_health, triton_engine
from resnest_server.engines import LocalEngine
from resnest_server.model_health import ModelHealth
from resnest_server.triton_engine import TritonEngine
from tests.client.fake_triton import FakeTriton
from tests.server.conftest import picture

URL = "/v1/detect"
DEAD = (grpc.StatusCode.INTERNAL, "in ensemble 'fake', Stub process 'fake_network_0_0' is not healthy.")
FULL = (grpc.StatusCode.UNAVAILABLE, "in ensemble 'fake', Exceeds maximum queue size")
BAD = (grpc.StatusCode.INVALID_ARGUMENT, "in ensemble 'fake', message: This is not an image.")


def post(client: TestClient) -> httpx.Response:
    answer: httpx.Response = client.post(URL, content=picture())
    return answer


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(triton_engine, "POLL_SECONDS", 0.05)


class Switch:
    """A runtime's or a server's state; counts what was asked of it while it is dead."""

    def __init__(self) -> None:
        self.dead = False
        self.asked = 0

    def __call__(self, _: object) -> None:
        if self.dead:
            self.asked += 1
            raise RuntimeError("the accelerator is gone")


def test_a_runtime_that_raises_from_now_on(caplog: pytest.LogCaptureFixture) -> None:
    switch = Switch()
    settings = Settings()
    engine = LocalEngine(InProcessDetector(FakeRuntime(before_run=switch)), settings)
    with TestClient(create_app(settings, [engine]), raise_server_exceptions=False) as client:
        assert post(client).status_code == 200
        switch.dead = True
        until(lambda: post(client).status_code == 503)
        ready = client.get("/health/ready")
        assert ready.status_code == 503
        assert "fake has failed" in ready.json()["detail"] and "the accelerator is gone" in ready.json()["detail"]
        refused = post(client)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        switch.dead = False
        until(lambda: client.get("/health/ready").status_code == 200)
        assert post(client).status_code == 200
    assert "fake answers again" in caplog.text


def test_a_runtime_is_loaded_again() -> None:
    def dead(_: object) -> None:
        raise RuntimeError("for good")

    loaded: list[InProcessDetector] = []

    def load() -> InProcessDetector:
        loaded.append(InProcessDetector(FakeRuntime()))
        return loaded[-1]

    settings = Settings()
    engine = LocalEngine(InProcessDetector(FakeRuntime(before_run=dead)), settings, load=load)
    with TestClient(create_app(settings, [engine]), raise_server_exceptions=False) as client:
        assert post(client).status_code in (500, 503)
        until(lambda: bool(loaded) and client.get("/health/ready").status_code == 200)
        assert post(client).status_code == 200
    assert len(loaded) == 1


def test_one_image_that_fails_does_not_make_a_model_unready() -> None:
    def fail(inputs: Any) -> None:
        if inputs["original_sizes"][0, 0] == 61:
            raise RuntimeError("this one")

    settings = Settings()
    engine = LocalEngine(InProcessDetector(FakeRuntime(before_run=fail)), settings)
    with TestClient(create_app(settings, [engine]), raise_server_exceptions=False) as client:
        for _ in range(10):
            for _ in range(5):
                assert client.post(URL, content=picture(61, 60)).status_code == 500
            assert client.post(URL, content=picture(40, 60)).status_code == 200
            assert client.get("/health/ready").status_code == 200


class Gate:
    """Serves a fake Triton through a gateway; `kind` is the error that it answers instead, or None."""

    kind: tuple[grpc.StatusCode, str] | None = None

    def __init__(self) -> None:
        self.triton = FakeTriton(refuse=lambda _: self.kind)


@pytest.fixture
def gate() -> Any:
    gate = Gate()
    yield gate
    gate.triton.stop()


def served(gate: Gate) -> TestClient:
    settings = Settings(triton_url=gate.triton.url.removeprefix("grpc://"), runtime="triton")
    card = next(iter(gate.triton.detectors.values())).card
    return TestClient(create_app(settings, [TritonEngine(card, settings)]), raise_server_exceptions=False)


def test_a_dead_process_of_triton(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    with served(gate) as client:
        assert post(client).status_code == 200
        gate.kind = DEAD
        caplog.clear()
        answer = client.post(URL, content=picture(), headers={"X-Request-ID": "dead-1"})
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert "not healthy" not in answer.text
        [record] = [record for record in caplog.records if "Triton says" in record.getMessage()][:1]
        assert (record.levelno, "'fake_network_0_0' is not healthy" in record.getMessage()) == (logging.ERROR, True)
        until(lambda: client.get("/health/ready").status_code == 503)
        assert "is not healthy" in client.get("/health/ready").json()["detail"]
        assert post(client).status_code == 503
        gate.kind = None
        until(lambda: client.get("/health/ready").status_code == 200)
        assert post(client).status_code == 200


@pytest.mark.parametrize(("kind", "status"), [(FULL, 503), (BAD, 400)])
def test_what_is_no_fault_of_the_model(
    gate: Gate, kind: tuple[grpc.StatusCode, str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_health, "IDLE_SECONDS", 0.0)  # so that it is probed, too
    with served(gate) as client:
        gate.kind = kind
        for _ in range(3):
            assert post(client).status_code == status
        assert client.get("/health/ready").status_code == 200


def test_an_idle_model_is_probed(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_health, "IDLE_SECONDS", 0.2)
    with served(gate) as client:
        gate.kind = DEAD
        until(lambda: client.get("/health/ready").status_code == 503)
        assert "test image" in client.get("/health/ready").json()["detail"]


def test_when_a_model_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    health = ModelHealth("m")
    assert not health.needs_probe(5)
    now[0] = 11
    assert health.needs_probe(1) and not health.needs_probe(0)
    now[0] = 61
    assert health.needs_probe(0)
    health.answered()
    assert not health.needs_probe(0)
    health.failed()
    assert health.needs_probe(0)
    health.check()
