"""The API key is sent, and appears in no message."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest

from resnest_client import AsyncHttpDetector, HttpDetector
from resnest_client.gateway_protocol import GatewayProtocol
from resnest_core.errors import AccessError, ParameterError
from resnest_core.runtimes import FakeRuntime
from tests.client.client_variants import URL, Ask, both, pixels
from tests.client.gateway import Gateway
from tests.client.served import Serve

KEY = "a-key/that+is=long.enough~"


@both
def test_every_request_has_the_key(ask: Ask) -> None:
    gateway = Gateway()
    ask([pixels()], transport=gateway, api_key=KEY)
    assert [request.headers.get("Authorization") for request in gateway.requests] == [f"Bearer {KEY}"] * 2


@both
def test_the_key_of_the_environment(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNEST_API_KEY", "from-outside")
    for given, sent in ((None, "Bearer from-outside"), (KEY, f"Bearer {KEY}"), ("", None)):
        gateway = Gateway()
        ask([], transport=gateway, api_key=given)
        assert gateway.requests[0].headers.get("Authorization") == sent


@both
def test_no_key(ask: Ask) -> None:
    gateway = Gateway()
    ask([pixels()], transport=gateway)
    assert ["Authorization" in request.headers for request in gateway.requests] == [False] * 2


@both
@pytest.mark.parametrize("key", ["sécret", "secret\n", "secret\r\nHost: elsewhere", "two secrets", "\0secret"])
def test_what_can_be_no_key_is_refused_without_telling_it(ask: Ask, key: str) -> None:
    with pytest.raises(ParameterError, match="printable ASCII") as caught:
        ask([], transport=Gateway(), api_key=key)
    assert "secret" not in str(caught.value)


@both
def test_the_key_is_in_no_log_and_no_message(
    ask: Ask, serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    served = serve(FakeRuntime(), api_keys=(KEY,))
    with caplog.at_level(logging.DEBUG):
        ask([pixels()], served.url, api_key=KEY)
        with pytest.raises(AccessError, match="needs a key") as refused:
            ask([pixels()], served.url, api_key="another-key")
        with pytest.raises(AccessError, match="needs a key"):
            ask([pixels()], served.url)
    said = caplog.text + str(refused.value) + repr(refused.value) + "".join(capfd.readouterr())
    assert KEY not in said and "another-key" not in said
    assert len(caplog.records) > 0


def test_the_key_is_in_no_repr() -> None:
    with HttpDetector(URL, transport=Gateway(), api_key=KEY) as waiting:
        parts = [waiting, *vars(waiting).values()]
    awaiting = AsyncHttpDetector(URL, transport=Gateway(), api_key=KEY)
    parts += [awaiting, *vars(awaiting).values()]
    asyncio.run(awaiting.close())
    exchange = GatewayProtocol(URL, KEY)
    parts += [exchange, exchange.served_model("fake"), exchange.detections(pixels(), waiting.card, None, True)]
    parts += [httpx.Client(**exchange.client_options(1, 1)).headers]
    for part in parts:
        assert KEY not in repr(part) and KEY not in str(part)


def test_the_image_is_in_no_repr() -> None:
    question = GatewayProtocol(URL, None).detections(pixels(), Gateway().detector.card, None, True)
    assert len(repr(question)) < 400
