"""Which runtime a gateway takes where TensorRT can't run the model's engine."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from resnest_core.errors import InvalidModelError
from resnest_server import Settings
from resnest_server.engine_loading import load_engines

REPOSITORY = Path(__file__).parents[2] / "model_repository"


def test_a_gateway_falls_back_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        [engine] = load_engines(Settings(runtime="tensorrt", repository=REPOSITORY))
    assert (engine.name, engine.runtime, engine.device) == ("demo", "onnxruntime", "cpu")
    assert "model.onnx runs in ONNX Runtime on cpu in fp32, without TensorRT: There is no " in caplog.text


def test_a_gateway_that_must_not_does_not_start() -> None:
    remedy = r"model\.plan: run `resnest export NAME --checkpoint demo\.pth --name demo --to"
    with pytest.raises(InvalidModelError, match=remedy):
        load_engines(Settings(runtime="tensorrt", repository=REPOSITORY, fallback=False))
