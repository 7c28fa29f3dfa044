"""HEAD answers as GET does, without the body."""

from __future__ import annotations

import http.client

import httpx
import pytest
from fastapi.testclient import TestClient

from resnest_core.runtimes import FakeRuntime
from tests.server.conftest import Serve
from tests.server.live import live
from tests.server.test_problems import assert_problem

PATHS = ["/", "/docs", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/page/main.js", "/v1/models"]
PATHS += ["/v1/models/fake", "/v1/models/absent", "/absent", "/docs/swagger/swagger-ui.css"]
OWN = {"x-request-id", "date", "content-length"}  # differ between any two answers


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_the_body(client: TestClient, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert {name: value for name, value in head.headers.items() if name not in OWN} == {
        name: value for name, value in get.headers.items() if name not in OWN
    }
    assert ("content-length" in head.headers) == ("content-length" in get.headers)
    if path != "/metrics":  # counts its own requests' time
        assert head.headers.get("content-length") == get.headers.get("content-length")


def test_head_needs_a_key_where_get_does(serve: Serve) -> None:
    client = serve(FakeRuntime(), api_keys="key")
    assert client.head("/v1/models").status_code == 401
    assert client.head("/v1/models", headers={"X-API-Key": "key"}).status_code == 200
    assert client.head("/health/ready").status_code == 200


@pytest.mark.parametrize("path", ["/v1/detect", "/v1/models/fake/detect"])
def test_where_get_is_not_head_is_not(client: TestClient, path: str) -> None:
    answer = client.head(path)
    assert (answer.status_code, answer.headers["Allow"], answer.content) == (405, "POST", b"")


@pytest.mark.parametrize("path", ["/health/ready", "/v1/models", "/metrics", "/"])
@pytest.mark.parametrize("method", ["DELETE", "OPTIONS", "PUT"])
def test_other_methods_are_told_which_are_allowed(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert_problem(answer, 405, "method-not-allowed")
    assert {name.strip() for name in answer.headers["Allow"].split(",")} == {"GET", "HEAD"}


def test_the_document_has_each_operation_once(client: TestClient) -> None:
    operations = client.get("/openapi.json").json()["paths"]
    assert not any("head" in methods for methods in operations.values())


def test_a_connection_stays_usable_after_head() -> None:
    """A body that was sent all the same would be read as the next answer."""
    with live(FakeRuntime()) as url:
        address = httpx.URL(url)
        connection = http.client.HTTPConnection(address.host, address.port or 80, timeout=10)
        for path in ("/", "/metrics", "/v1/models", "/absent"):
            for method in ("HEAD", "GET", "HEAD"):
                connection.request(method, path)
                answer = connection.getresponse()
                body = answer.read()
                assert answer.status == (404 if path == "/absent" else 200)
                assert bool(body) == (method == "GET")
        connection.close()
