"""The OpenAPI document holds: whatever is sent, nothing fails, and every answer is one that the document tells of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from resnest_core.runtimes import FakeRuntime
from resnest_server import Settings, create_app
from tests.server.conftest import picture
from tests.server.live import live

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

images = st.sampled_from([picture(), picture(media_type="image/png"), picture()[:-100], b""]) | st.binary(max_size=200)
schemathesis.openapi.media_type("image/*", images)


schema = schemathesis.openapi.from_dict(create_app(Settings()).openapi())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with live(FakeRuntime()) as url:
        yield url


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_are_documented(case: schemathesis.Case, url: str) -> None:  # type: ignore[type-arg]
    case.call_and_validate(base_url=url, checks=CHECKS)
