"""Runtime and device in results are those that the runtime reports."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from resnest_client import HttpDetector
from resnest_client.backend import Backend, backend_of
from resnest_core.detector import InProcessDetector
from resnest_core.errors import ModelNotFoundError
from resnest_core.repository import load_detector
from resnest_core.runtimes import FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from tests.client.gateway import Gateway

DEMO = Path(__file__).parents[2] / "model_repository"


class CudaRuntime(FakeRuntime):
    device = "cuda:0"


@pytest.mark.parametrize("runtime", [FakeRuntime, CudaRuntime])
def test_in_process(runtime: type[FakeRuntime]) -> None:
    assert backend_of(InProcessDetector(runtime())) == Backend("fake", runtime.device)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_real_runtimes_on_the_cpu(runtime: str) -> None:
    with load_detector("demo", runtime=runtime, repository=DEMO) as detector:
        assert backend_of(detector) == Backend(runtime, "cpu")


@pytest.mark.parametrize("model", [None, "fake"])
@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"runtime": "tensorrt", "device": "cuda:0"}, Backend("tensorrt", "cuda:0")),
        ({}, Backend(None, None)),
        ({"runtime": "triton", "device": None}, Backend("triton", None)),
    ],
)
def test_a_gateway_reports_it(model: str | None, extra: dict[str, str], expected: Backend) -> None:
    described = FAKE_CARD.model_dump(mode="json") | extra

    def answer(request: httpx.Request) -> httpx.Response:
        one = request.url.path.endswith("/fake")
        return httpx.Response(200, json=described if one else {"models": [described], "default": "fake"})

    with HttpDetector("http://gateway", model, transport=httpx.MockTransport(answer)) as detector:
        assert backend_of(detector) == expected


@pytest.mark.parametrize("name", ["fruit.v2-b", "a b", "a/b", "..a", "a?b#c", "Äpfel", "a%2Fb"])
def test_any_name_asks_for_this_model(name: str) -> None:
    gateway = Gateway(FakeRuntime(FAKE_CARD.model_copy(update={"name": name})))
    with HttpDetector("http://gateway", name, transport=gateway) as detector:
        assert detector.card.name == name


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_be_another_path_is_refused(name: str) -> None:
    gateway = Gateway()
    with pytest.raises(ModelNotFoundError, match="no model"):
        HttpDetector("http://gateway", name, transport=gateway)
    assert gateway.requests == []
