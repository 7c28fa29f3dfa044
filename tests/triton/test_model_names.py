"""In Triton too a model's name is its folder's, and each name answers from its own weights."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest

from resnest_client import GrpcDetector, HttpDetector
from resnest_core import load_detector
from resnest_core.repository import network_path
from tests.core.networks import REPOSITORY, write_mirrored_demo
from tests.server.test_serve import PHOTOGRAPH, serving
from tests.triton.server import TritonServer

pytestmark = pytest.mark.triton


def test_each_name_answers_from_its_own_weights(triton: TritonServer, tmp_path: Path) -> None:
    write_mirrored_demo(network_path(tmp_path, "fruit"))
    with load_detector("demo", repository=REPOSITORY) as demo, load_detector("fruit", repository=tmp_path) as fruit:
        expected = {"demo": demo.detect(PHOTOGRAPH), "fruit": fruit.detect(PHOTOGRAPH)}
    assert set(expected["demo"].labels) != set(expected["fruit"].labels)
    with serving("--runtime", "triton", "--triton-url", triton.grpc) as (url, _):
        for name, found in expected.items():
            for detector in (GrpcDetector(f"grpc://{triton.grpc}", name), HttpDetector(url, name)):
                with detector:
                    assert detector.card.name == name
                    answer = detector.detect(PHOTOGRAPH)
                np.testing.assert_array_equal(answer.labels, found.labels)
                np.testing.assert_allclose(answer.scores, found.scores, atol=1e-4)
        shown = httpx.get(f"{url}/v1/models/fruit").json()
        assert (shown["name"], shown["runtime"], shown["device"]) == ("fruit", "triton", "triton")
