"""Retries of both HTTP clients: which requests, when, how often."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import httpx
import pytest

from resnest_client.retries import retry_after
from resnest_core.errors import AccessError, NotAnImageError, ResNeStError, RuntimeUnavailableError
from tests.client.client_variants import URL, Ask, both, pixels, waits
from tests.client.gateway import Gateway, problem

Answer = httpx.Response | Exception
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)


def give(answer: Answer) -> httpx.Response:
    if isinstance(answer, Exception):
        raise answer
    return answer


def gateway(*answers: Answer) -> Gateway:
    """Return a gateway that answers detections with these, one after the other, and then as it should."""
    left = list(answers)
    return Gateway(intercept=lambda _: give(left.pop(0)) if left else None)


def tries(served: Gateway) -> int:
    return sum(request.method == "POST" for request in served.requests)


def later(status: int, seconds: object = None) -> httpx.Response:
    answer = problem(status, "unavailable" if status == 503 else "rate-limited")
    if seconds is not None:
        answer.headers["Retry-After"] = str(seconds)
    return answer


@both
@pytest.mark.parametrize(
    "answer",
    [
        later(503),
        later(429),
        httpx.Response(502, text="<html>"),
        httpx.Response(504),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("nobody"),
        httpx.ReadError("reset"),
        httpx.WriteError("reset"),
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
    ],
    ids=lambda answer: str(answer.status_code) if isinstance(answer, httpx.Response) else type(answer).__name__,
)
def test_asked_again(ask: Ask, answer: Answer, slept: list[float]) -> None:
    served = gateway(answer, answer)
    _, (found,) = ask([pixels()], transport=served)
    assert len(found) == 3
    assert tries(served) == 3
    first, second = slept
    assert 0 <= first <= 0.5 and 0 <= second <= 1
    assert served.requests[-1].content == served.requests[-3].content


@both
@pytest.mark.parametrize(
    "answer",
    [
        problem(400, "not-an-image"),
        problem(401, "unauthorized"),
        problem(404, "model-not-found"),
        problem(408, "slow-body"),
        problem(413, "image-too-large"),
        problem(422, "bad-parameter"),
        problem(500, "internal"),
        httpx.ReadTimeout("slow"),
        httpx.WriteTimeout("slow"),
        httpx.PoolTimeout("full"),
        httpx.DecodingError("damaged"),
    ],
    ids=lambda answer: str(answer.status_code) if isinstance(answer, httpx.Response) else type(answer).__name__,
)
def test_asked_once(ask: Ask, answer: Answer, slept: list[float]) -> None:
    served = gateway(answer)
    with pytest.raises(ResNeStError):
        ask([pixels()], transport=served)
    assert (tries(served), slept) == (1, [])


@both
@pytest.mark.parametrize("retries", [0, 1, 4])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (later(503, 0), RuntimeUnavailableError),
        (later(429, 0), AccessError),
        (httpx.ConnectError("refused"), RuntimeUnavailableError),
    ],
    ids=["503", "429", "refused"],
)
def test_it_gives_up(ask: Ask, answer: Answer, error: type[ResNeStError], retries: int, slept: list[float]) -> None:
    served = Gateway(intercept=lambda _: give(answer))
    with pytest.raises(error, match=r"Do it otherwise|can't be reached: refused"):
        ask([pixels()], transport=served, retries=retries)
    assert (tries(served), len(slept)) == (1 + retries, retries)


@both
def test_the_card_is_asked_for_again_too(ask: Ask, slept: list[float]) -> None:
    asked: list[httpx.Request] = []
    served = Gateway()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) < 3:
            raise httpx.ConnectError("not up yet")
        return served.handle_request(request)

    card, _ = ask([], transport=httpx.MockTransport(answer))
    assert card == served.detector.card
    assert (len(asked), len(slept)) == (3, 2)


@both
@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize("seconds", [0, 1, 7, 30])
def test_never_sooner_than_the_server_says(ask: Ask, status: int, seconds: int, slept: list[float]) -> None:
    served = gateway(later(status, seconds), later(status, seconds))
    ask([pixels()], transport=served)
    first, second = slept
    assert seconds <= first <= seconds + 0.5
    assert seconds <= second <= seconds + 1


@both
@pytest.mark.parametrize("seconds", [31, 3600, 10**9, "9" * 5000])
def test_who_would_wait_too_long_is_told_at_once(ask: Ask, seconds: object, slept: list[float]) -> None:
    served = gateway(later(429, seconds))
    with pytest.raises(AccessError):
        ask([pixels()], transport=served)
    assert (tries(served), slept) == (1, [])


def test_clients_do_not_come_back_all_at_once(slept: list[float]) -> None:
    for _ in range(8):
        waits([pixels()], transport=gateway(later(503, 1)))
    assert len(set(slept)) == 8


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        (" 12 ", 12),
        (format_datetime(NOW + timedelta(seconds=20), usegmt=True), 20),
        (format_datetime(NOW - timedelta(days=2), usegmt=True), 0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("Tue, 99 Foo 2026 25:61:61 GMT", None),
        ("²", None),
    ],
)
def test_both_forms_of_retry_after(value: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnest_client.retries.time.time", NOW.timestamp)
    headers = httpx.Headers([(b"Retry-After", value.encode())])
    assert retry_after(httpx.Response(503, headers=headers)) == seconds


def test_no_retry_after() -> None:
    assert retry_after(httpx.Response(503)) is None


@both
def test_an_image_that_is_none_is_not_even_sent(ask: Ask, slept: list[float]) -> None:
    served = Gateway()
    with pytest.raises(NotAnImageError):
        ask([b"no image"], URL, transport=served)
    assert (tries(served), slept) == (0, [])
