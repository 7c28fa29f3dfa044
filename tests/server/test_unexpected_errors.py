"""Unexpected exceptions over a real connection: the answer has everything that other answers have, the log says why."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette_compress import CompressMiddleware

from resnest_core.formats import FORMATS
from resnest_core.formats.answer_format import AnswerFormat
from resnest_core.runtimes import FakeRuntime
from resnest_server import detection, routes
from resnest_server.metrics import Metrics
from resnest_server.request_context import REQUEST_ID, SECURITY_HEADERS
from tests.server.conftest import picture
from tests.server.live import live

ORIGIN = "https://page.example"
DETECT = "/v1/models/fake/detect"


class Records(logging.Handler):
    """Keeps each record with the id of the request that it was logged in."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[logging.LogRecord, str | None]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append((record, REQUEST_ID.get()))

    def of(self, request_id: str) -> list[logging.LogRecord]:
        return [record for record, found in self.found if found == request_id]


@pytest.fixture
def records() -> Iterator[Records]:
    handler, root = Records(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def fail(*_: object, **__: object) -> Any:
    raise ZeroDivisionError("planted")


def broken(monkeypatch: pytest.MonkeyPatch, place: str) -> FakeRuntime:
    """Plant a fault, and return the runtime to serve."""
    if place == "engine":
        return FakeRuntime(before_run=fail)
    if place == "format":
        monkeypatch.setitem(FORMATS, "native", AnswerFormat(fail))
    elif place == "card":
        monkeypatch.setattr(routes, "_shown", fail)
    elif place == "metrics":
        monkeypatch.setattr(Metrics, "render", fail)
    elif place == "middleware":
        monkeypatch.setattr(CompressMiddleware, "__call__", fail)
    return FakeRuntime()


@pytest.mark.parametrize(
    ("place", "method", "path"),
    [
        ("engine", "POST", DETECT),
        ("format", "POST", DETECT),
        ("card", "GET", "/v1/models"),
        ("metrics", "GET", "/metrics"),
        ("middleware", "GET", "/health/live"),
        ("middleware", "GET", "/no/such/route"),
    ],
)
def test_a_500_is_an_answer_like_others(
    monkeypatch: pytest.MonkeyPatch, records: Records, place: str, method: str, path: str
) -> None:
    request_id = f"{place}-1"
    with live(broken(monkeypatch, place), cors_origins=(ORIGIN,)) as url:
        answer = httpx.request(
            method,
            f"{url}{path}",
            content=picture() if method == "POST" else None,
            headers={"Origin": ORIGIN, "X-Request-ID": request_id},
        )
    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "application/problem+json")
    assert answer.json()["type"] == "/problems/internal"
    assert "planted" not in answer.text
    assert answer.headers["X-Request-ID"] == request_id
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    [access] = [record for record in records.of(request_id) if record.name == "resnest_server.access"]
    assert (access.status, access.failed) == (500, False)  # type: ignore[attr-defined]
    traces = [record for record, _ in records.found if record.exc_info]
    assert [record in records.of(request_id) for record in traces] == [True], "logged once, with the request's id"
    assert "planted" in logging.Formatter().format(traces[0])


def test_the_next_request_is_answered(records: Records) -> None:
    failing = iter([True, False])
    with live(FakeRuntime(before_run=lambda _: fail() if next(failing) else None)) as url, httpx.Client() as client:
        assert client.post(f"{url}{DETECT}", content=picture()).status_code == 500
        answer = client.post(f"{url}{DETECT}", content=picture())
        assert (answer.status_code, len(answer.json()["detections"])) == (200, 3)
    assert len({request_id for record, request_id in records.found if record.name == "resnest_server.access"}) == 2


def test_an_answer_that_breaks_off_is_logged_as_such(monkeypatch: pytest.MonkeyPatch, records: Records) -> None:
    """Its status is sent already: the connection is closed, so that no client takes the part for the whole."""
    monkeypatch.setattr(detection, "_or_problem", fail)
    files = [("file", picture()), ("file", picture())]
    with (
        live(FakeRuntime()) as url,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        httpx.post(f"{url}{DETECT}", files=files, headers={"Accept": "application/x-ndjson", "X-Request-ID": "lines-1"})
    [access] = [record for record in records.of("lines-1") if record.name == "resnest_server.access"]
    assert (access.status, access.failed) == (200, True)  # type: ignore[attr-defined]
    assert access.getMessage().endswith("ms, broken off")
    assert [record in records.of("lines-1") for record, _ in records.found if record.exc_info] == [True]
