"""How `latency` and `throughput` divide the CPUs, and what a gateway says of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from resnest_core import cpus
from resnest_core.runtimes import RUNTIMES, FakeRuntime, onnxruntime_runtime
from resnest_server import Settings, engine_loading
from resnest_server.cpu_layout import CPU, MOST_INSTANCES, cpu_layout, described, layout_warnings
from resnest_server.engine_loading import load_engines
from resnest_server.settings import TRITON
from tests.server.test_serve import ROOT, post, serving

REPOSITORY = ROOT / "model_repository"

# CPUs, and for each of these settings instances × threads.
LATENCY: dict[str, Any] = {}
THROUGHPUT: dict[str, Any] = {"optimize": "throughput"}
TABLE = [
    (LATENCY, {1: (1, 1), 2: (1, 2), 4: (1, 4), 8: (1, 8), 16: (1, 16)}),
    (THROUGHPUT, {1: (1, 1), 2: (2, 1), 4: (4, 1), 8: (4, 2), 16: (4, 4)}),
    # What is given holds, and the other follows.
    ({"instances": 2}, {1: (2, 1), 2: (2, 1), 4: (2, 2), 8: (2, 4), 16: (2, 8)}),
    ({"threads": 2}, {1: (1, 2), 2: (1, 2), 4: (1, 2), 8: (1, 2), 16: (1, 2)}),
    (THROUGHPUT | {"instances": 1}, {1: (1, 1), 2: (1, 2), 4: (1, 4), 8: (1, 8), 16: (1, 16)}),
    (THROUGHPUT | {"instances": 8}, {1: (8, 1), 2: (8, 1), 4: (8, 1), 8: (8, 1), 16: (8, 2)}),
    (THROUGHPUT | {"threads": 2}, {1: (1, 2), 2: (1, 2), 4: (2, 2), 8: (4, 2), 16: (4, 2)}),
    (THROUGHPUT | {"instances": 3, "threads": 5}, {1: (3, 5), 2: (3, 5), 4: (3, 5), 8: (3, 5), 16: (3, 5)}),
]


@pytest.mark.parametrize(
    ("given_settings", "count", "expected"),
    [(settings, count, expected) for settings, by_cpus in TABLE for count, expected in by_cpus.items()],
)
def test_what_is_chosen(
    given_settings: dict[str, Any], count: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpus, "allowed_cpus", lambda: count)
    layout = cpu_layout(Settings(**given_settings), CPU, count)
    threads = layout.threads or FakeRuntime.threads_of_batch(layout.instances)
    assert (layout.instances, threads) == expected


@given(count=st.integers(1, 256), threads=st.none() | st.integers(1, 64), throughput=st.booleans())
def test_what_is_chosen_fits_the_cpus(count: int, threads: int | None, throughput: bool) -> None:
    settings = Settings(optimize="throughput" if throughput else "latency", threads=threads)
    layout = cpu_layout(settings, CPU, count)
    assert 1 <= layout.instances <= (MOST_INSTANCES if throughput else 1) and layout.threads == threads
    assert layout.instances * (threads or 1) <= max(count, threads or 1)


def test_threads_of_onnx_runtime_are_one_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_runtime, "allowed_cpus", lambda: 8)
    for cores, expected in ((4, 4), (8, 8)):
        monkeypatch.setattr(onnxruntime_runtime, "allowed_cores", lambda cores=cores: cores)
        assert RUNTIMES["onnxruntime"].threads_of_batch() == expected
        assert RUNTIMES["onnxruntime"].threads_of_batch(4) == 2


@pytest.mark.parametrize("device", ["cuda", TRITON])
def test_other_devices_have_no_cpus_to_divide(device: str) -> None:
    assert cpu_layout(Settings(optimize="throughput"), device, 8) == (1, None)
    [warning] = layout_warnings(Settings(optimize="throughput"), device, 8)
    assert "RESNEST_OPTIMIZE has no effect" in warning and device in warning
    assert layout_warnings(Settings(), device, 8) == []


@pytest.mark.parametrize(
    ("settings", "contradicts"),
    [
        ({}, False),
        ({"optimize": "throughput"}, False),
        ({"threads": 2}, False),
        ({"threads": 3}, True),
        ({"instances": 2, "threads": 1}, False),
        ({"instances": 2, "threads": 2}, True),
        ({"instances": 3}, True),
    ],
)
def test_more_threads_than_cpus_are_told(settings: dict[str, Any], contradicts: bool) -> None:
    warnings = layout_warnings(Settings(**settings), CPU, 2)
    assert len(warnings) == contradicts
    assert not warnings or ("compete for 2 CPUs" in warnings[0] and "lower RESNEST_INSTANCES" in warnings[0])


def test_what_is_said_of_it() -> None:
    runtime = FakeRuntime()
    for settings, text in (
        (Settings(threads=2), "1 instance with 2 threads, batches of 1"),
        (Settings(instances=2, threads=1, max_batch=4), "2 instances with 1 thread each, batches of 4"),
    ):
        assert described(settings, cpu_layout(settings, CPU, 2), runtime) == text
    runtime.device = "cuda:0"  # whose threads are no CPU's
    assert described(Settings(), cpu_layout(Settings(), "cuda", 2), runtime) == "1 instance, batches of 1"


def test_a_mode_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValidationError, match="'latency' or 'throughput'"):
        Settings(optimize="speed")  # type: ignore[arg-type]


def test_the_network_is_loaded_for_as_many_batches_as_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[dict[str, Any]] = []

    def load(_: Path, **options: Any) -> FakeRuntime:
        asked.append(options)
        return FakeRuntime()

    monkeypatch.setattr(RUNTIMES["openvino"], "load", load)
    monkeypatch.setattr(engine_loading, "allowed_cpus", lambda: 4)
    with caplog.at_level(logging.INFO):
        [engine] = load_engines(Settings(runtime="openvino", optimize="throughput", repository=REPOSITORY))
    assert asked[0]["instances"] == 4 and asked[0]["threads"] is None
    assert engine._batcher._instances == 4  # type: ignore[attr-defined]
    assert "on cpu, optimized for throughput: 4 instances with" in caplog.text


def test_serve_logs_what_it_chose(tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = ("--optimize", "throughput", "--runtime", "onnxruntime")
    with serving(*options, log=log, RESNEST_THREADS="1") as (url, _):
        assert post(url).status_code == 200
        assert httpx.get(f"{url}/health/ready").is_success
    [line] = [text for text in map(str, messages(log)) if "optimized for" in text]
    count = min(cpus.allowed_cpus(), MOST_INSTANCES)
    layout = f"{count} instances with 1 thread each" if count > 1 else "1 instance with 1 thread"
    assert line == f"demo (fp32) runs in ONNX Runtime on cpu, optimized for throughput: {layout}, batches of 1."


def messages(log: Path) -> list[str]:
    return [json.loads(line)["message"] for line in log.read_text().splitlines()]
