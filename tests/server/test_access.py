"""API keys, rate limits, and CORS headers."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from resnest_core.errors import ParameterError
from resnest_core.runtimes import FakeRuntime
from resnest_server import Settings, access, create_app
from resnest_server.access import require_keys_in_public
from tests.server.conftest import Serve, picture
from tests.server.test_problems import assert_problem

DETECT = "/v1/models/fake/detect"
JPEG = {"Content-Type": "image/jpeg"}


def status(client: TestClient, **headers: str) -> int:
    code: int = client.post(DETECT, content=picture(), headers={**JPEG, **headers}).status_code
    return code


def test_keys_open_the_api_and_nothing_else_needs_one(serve: Serve) -> None:
    client = serve(FakeRuntime(), api_keys="first-key, second-key")
    for key in ("first-key", "second-key"):
        assert status(client, Authorization=f"Bearer {key}") == 200
        assert status(client, Authorization=f"bearer  {key}") == 200
        assert client.get("/v1/models", headers={"X-API-Key": key}).status_code == 200
    for headers in (
        {},
        {"Authorization": "Bearer third-key"},
        {"Authorization": "Bearer "},
        {"Authorization": "first-key"},
        {"Authorization": "Basic first-key"},
        {"X-API-Key": "First-Key"},
        {"X-API-Key": ""},
    ):
        answer = client.post(DETECT, content=b"", headers=headers)
        assert "Authorization: Bearer KEY" in assert_problem(answer, 401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert client.get("/v1/models/absent", headers=headers).status_code == 401
    for path in ("/health/live", "/health/ready", "/metrics", "/openapi.json"):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Basic dXNlcjpwYXNz"), ("X-API-Key", "right-key")],
        [("Authorization", "Bearer token-of-the-proxy"), ("X-API-Key", "right-key")],
        [("Authorization", "Bearer right-key"), ("X-API-Key", "another")],
        [("Authorization", "Basic dXNlcjpwYXNz"), ("Authorization", "Bearer right-key")],
        [("Authorization", "Bearer"), ("X-API-Key", "right-key")],
        [("Authorization", "Negotiate abc=="), ("X-API-Key", "right-key")],
        [("X-API-Key", "right-key"), ("Authorization", 'Digest username="a", realm="b"')],
    ],
    ids=str,
)
def test_a_proxys_credentials_do_not_hide_a_key(serve: Serve, headers: list[tuple[str, str]]) -> None:
    client = serve(FakeRuntime(), api_keys="right-key", rate_limit="2/minute")
    assert [client.get("/v1/models", headers=headers).status_code for _ in range(3)] == [200, 200, 429]
    assert client.get("/v1/models", headers={"X-API-Key": "right-key"}).status_code == 429  # one key, one limit


def test_a_request_has_two_guesses_at_most(serve: Serve) -> None:
    client = serve(FakeRuntime(), api_keys="right-key")
    for name, prefix in (("X-API-Key", ""), ("Authorization", "Bearer ")):
        headers = [(name, f"{prefix}wrong-{number}") for number in range(3)] + [(name, f"{prefix}right-key")]
        assert client.get("/v1/models", headers=headers).status_code == 401


def test_a_file_of_keys_is_read_again_when_it_changes(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access, "CHECK_SECONDS", 0)
    caplog.set_level(logging.INFO)
    path = tmp_path / "keys"
    path.write_text("# ours\nold-key\n\n")
    client = serve(FakeRuntime(), api_keys_file=path, api_keys="fixed-key")
    assert [status(client, **{"X-API-Key": key}) for key in ("old-key", "new-key", "fixed-key")] == [200, 401, 200]
    path.write_text("new-key\n")
    os.utime(path, (time.time() + 5, time.time() + 5))
    assert [status(client, **{"X-API-Key": key}) for key in ("old-key", "new-key", "fixed-key")] == [401, 200, 200]
    path.write_text("new-key  # of this year\n")
    os.utime(path, (time.time() + 7, time.time() + 7))
    assert status(client, **{"X-API-Key": "new-key"}) == 200
    path.write_text("# nothing\n")
    os.utime(path, (time.time() + 9, time.time() + 9))
    assert status(client, **{"X-API-Key": "new-key"}) == 200  # the keys before stay in force
    path.unlink()
    assert status(client, **{"X-API-Key": "new-key"}) == 200
    assert "stay in force" in caplog.text
    assert not any(key in caplog.text for key in ("old-key", "new-key", "fixed-key"))


@pytest.mark.parametrize("content", [None, "", "# only a comment\n", b"\xff\xfe\xff"])
def test_files_of_keys_that_are_none(tmp_path: Path, content: str | bytes | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ParameterError, match="The file of keys"):
        create_app(Settings(api_keys_file=path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_files_of_keys_of_other_systems(serve: Serve, tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(end.join(["first-key  ", "# of others", "", "\tse#cond#", "#third"]).encode(encoding))
    client = serve(FakeRuntime(), api_keys_file=path)
    keys = ["first-key", "se#cond#", "se", "#third", "third", "of others"]
    assert [status(client, **{"X-API-Key": key}) for key in keys] == [200, 200, 401, 401, 401, 401]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"first\nsecond # of bob\n", "has no key in line 2: a key is printable ASCII without spaces"),
        ("# keys\nschlüssel\n\na\u200bb\n".encode(), "has no key in line 2, 4: a key"),
        (b"a\x1bb", "has no key in line 1: a key"),
        ("key\n".encode("utf-16-le"), "keys has NUL bytes, as UTF-16 without its byte-order mark"),
        ("schlüssel".encode("latin-1"), "keys can't be read as text: save it as UTF-8"),
    ],
)
def test_lines_that_are_no_keys_are_told_by_their_number(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match=f"^The file of keys .*{sentence}") as caught:
        create_app(Settings(api_keys_file=path))
    assert "second" not in str(caught.value) and "schlüssel" not in str(caught.value)


def test_keys_are_not_shown() -> None:
    assert "secret" not in repr(Settings(api_keys="secret-key"))  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_needs_no_keys_and_it_is_said(host: str, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    require_keys_in_public(Settings(host=host))
    serve(FakeRuntime(), host=host)
    assert "NO KEYS" in caplog.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gateway.example"])
def test_where_others_can_reach_keys_are_needed(host: str) -> None:
    with pytest.raises(ParameterError, match="or pass --insecure"):
        require_keys_in_public(Settings(host=host))
    require_keys_in_public(Settings(host=host, insecure=True))
    require_keys_in_public(Settings(host=host, api_keys="a"))  # type: ignore[arg-type]


def test_rate_limit_by_address(serve: Serve) -> None:
    client = serve(FakeRuntime(), rate_limit="3/minute")
    assert [status(client) for _ in range(4)] == [200, 200, 200, 429]
    answer = client.post(DETECT, content=picture(), headers=JPEG)
    assert_problem(answer, 429, "rate-limited")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert client.get("/health/ready").status_code == 200


def test_rate_limit_by_key(serve: Serve) -> None:
    client = serve(FakeRuntime(), rate_limit="2/minute", api_keys="a,b")
    assert [status(client, **{"X-API-Key": key}) for key in "aabab"] == [200, 200, 200, 429, 200]
    assert status(client, **{"X-API-Key": "unknown"}) == 401


def test_rate_limit_of_pixels(serve: Serve) -> None:
    client = serve(FakeRuntime(), pixel_rate_limit="2/minute", max_pixels=1_000_000, api_keys="a,b")
    large, small = picture(900, 1000), picture()

    def answer(key: str, *images: bytes) -> httpx.Response:
        files = [("file", image) for image in images]
        response: httpx.Response = client.post(DETECT, files=files, headers={"X-API-Key": key})
        return response

    assert [answer("a", large).status_code for _ in range(3)] == [200, 200, 429]
    refused = answer("a", large)
    assert "2/minute in megapixels" in assert_problem(refused, 429, "rate-limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert answer("a", small).status_code == 200  # the refused ones aren't counted
    assert answer("b", large, large, large).status_code == 429
    assert answer("b", large, b"no image", small).status_code == 200
    assert answer("b", large, large).status_code == 429
    assert answer("b", large).status_code == 200
    headers = {"X-API-Key": "b", "Accept": "application/x-ndjson"}
    assert client.post(DETECT, content=large, headers=headers).status_code == 429


def test_after_retry_after_there_is_room_for_pixels(serve: Serve) -> None:
    client = serve(FakeRuntime(), pixel_rate_limit="1/second", max_pixels=1_000_000)
    body = picture(1000, 1000)
    answers = [client.post(DETECT, content=body, headers=JPEG) for _ in range(6)]
    refused = next(answer for answer in answers if answer.status_code == 429)
    time.sleep(int(refused.headers["Retry-After"]) + 0.01)
    assert client.post(DETECT, content=body, headers=JPEG).status_code == 200


def test_rate_limit_of_pixels_has_room_for_every_image_allowed() -> None:
    with pytest.raises(
        ValidationError, match=r"pixel_rate_limit \(63/minute megapixels\) can't be less than max_pixels"
    ):
        Settings(pixel_rate_limit="63/minute")
    Settings(pixel_rate_limit="64/minute")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("unknown", "unknown"),
        ("no:address", "no:address"),
        ("", ""),
    ],
)
def test_addresses_of_one_ipv6_network_are_one_client(address: str, network: str) -> None:
    assert access._network(address) == network


@pytest.mark.parametrize("name", ["rate_limit", "pixel_rate_limit"])
@pytest.mark.parametrize("value", ["often", "3", "3/fortnight"])
def test_rate_limits_that_are_none(name: str, value: str) -> None:
    with pytest.raises(ValidationError):
        Settings(**{name: value})  # type: ignore[arg-type]


def test_origins_of_other_pages(serve: Serve) -> None:
    client = serve(FakeRuntime(), cors_origins="https://a.example,https://b.example")
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    allowed = client.options(DETECT, headers={**asked, "Access-Control-Request-Headers": "authorization"})
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert client.options(DETECT, headers={**asked, "Origin": "https://evil.example"}).status_code == 400
    answer = client.get("/v1/models", headers={"Origin": "https://b.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://b.example"
    assert "Access-Control-Allow-Origin" not in serve(FakeRuntime()).get("/v1/models", headers=asked).headers


def test_pages_may_send_and_read_the_headers_that_they_need(serve: Serve) -> None:
    client = serve(FakeRuntime(), cors_origins="https://a.example")
    origin = {"Origin": "https://a.example"}
    for header in ("traceparent", "tracestate", "baggage", "x-request-id", "x-api-key", "content-encoding"):
        asked = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": header}
        assert client.options(DETECT, headers=asked).status_code == 200, header
    for method in ("GET", "HEAD", "POST"):
        asked = {**origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "x-api-key"}
        assert client.options("/v1/models", headers=asked).status_code == 200, method
    exposed = client.get("/v1/models", headers=origin).headers["Access-Control-Expose-Headers"].lower()
    names = {name.strip() for name in exposed.split(",")}
    assert names >= {"traceparent", "tracestate", "x-request-id", "retry-after", "server-timing"}


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://a.example/", "https://a.example"),
        ("https://A.Example", "https://a.example"),
        ("HTTPS://a.example:443/", "https://a.example"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:3000/", "http://localhost:3000"),
        ("http://[::1]:3000/", "http://[::1]:3000"),
    ],
)
def test_origins_are_corrected_and_it_is_said(
    given: str, origin: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(FakeRuntime(), cors_origins=f"{given},https://b.example")
    assert client.get("/v1/models", headers={"Origin": origin}).headers["Access-Control-Allow-Origin"] == origin
    [line] = [record.message for record in caplog.records if "origin" in record.message]
    assert given in line and origin in line


@pytest.mark.parametrize("origin", ["https://a.example", "http://localhost:3000", "http://[::1]:3000", "*", "null"])
def test_origins_as_browsers_write_them_are_taken_silently(
    origin: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    serve(FakeRuntime(), cors_origins=origin)
    assert "origin" not in caplog.text


@pytest.mark.parametrize("origin", ["a.example", "https://a.example/app", "https://", "https://a:port", "https://[::1"])
def test_origins_that_are_none(origin: str) -> None:
    with pytest.raises(ValidationError):
        Settings(cors_origins=origin)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/v1/models", "/health/ready", "/absent", "/metrics"])
def test_browsers_are_kept_careful(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "server" not in headers
