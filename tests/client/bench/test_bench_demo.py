"""`resnest bench` on the demo model: in this process, behind a real gateway, and `--all`."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from resnest_client.bench import all_models
from resnest_client.bench.results import Run, read_runs
from resnest_core.repository import network_path
from tests.client.bench.test_bench import FAILED, bench
from tests.server.test_serve import ENVIRONMENT, RESNEST, serving
from tests.triton.server import REPOSITORY

PHOTOGRAPHS = Path(__file__).parents[2] / "data" / "demo" / "images"


@pytest.fixture(autouse=True)
def demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNEST_REPOSITORY", str(REPOSITORY))


def measure(file: Path, *arguments: object) -> list[Run]:
    result = bench("--images", PHOTOGRAPHS, "--output", file, *arguments)
    assert result.exit_code == 0, result.output
    return read_runs(file)


def test_the_server_costs_what_the_process_does(tmp_path: Path) -> None:
    load = ("--count", 8, "--warm-up", 2)
    (local,) = measure(tmp_path / "local.json", "--model", "demo", *load)
    with serving() as (url, process):
        (remote,) = measure(tmp_path / "remote.json", "--url", url, *load)
    assert (local.images, remote.images) == (8, 8)
    # The same photographs in the same order, so the same objects: the seed's.
    assert local.detections_per_image == remote.detections_per_image
    assert local.padded_shapes == remote.padded_shapes and len(local.padded_shapes) == 4
    assert remote.server_measured_by == "process" and process.pid
    assert remote.cpu_seconds_per_image is not None and local.cpu_seconds_per_image is not None
    assert 0.5 < remote.cpu_seconds_per_image / local.cpu_seconds_per_image < 2
    assert remote.client_cpu_seconds_per_image is not None
    assert remote.client_cpu_seconds_per_image < remote.cpu_seconds_per_image / 4
    assert remote.peak_memory_mib.server is not None and remote.peak_memory_mib.server > 100
    assert remote.server_stages_ms is not None and remote.latency_ms is not None
    assert {"decode", "queue", "network"} <= remote.server_stages_ms.keys()
    assert sum(remote.server_stages_ms.values()) <= remote.latency_ms.mean * 1.05


def test_a_server_that_is_killed(tmp_path: Path) -> None:
    with serving() as (url, process):
        threading.Timer(3, process.kill).start()
        result = bench("--images", PHOTOGRAPHS, "--url", url, "--duration", 60, "--output", tmp_path / "runs.json")
        assert result.exit_code == FAILED
        (run,) = read_runs(tmp_path / "runs.json")
        assert not run.complete and set(run.errors) == {"unavailable"} and run.seconds < 30
        assert run.server_measured_by is None  # what a process that is gone has used, nobody tells


def test_all_of_a_repository(tmp_path: Path) -> None:
    repository, file, page = tmp_path / "repository", tmp_path / "runs.json", tmp_path / "table.md"
    for name in ("demo", "broken"):
        path = network_path(repository, name)
        path.parent.mkdir(parents=True)
        shutil.copy(network_path(REPOSITORY, "demo"), path)
    network_path(repository, "broken").write_bytes(b"no model")
    # As its users run it: children start anew from whatever started the parent.
    command = [
        *RESNEST,
        "bench",
        "--all",
        "--repository",
        str(repository),
        "--images",
        str(PHOTOGRAPHS),
        "--count",
        "2",
    ]
    command += ["--warm-up", "1", "--rounds", "2", "--threads", "1", "--output", str(file), "--markdown", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == FAILED, done.stderr
    assert done.stderr.count("broken in openvino failed: ") == 1
    runs = json.loads(file.read_text())
    assert [(run["subject"]["model"], run["round"], run["images"]) for run in runs] == [("demo", 1, 2), ("demo", 2, 2)]
    assert all(run["subject"]["threads"] == 1 and run["peak_memory_mib"]["client"] > 100 for run in runs)
    assert runs[0]["command"].startswith("resnest bench --all")
    table = page.read_text()
    assert "| demo† | – | – | openvino |" in table
    assert "not the published weights" in table and "broken in openvino failed: " in table


def test_all_survives_a_child_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resnest_client.bench.load import Bounds
    from resnest_client.bench.runs import Plan

    monkeypatch.setattr(all_models, "_measure", _killed)
    jobs = [all_models.Job(name, "onnxruntime", "cpu", None, tmp_path) for name in ("one", "two")]
    results = list(all_models.measure_all(jobs, Plan([], Bounds(count=1), Bounds()), range(1, 3)))
    assert [isinstance(result, all_models.Failure) and "ran out of memory" in result.reason for result in results] == [
        True
    ] * 2


def _killed(*_: object) -> str:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)
    return ""
