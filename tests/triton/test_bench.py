"""`resnest bench` on a real tritonserver."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.bench.test_bench_demo import measure
from tests.triton.server import TritonServer

pytestmark = pytest.mark.triton


def test_requests_and_stages_are_measured(triton: TritonServer, tmp_path: Path) -> None:
    arguments = ("--url", f"grpc://{triton.grpc}", "--model", "demo", "--count", 8, "--warm-up", 2)
    closed, opened = measure(tmp_path / "runs.json", *arguments, "--concurrency", 2, "--rate", 4)
    for run in (closed, opened):
        assert (run.images, run.errors) == (8, {})
        assert run.server_measured_by == "process"
        assert run.cpu_seconds_per_image is not None and run.cpu_seconds_per_image > 0.02  # its models' processes' too
        assert run.server_stages_ms is not None and run.latency_ms is not None
        assert run.server_stages_ms.keys() == {"preprocess queue", "preprocess", "network queue", "network"}
        assert 5 < run.server_stages_ms["network"] < run.latency_ms.mean
    assert (closed.detections_per_image or 0) > 10
