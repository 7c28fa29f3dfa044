"""`tools/gpu_check.sh --triton`: the check of stale answers, against a real server, with ONNX Runtime for an engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnest_client import GrpcDetector
from resnest_core.detections import Detections
from resnest_core.detector import InProcessDetector
from tests.triton.server import TritonServer
from tools.gpu_check import triton_server
from tools.gpu_check.outcome import Outcome, State

pytestmark = pytest.mark.triton


def heard(capsys: pytest.CaptureFixture[str]) -> Outcome:
    [outcome] = [found for line in capsys.readouterr().out.splitlines() if (found := Outcome.hear(line))]
    return outcome


def test_a_server_passes_if_each_answer_is_of_its_own_image(
    triton: TritonServer, local: InProcessDetector, capsys: pytest.CaptureFixture[str]
) -> None:
    triton_server.check("x", triton.grpc, "demo", local)
    assert heard(capsys).state is State.PASSED


def test_a_server_with_the_answer_before_fails(
    triton: TritonServer,
    local: InProcessDetector,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stale(GrpcDetector):
        seen: Any = None

        def detect(self, image: Any, **options: Any) -> Detections:
            before, self.seen = image if self.seen is None else self.seen, image
            return super().detect(np.ascontiguousarray(before), **options)

    monkeypatch.setattr(triton_server, "GrpcDetector", Stale)
    triton_server.check("x", triton.grpc, "demo", local)
    outcome = heard(capsys)
    assert outcome.state is State.FAILED and "answers [4, 7] aren't of their own image" in outcome.detail
