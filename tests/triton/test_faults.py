"""Errors in a real tritonserver are reported, and don't affect other requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.triton.ensemble_requests import PROTOCOLS, Client, asking
from tests.triton.server import TritonServer
from tests.triton.test_ensemble import ask, photograph

pytestmark = pytest.mark.triton


def failing(
    client: Client, model: str = "demo", *, score_threshold: float | None = None, **options: float
) -> tuple[str, str]:
    """Return the status and the message of a request that fails; afterwards `demo` still answers."""
    with pytest.raises(InferenceServerException) as failed:
        client.detect(photograph(0), model, score_threshold=score_threshold, options=options)
    assert len(client.detect(photograph(0))) >= 1
    return str(failed.value.status()).removeprefix("StatusCode."), str(failed.value.message())


def test_a_damaged_network_makes_its_model_unavailable_and_the_others_serve(
    triton: TritonServer, client: Client
) -> None:
    assert client.client.is_server_ready()
    assert [client.client.is_model_ready(name) for name in ("demo", "tight")] == [True, True]
    assert [client.client.is_model_ready(name) for name in ("broken", "broken_network")] == [False, False]
    assert "broken" in failing(client, "broken")[1]
    assert "1/model.onnx is damaged or not an ONNX model: export it again." in triton.log.read_text()


def test_a_model_that_is_not_there(client: Client) -> None:
    status, message = failing(client, "absent")
    assert "unknown model: 'absent'" in message
    assert status == ("NOT_FOUND" if client.protocol == "grpc" else "404")


@pytest.mark.parametrize("score_threshold", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_threshold_that_is_none(client: Client, score_threshold: float) -> None:
    status, message = failing(client, score_threshold=score_threshold)
    assert status == ("INVALID_ARGUMENT" if client.protocol == "grpc" else "400")
    assert "score_threshold must be a number from 0 to 1" in message


def test_more_than_one_image_in_a_request(client: Client) -> None:
    with pytest.raises(InferenceServerException, match=r"batch-size must be <= 1 for 'demo'"):
        client.infer("demo", {"image": np.array([[photograph(0)]] * 2, np.object_)})
    with pytest.raises(InferenceServerException, match=r"batch-size must be <= 1 for 'demo_preprocess'"):
        client.infer("demo_preprocess", {"image": np.array([[photograph(0)]] * 2, np.object_)})


def test_a_batch_that_is_too_large(client: Client) -> None:
    rows = 9
    tensors = {
        "images": np.zeros((rows, 32, 32, 3), np.uint8),
        "image_sizes": np.full((rows, 2), 32),
        "original_sizes": np.full((rows, 2), 32),
        "score_thresholds": np.full((rows, 1), 0.5, np.float32),
        "want_masks": np.zeros((rows, 1), bool),
    }
    with pytest.raises(InferenceServerException, match=r"batch-size must be <= 8 for 'demo_network'"):
        client.infer("demo_network", tensors)
    fewer = {name: array[:3] for name, array in tensors.items()}
    assert client.infer("demo_network", fewer)["boxes"].shape == (3, 100, 4)


def test_a_time_out_in_the_queue(client: Client) -> None:
    status, message = failing(client, timeout=1)  # microsecond
    assert status == ("UNAVAILABLE" if client.protocol == "grpc" else "503")
    assert "Request timeout expired" in message


def test_a_deadline_of_the_client(triton: TritonServer) -> None:
    with asking(triton, "grpc") as client:
        assert failing(client, client_timeout=0.001)[0] == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_full_queue_refuses_and_answers_the_others(triton: TritonServer, protocol: str) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: ask(triton, protocol, photograph(0), model="tight"), range(24)))
    refused = [answer for answer in answers if isinstance(answer, str)]
    assert 0 < len(refused) < 24
    assert all("Exceeds maximum queue size" in sentence for sentence in refused)
