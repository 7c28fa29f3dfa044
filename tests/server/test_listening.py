"""The addresses that the gateway listens on: both families, brackets, names."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from resnest_core.cli import build
from resnest_core.errors import ParameterError
from resnest_core.runtimes import FakeRuntime
from resnest_server import Settings
from resnest_server.listening import authority, listen
from tests.server.live import ipv6, live
from tests.server.test_serve import serving

BOTH = ("127.0.0.1", "[::1]")


def answering(url: str) -> set[str]:
    """Return which loopback addresses answer at a server's port."""
    port = url.rpartition(":")[2]
    found = set()
    for host in BOTH:
        try:
            httpx.get(f"http://{host}:{port}/health/ready").raise_for_status()
        except httpx.ConnectError:
            continue
        found.add(host)
    return found


@ipv6
@pytest.mark.parametrize(
    ("host", "hosts"),
    [
        ("::", {*BOTH}),
        ("[::]", {*BOTH}),
        ("::1", {"[::1]"}),
        ("[::1]", {"[::1]"}),
        ("0.0.0.0", {"127.0.0.1"}),
        ("127.0.0.1", {"127.0.0.1"}),
    ],
)
def test_families(host: str, hosts: set[str]) -> None:
    with live(FakeRuntime(), host=host, insecure=True) as url:
        assert answering(url) == hosts


@ipv6
def test_a_name_of_both_families_is_served_by_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> list[object]:
        kind = (socket.SOCK_STREAM, 6, "")
        return [(socket.AF_INET6, *kind, ("::1", 0, 0, 0)), (socket.AF_INET, *kind, ("127.0.0.1", 0))]

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        listeners = listen("localhost", 0)
    assert [listener.getsockname()[0] for listener in listeners] == ["::1", "127.0.0.1"]
    assert len({listener.getsockname()[1] for listener in listeners}) == 1
    for listener in listeners:
        listener.close()


def test_addresses_that_this_machine_has_not_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> list[object]:
        kind = (socket.SOCK_STREAM, 6, "")
        return [(socket.AF_INET, *kind, (address, 0)) for address in ("192.0.2.1", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    [listener] = listen("localhost", 0)
    assert listener.getsockname()[0] == "127.0.0.1"
    listener.close()


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("192.0.2.1", "192.0.2.1:8000 can't be listened on: cannot assign requested address"),
        ("2001:db8::1", "[2001:db8::1]:8000 can't be listened on"),
        ("no.such.host.invalid", "no.such.host.invalid:8000 can't be listened on: the name is unknown"),
        ("a..b", "a..b:8000 can't be listened on: the name is unknown"),
        ("x" * 70, "can't be listened on: the name is unknown"),
        ("nul\0byte", "can't be listened on: the name is unknown"),
    ],
)
def test_addresses_that_are_none(host: str, says: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(says)):
        listen(host, 8000)


@ipv6
def test_a_port_taken_in_one_family_is_refused_and_nothing_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ParameterError, match="address already in use"):
            listen("::", port)
        socket.create_server(("::1", port), family=socket.AF_INET6).close()


def test_authorities() -> None:
    assert authority("::1", 80) == "[::1]:80"
    assert authority("127.0.0.1", 80) == "127.0.0.1:80"
    assert authority("gateway.example", 80) == "gateway.example:80"


@ipv6
def test_the_log_tells_the_address_as_it_is_typed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving("--host", "[::]", "--insecure", "--runtime", "onnxruntime", log=log) as (url, _):
        assert answering(url) == {*BOTH}
    assert f"Listening at http://[::]:{url.rpartition(':')[2]}." in log.read_text()


@pytest.mark.parametrize(
    ("url", "given"),
    [
        ("grpc://triton:9001", "triton:9001"),
        ("triton", "triton:8001"),
        ("[::1]:9", "[::1]:9"),
        ("dns:///t:1", "dns:///t:1"),
    ],
)
def test_tritons_address(url: str, given: str) -> None:
    assert Settings(triton_url=url).triton_url == given


@pytest.mark.parametrize("url", ["http://triton:8000", "https://triton", "tcp://10.0.0.1:8001", "triton:port"])
def test_addresses_that_are_not_tritons(url: str) -> None:
    result = CliRunner().invoke(build(), ["serve", "--triton-url", url])
    assert isinstance(result.exception, ParameterError)
    assert str(result.exception) == (
        f"The setting triton_url can't be '{url}': {url} is not an address of gRPC: "
        "use one such as grpc://localhost:8001."
    )
