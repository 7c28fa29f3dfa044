"""A container's `limits.cpu`: every process with a network has as many threads as the quota pays for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.triton.home import Home
from resnest_core.cpus import allowed_cpus
from resnest_export.triton_repository.options import Serving
from tests.deploy.cpu_quota import CpuQuota
from tests.triton.server import REPOSITORY, TritonServer, add_model, triton_home, triton_project

__all__ = ["triton_home", "triton_project"]
pytestmark = pytest.mark.skipif(allowed_cpus() < 2, reason="one CPU, with a quota or without")

IN_THE_GATEWAYS_CONTAINER = """
import json, os, sys
from pathlib import Path
from resnest_core.runtimes import OnnxRuntime, OpenVinoRuntime
from resnest_server import Settings
from resnest_server.cpu_layout import cpu_layout
from resnest_core.cpus import allowed_cpus
from resnest_server.host_threads import HostThreads

def tasks():
    return len(os.listdir("/proc/self/task"))

path = Path(sys.argv[1])
before = tasks()
with OnnxRuntime.load(path):
    started = tasks() - before
with OpenVinoRuntime.load(path) as compiled:
    threads = compiled._model.get_property("INFERENCE_NUM_THREADS")
layout = cpu_layout(Settings(optimize="throughput"), "cpu", allowed_cpus())
print(json.dumps({
    "ONNX Runtime's threads beside the caller's": started,
    "OpenVINO's threads": threads,
    "instances for throughput": layout.instances,
    "host threads": HostThreads(1).count,
}))
"""


@pytest.fixture(scope="module")
def one_cpu() -> Iterator[CpuQuota]:
    try:
        quota = CpuQuota(1)
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")  # tests/core/test_cpus.py has affinity masks, and files
    yield quota
    quota.close()


def test_the_gateways_runtimes_follow_the_quota(one_cpu: CpuQuota) -> None:
    command = [sys.executable, "-c", IN_THE_GATEWAYS_CONTAINER, str(REPOSITORY / "demo_network/1/model.onnx")]
    with one_cpu.entered():
        run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output, _ = run.communicate(timeout=120)
    assert json.loads(output) == {
        "ONNX Runtime's threads beside the caller's": 0,
        "OpenVINO's threads": 1,
        "instances for throughput": 1,
        "host threads": 1,
    }


@pytest.mark.triton
def test_tritons_networks_follow_the_quota(
    one_cpu: CpuQuota, triton_home: Home, triton_project: Path, tmp_path: Path
) -> None:
    """Their processes have as many threads as those of the same networks that were given one thread."""
    repository = tmp_path / "repository"
    shutil.copytree(REPOSITORY, repository, ignore=shutil.ignore_patterns("__pycache__"))
    for runtime in ("onnxruntime", "openvino"):
        add_model(repository, REPOSITORY, "demo", runtime, Serving(runtime=runtime))
        add_model(repository, REPOSITORY, "demo", f"{runtime}_single", Serving(runtime=runtime, threads=1))
    with TritonServer(triton_home, triton_project, repository, tmp_path / "log") as server:
        with one_cpu.entered():
            server.start(wait=False)
        server.wait()
        threads = threads_of_networks(server)
    for runtime in ("onnxruntime", "openvino"):
        assert threads[f"{runtime}_network"] == threads[f"{runtime}_single_network"]


def threads_of_networks(server: TritonServer) -> dict[str, int]:
    """Return the threads of each network's process by model."""
    assert server.process is not None
    found = {}
    for process in psutil.Process(server.process.pid).children(recursive=True):
        if process.name().startswith("triton_python"):
            model = Path(process.cmdline()[1]).parts[-3]  # …/<model>/<version>/model.py
            if model.endswith("_network"):
                found[model] = process.num_threads()
    return found
