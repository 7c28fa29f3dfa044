"""Forms stay in memory, which is bounded for all requests together."""

from __future__ import annotations

import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from resnest_core.errors import RuntimeUnavailableError
from resnest_core.runtimes import FakeRuntime
from resnest_server.in_flight import BytesInFlight
from tests.server.conftest import Serve, picture
from tests.server.live import live
from tests.server.test_back_pressure import Gate, metric, until

MEGABYTES = 3
FILE = picture() + bytes(MEGABYTES * 1_000_000)


def post_form(url: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/detect", files={"file": ("a.jpg", FILE)}, timeout=60)


def test_no_form_is_written_to_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with live(FakeRuntime()) as url, ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: post_form(url), range(24)))
    assert [answer.status_code for answer in answers] == [200] * 24


def test_bytes_in_flight_are_bounded_and_freed() -> None:
    gate = Gate()
    limits = {"max_body_bytes": 4_000_000, "max_bytes_in_flight": 10_000_000}
    with live(FakeRuntime(before_run=gate), **limits) as url, ThreadPoolExecutor(3) as pool:
        held = [pool.submit(post_form, url) for _ in range(3)]
        until(lambda: metric(url, "resnest_queue_places_taken") == 3)
        refused = post_form(url)
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/unavailable")
        assert "10,000,000 bytes" in refused.json()["detail"]
        assert refused.headers["Retry-After"] == "1"
        gate.open.set()
        assert Counter(answer.result().status_code for answer in held) == {200: 3}
        assert post_form(url).status_code == 200


def test_lines_hold_their_bytes_until_the_last(serve: Serve) -> None:
    client = serve(FakeRuntime())
    held = client.app.state.gateway.bytes_in_flight  # type: ignore[attr-defined]
    seen = []
    files = [("file", ("a.jpg", picture())) for _ in range(4)]
    with client.stream("POST", "/v1/detect", files=files, headers={"Accept": "application/x-ndjson"}) as answer:
        for _ in answer.iter_lines():
            seen.append(held.count)
    assert len(seen) == 4
    assert held.count == 0


def test_what_a_request_holds_is_freed_when_it_fails() -> None:
    held = BytesInFlight(100)
    with held.of_request() as hold:
        hold(60)
        with pytest.raises(RuntimeUnavailableError, match="100 bytes"), held.of_request() as hold_more:
            hold_more(40)
            hold_more(1)
        assert held.count == 60
    assert held.count == 0
