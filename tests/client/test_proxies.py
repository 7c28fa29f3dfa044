"""Proxies of the environment: nothing to this machine goes through them, gRPC never does, other HTTP requests do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from resnest_client.bench.server_metrics import read_gateway_metrics
from resnest_core.errors import RuntimeUnavailableError
from resnest_core.runtimes import FakeRuntime
from resnest_server import Settings
from resnest_server.triton_engine import find_cards
from tests.client import client_variants, grpc_variants
from tests.client.client_variants import Ask, pixels
from tests.client.fake_triton import Triton
from tests.server.live import ipv6, live

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Name a proxy in the environment that refuses every request, and give the requests' first lines."""
    lines: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for name in VARIABLES:
            monkeypatch.setenv(name, address)
            monkeypatch.setenv(name.upper(), address)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)

        def refuse() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    lines.append(connection.recv(4096).partition(b"\r\n")[0])
                    connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        yield lines
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@client_variants.both
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", pytest.param("[::1]", marks=ipv6)])
def test_gateways_on_this_machine_are_asked_directly(ask: Ask, host: str, proxy: list[bytes]) -> None:
    with live(FakeRuntime(), host=host) as url:
        served = f"http://{host}:{url.rpartition(':')[2]}"
        assert len(ask([pixels()], served)[1]) == 1
        assert read_gateway_metrics(served, "fake") is not None
    assert proxy == []


@client_variants.both
def test_gateways_elsewhere_are_asked_through_the_proxy(ask: Ask, proxy: list[bytes]) -> None:
    with pytest.raises(RuntimeUnavailableError):
        ask([pixels()], "http://gateway.example:8000", retries=0)
    assert proxy == [b"GET http://gateway.example:8000/v1/models HTTP/1.1"]


@grpc_variants.both
def test_triton_is_asked_directly(ask: grpc_variants.Ask, fake_triton: Triton, proxy: list[bytes]) -> None:
    server = fake_triton()
    assert len(ask([pixels()], server.url)[1]) == 1
    settings = Settings(triton_url=f"grpc://localhost:{server.port}", triton_wait_seconds=0)
    assert [card.name for card in find_cards(settings)] == ["fake"]
    assert proxy == []
