"""The header Accept: the first of the ranges that a client prefers most decides between JSON, lines and a drawing."""

from __future__ import annotations

import time

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from resnest_server.accept_header import first_preferred
from resnest_server.parameters import JSON, LINES
from tests.server.conftest import picture

DETECT = "/v1/models/fake/detect"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("image/png", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/*", "image/jpeg"),
        ("IMAGE/PNG", "image/png"),
        ("image/png, application/json", "image/png"),
        ("application/json;q=0.5, image/png", "image/png"),
        ("image/jpeg;q=0.9, image/png; q=0.9, text/html;q=0.1", "image/jpeg"),
        ('image/png;note="a, b;q=0"', "image/png"),
        ("image/png;q=0, image/jpeg;q=0.1", "image/jpeg"),
        ("application/x-ndjson", LINES),
        ("application/x-ndjson, */*;q=0.1", LINES),
        ("*/*", JSON),
        ("*", JSON),
        ("", JSON),
        ("application/json, image/png;q=0.5", JSON),
        ("application/json, image/png", JSON),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", JSON),  # Java's up to 16
        ("text/html, image/gif, image/jpeg, */*; q=0.2", JSON),  # Java's
        ("application/json, text/json, text/x-json, text/javascript, application/xml", JSON),  # RestSharp's
        ("application/json, text/plain, */*", JSON),  # axios's
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/png,*/*;q=0.8", JSON),
        ("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", JSON),
        ("image/webp, image/jpeg;q=0.9, */*;q=0.1", JSON),
        ("application/problem+json, application/json;q=0.9", JSON),
        ("application/json;charset=utf-8", JSON),
        ("application/json;q=0", JSON),
        ("image/png;q=0", JSON),
        ("image/png;q=high", JSON),
        ("image/png;q=2, image/jpeg;q=nan, image/png;q=-1, image/png;q", JSON),
        ("video/mp4", JSON),
        ("nonsense", JSON),
        ('"', JSON),
        (";q=1,,/,image/, image/ png", JSON),
    ],
)
def test_the_first_choice_decides(client: TestClient, accept: str, media_type: str) -> None:
    headers = {"Content-Type": "image/jpeg", "Accept": accept}
    response = client.post(DETECT, content=picture(), headers=headers)
    assert response.status_code == 200
    assert response.headers["Content-Type"].partition(";")[0] == media_type


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('aimgepn/*;=q,. 01"\\\t'), max_size=40))
def test_any_text_is_read(accept: str) -> None:
    choice = first_preferred(accept)
    assert choice is None or choice in accept.lower()


@pytest.mark.parametrize("unit", [",", ";", '"', '",', '";', "a/b,", "q=1;", "\\", '"\\'])
def test_long_headers_take_no_longer_than_their_length(unit: str) -> None:
    start = time.process_time()
    first_preferred(unit * (64_000 // len(unit)))
    assert time.process_time() - start < 0.5
