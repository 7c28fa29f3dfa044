"""CPU time, memory and processes, of this process and of others."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from resnest_client.bench import meter as meter_module
from resnest_client.bench.meter import Meter, lifetime_memory
from resnest_client.bench.server_metrics import find_process, mean_milliseconds, read_gateway_metrics, tree
from resnest_core.runtimes import FakeRuntime
from tests.client.client_variants import pixels
from tests.client.served import Serve

# A server whose work is done in a process that it starts: 0.3 s of a processor, and 60 MB for a moment.
SERVER = """
import socket, subprocess, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
child = subprocess.Popen([sys.executable, "-c", '''
import sys, time
print("ready", flush=True)
sys.stdin.readline()
held = bytearray(60_000_000)
end = time.process_time() + 0.3
while time.process_time() < end: pass
time.sleep(0.2)
del held
print("done", flush=True)
sys.stdin.read()
'''])
child.wait()
"""


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_this_process_is_measured() -> None:
    with Meter() as meter:
        spin(0.2)
        held = np.ones(10_000_000)  # 76 MiB
        time.sleep(0.15)
        before = psutil.Process().memory_info().rss / 2**20
        del held
    assert 0.2 <= meter.client_cpu < 1
    assert meter.client_memory >= before - 1
    assert meter.server_cpu is meter.server_memory is None
    assert (lifetime_memory() or before) >= before - 1


def test_a_servers_processes_are_measured_together() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as it:
        assert it.stdin and it.stdout
        port = int(it.stdout.readline())
        assert it.stdout.readline() == "ready\n"
        root = find_process(f"http://127.0.0.1:{port}/path")
        assert root is not None and root.pid == it.pid
        assert len(tree(root)) == 2
        with Meter(root) as meter:
            it.stdin.write("go\n")
            it.stdin.flush()
            assert it.stdout.readline() == "done\n"
        assert meter.server_cpu is not None and 0.28 <= meter.server_cpu < 0.6
        assert meter.server_memory is not None and meter.server_memory > 57
        assert meter.client_cpu < 0.28
        it.stdin.close()


def test_processes_that_cannot_be_told_apart_are_none(serve: Serve) -> None:
    assert find_process(serve(FakeRuntime()).url) is None  # in this very process
    assert find_process("http://192.0.2.1:80") is None  # elsewhere
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert find_process(f"http://localhost:{free.getsockname()[1]}") is None


def test_a_server_that_ends_meanwhile_is_no_trouble() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as it:
        meter = Meter(psutil.Process(it.pid))
        it.kill()
        time.sleep(0.1)  # it has ended, and nobody has waited for it
        meter.close()
    assert meter.server_cpu is None


def test_a_gpu_is_measured_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "nvidia-smi")
    script = "print('40, 1000'); print('60, 500')"
    monkeypatch.setattr(meter_module, "GPU_COMMAND", (sys.executable, "-c", script))
    with Meter() as meter:
        time.sleep(0.2)
    assert meter.gpu == (50, 1500)
    monkeypatch.setattr(meter_module, "GPU_COMMAND", (sys.executable, "-c", "print('[N/A], [N/A]')"))
    with Meter() as meter:
        time.sleep(0.2)
    assert meter.gpu is None


def test_a_gateway_tells_its_stages(serve: Serve) -> None:
    import httpx

    from resnest_core.drawing import encode

    served = serve(FakeRuntime(before_run=lambda _: time.sleep(0.05)))
    before = read_gateway_metrics(served.url, "fake")
    for _ in range(3):
        body, kind = encode(pixels(), "image/png"), {"Content-Type": "image/png"}
        httpx.post(f"{served.url}/v1/detect", content=body, headers=kind).raise_for_status()
    after = read_gateway_metrics(served.url, "fake")
    assert before is not None and after is not None
    means = mean_milliseconds(before.stages, after.stages)
    assert {"decode", "network"} <= means.keys()
    assert 50 <= means["network"] < 1000
    assert after.cpu_seconds and before.cpu_seconds and after.cpu_seconds > before.cpu_seconds
    assert after.memory_bytes
    other = read_gateway_metrics(served.url, "other")
    assert other is not None and other.stages == {}
    served.stop()
    assert read_gateway_metrics(served.url, "fake") is None


def test_means_are_of_the_images_between_two_looks() -> None:
    before = {"decode": (1.0, 10.0), "idle": (2.0, 5.0)}
    after = {"decode": (1.5, 20.0), "idle": (2.0, 5.0), "new": (0.3, 3.0)}
    assert mean_milliseconds(before, after) == pytest.approx({"decode": 50, "new": 100})
