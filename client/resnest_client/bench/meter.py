"""Measures CPU time, memory and GPU use of this process, and of a server on the same machine, during a run."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from resnest_client.bench.server_metrics import tree
from resnest_core.closeable import Closeable

if TYPE_CHECKING:
    import psutil

MEMORY_SECONDS = 0.05  # interval between samples of memory
TREE_SECONDS = 1.0  # interval between samples of the server's process tree and of the GPU
GPU_COMMAND = ("nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits")
MIB = 2**20


class Meter(Closeable):
    """Measures this process, and optionally a server's process tree, until closed; used as a context manager.

    After `close`: `client_cpu` and `server_cpu`, CPU time in seconds; `client_memory` and `server_memory`, peak sampled
    resident size in MiB, summed over a server's processes (shared memory counts once per process); `gpu`, mean
    utilization in percent and peak memory in MiB. None: not available.
    """

    def __init__(self, server: psutil.Process | None = None, *, gpu: bool = True) -> None:
        import psutil

        self._own = psutil.Process()
        self._server = server
        self._processes = tree(server) if server else []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=(self._watch_memory, MEMORY_SECONDS), daemon=True)]
        if server:
            self._threads.append(
                threading.Thread(target=self._repeat, args=(self._watch_tree, TREE_SECONDS), daemon=True)
            )
        self._gpu: list[tuple[float, float]] = []
        if gpu and shutil.which(GPU_COMMAND[0]):
            self._threads.append(
                threading.Thread(target=self._repeat, args=(self._watch_gpu, TREE_SECONDS), daemon=True)
            )
        self.client_memory = 0.0
        self.server_memory: float | None = None
        self.server_cpu: float | None = None
        self._server_start = _cpu_seconds(self._processes)
        for thread in self._threads:
            thread.start()
        self._start = time.process_time()

    def close(self) -> None:
        """Stop measuring."""
        self.client_cpu = time.process_time() - self._start
        if self._server and _runs(self._server):
            self._processes = tree(self._server)
            self.server_cpu = max(_cpu_seconds(self._processes) - self._server_start, 0.0)
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._watch_memory()

    @property
    def gpu(self) -> tuple[float, float] | None:
        if not self._gpu:
            return None
        return fmean(percent for percent, _ in self._gpu), max(memory for _, memory in self._gpu)

    def _repeat(self, look: Callable[[], None], seconds: float) -> None:
        while not self._stop.is_set():
            look()
            self._stop.wait(seconds)

    def _watch_memory(self) -> None:
        self.client_memory = max(self.client_memory, self._own.memory_info().rss / MIB)
        if resident := _resident(self._processes):
            self.server_memory = max(self.server_memory or 0.0, resident)

    def _watch_tree(self) -> None:
        if self._server:
            self._processes = tree(self._server) or self._processes

    def _watch_gpu(self) -> None:
        answer = subprocess.run(GPU_COMMAND, capture_output=True, text=True, timeout=10, check=False)
        rows = [line.split(",") for line in answer.stdout.splitlines() if not answer.returncode]
        try:  # several GPUs: mean utilization, total memory
            used = [(float(percent), float(memory)) for percent, memory in rows]
        except ValueError:  # [N/A]: the GPU doesn't report the value
            return
        if used:
            self._gpu.append((fmean(percent for percent, _ in used), sum(memory for _, memory in used)))


def lifetime_memory() -> float | None:
    """Return this process's peak resident size in MiB; None if the system doesn't report it.

    Linux's `ru_maxrss` is unsuitable: a process inherits its initial value from its parent.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next((float(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:")), None)


def _runs(process: psutil.Process) -> bool:
    """Return whether a process is still running: the CPU time of an ended process is no longer available."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time of processes since their start, including children that have ended."""
    import psutil

    total = 0.0
    for process in processes:
        try:
            total += sum(process.cpu_times()[:4])  # user, system, children's user, children's system
        except psutil.Error:
            continue
    return total


def _resident(processes: list[psutil.Process]) -> float:
    import psutil

    total = 0.0
    for process in processes:
        try:
            total += process.memory_info().rss / MIB
        except psutil.Error:
            continue
    return total
