"""A gateway in front of several Tritons: they take turns, and what one refuses the next one answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc  # type: ignore[import-untyped]
import httpx
import pytest
from fastapi.testclient import TestClient

from resnest_core.runtimes import FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from resnest_server import Settings, create_app, triton_engine
from resnest_server.triton_engine import TritonEngine, find_cards
from tests.client.conftest import fake_triton
from tests.client.fake_triton import UNAVAILABLE, FakeTriton, Refusal, Triton
from tests.server.conftest import picture
from tests.server.test_model_health import BAD, DEAD, URL, until

__all__ = ["fake_triton"]

REQUESTS, CLIENTS = 40, 4
ATTEMPTS = 5
STOPPING = (grpc.StatusCode.UNAVAILABLE, "Server is stopping, scheduler for model has stopped accepting new requests")
NOT_LOADED = (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'fake' has no available versions")
OTHER = FAKE_CARD.model_copy(update={"name": "other"})


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_engine, "POLL_SECONDS", 0.05)


def refusing(refusal: Refusal) -> Callable[[int], Refusal]:
    return lambda _: refusal


@contextmanager
def gateway(*tritons: FakeTriton, **settings: object) -> Iterator[TestClient]:
    """Serve the model `fake` of Tritons at several addresses."""
    url = f"ipv4:{','.join(f'127.0.0.1:{triton.port}' for triton in tritons)}"
    chosen = Settings(triton_url=url, runtime="triton", **settings)  # type: ignore[arg-type]
    engine = TritonEngine(FAKE_CARD, chosen)
    with TestClient(create_app(chosen, [engine]), raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient, body: bytes = picture()) -> httpx.Response:
    answer: httpx.Response = client.post(URL, content=body)
    return answer


def statuses(client: TestClient, body: bytes = picture()) -> set[int]:
    with ThreadPoolExecutor(CLIENTS) as pool:
        return {answer.status_code for answer in pool.map(lambda _: post(client, body), range(REQUESTS))}


def test_tritons_take_turns(fake_triton: Triton) -> None:
    first, second = fake_triton(), fake_triton()
    with gateway(first, second) as client:
        until(lambda: post(client).status_code == 200 and min(first.asked, second.asked) > 0)  # both are connected
        before = first.asked, second.asked
        assert statuses(client) == {200}
    shares = [now - then for now, then in zip((first.asked, second.asked), before, strict=True)]
    assert (
        sum(shares) == REQUESTS and min(shares) > REQUESTS / 4
    )  # not exactly half: checks of readiness take turns too


@pytest.mark.parametrize("refusal", [STOPPING, NOT_LOADED], ids=["stopping", "not loaded"])
def test_what_one_refuses_the_other_answers(fake_triton: Triton, refusal: Refusal) -> None:
    good, refuses = fake_triton(), fake_triton(refuse=refusing(refusal))
    with gateway(good, refuses) as client:
        until(lambda: post(client).status_code == 200 and refuses.asked > 0)
        before = good.asked
        assert statuses(client) == {200}
        assert good.asked == before + REQUESTS
        assert client.get("/health/ready").status_code == 200


def test_a_queue_that_is_full_for_a_moment(fake_triton: Triton) -> None:
    triton = fake_triton(refuse=lambda number: UNAVAILABLE if number < ATTEMPTS else None)
    with gateway(triton) as client:
        assert post(client).status_code == 200
    assert triton.asked == ATTEMPTS


def test_large_requests_are_sent_again_too(fake_triton: Triton) -> None:
    """More than gRPC keeps for that by default, 256 KiB."""
    body = picture(600, 600, "image/png")
    assert len(body) > 2**19
    good, refuses = fake_triton(), fake_triton(refuse=refusing(STOPPING))
    with gateway(good, refuses) as client:
        until(lambda: post(client).status_code == 200 and refuses.asked > 0)
        before = refuses.asked
        assert statuses(client, body) == {200}
        assert refuses.asked > before


def test_a_full_queue_everywhere_is_503_in_bounded_time(fake_triton: Triton) -> None:
    full = fake_triton(refuse=refusing(UNAVAILABLE)), fake_triton(refuse=refusing(UNAVAILABLE))
    with gateway(*full) as client:
        before = sum(triton.asked for triton in full)
        start = time.monotonic()
        answer = post(client)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert time.monotonic() - start < 3
        assert sum(triton.asked for triton in full) == before + ATTEMPTS
        assert client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("kind", [BAD, DEAD], ids=["damaged image", "failed model"])
def test_what_is_not_sent_again(fake_triton: Triton, kind: Refusal) -> None:
    triton = fake_triton(refuse=lambda number: kind if number == 1 else None)
    with gateway(triton) as client:
        assert post(client).status_code == (400 if kind is BAD else 503)
        until(lambda: client.get("/health/ready").status_code == 200)
    assert triton.asked == 1 or kind is DEAD  # which test images follow


def test_the_time_limit_is_of_all_attempts(fake_triton: Triton) -> None:
    def late(_: int) -> Refusal:
        time.sleep(0.4)
        return STOPPING

    triton = fake_triton(refuse=late)
    with gateway(triton, request_seconds=1) as client:
        start = time.monotonic()
        assert post(client).status_code == 503
        assert time.monotonic() - start < 2


def test_it_is_ready_as_long_as_one_is(fake_triton: Triton) -> None:
    """Of three addresses one has the model, one has another model only, and at one nothing listens."""
    ready, other, away = fake_triton(), fake_triton(FakeRuntime(OTHER)), fake_triton()
    away.stop()
    with gateway(ready, other, away) as client:
        until(lambda: post(client).status_code == 200)  # it is connected
        time.sleep(0.5)
        assert {_ready_after(client, 0.05) for _ in range(20)} == {200}
        ready.stop()
        until(lambda: client.get("/health/ready").status_code == 503)
        assert "has fake not ready" in client.get("/health/ready").json()["detail"]
        other.stop()
        until(lambda: "doesn't answer" in client.get("/health/ready").json()["detail"])


def _ready_after(client: TestClient, seconds: float) -> int:
    time.sleep(seconds)
    answer: httpx.Response = client.get("/health/ready")
    return answer.status_code


def test_a_test_image_that_one_fails_on_is_answered_by_the_other(fake_triton: Triton) -> None:
    good, broken = fake_triton(), fake_triton(refuse=refusing(DEAD))
    with gateway(good, broken) as client:
        sent = [post(client).status_code]
        while sent[-1] != 503:  # until it is the broken one's turn
            sent.append(post(client).status_code)
        assert {_ready_after(client, 0.05) for _ in range(10)} == {200}
        assert good.asked + broken.asked > len(sent)  # by test images
        broken.refuse = lambda _: None
        assert statuses(client) == {200}


def test_cards_are_found_where_a_model_is_loaded(fake_triton: Triton) -> None:
    away, ready = fake_triton(), fake_triton()
    away.stop()
    url = f"ipv4:127.0.0.1:{away.port},127.0.0.1:{ready.port}"
    (card,) = find_cards(Settings(triton_url=url, runtime="triton"))
    assert card.name == "fake"
