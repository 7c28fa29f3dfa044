"""CPU time, memory and GPU use, of this process and of a server's on the same machine, while something runs."""

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

MEMORY_SECONDS = 0.05  # between looks at memory
TREE_SECONDS = 1.0  # between looks at which processes a server has, and at the GPU
GPU_COMMAND = ("nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits")
MIB = 2**20


class Meter(Closeable):
    """Measures from `with` to its end; the server's processes too, where one is given.

    After the end: `client_cpu` and `server_cpu` in seconds; `client_memory` and `server_memory`, the greatest resident
    size seen, in MiB, of a server's processes together (memory that they share is counted in each); `gpu`, mean
    utilization in percent and greatest memory in MiB. None: not there.
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
        try:  # several GPUs: the mean use, the memory of all
            used = [(float(percent), float(memory)) for percent, memory in rows]
        except ValueError:  # a card that doesn't tell says [N/A]
            return
        if used:
            self._gpu.append((fmean(percent for percent, _ in used), sum(memory for _, memory in used)))


def lifetime_memory() -> float | None:
    """Return the greatest resident size that this process ever had, in MiB; None where the system doesn't tell.

    Linux's `ru_maxrss` isn't it: a process begins with that of the one it was started from.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next((float(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:")), None)


def _runs(process: psutil.Process) -> bool:
    """Tell whether a process has not ended: what one that has ended used, nobody tells any more."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return what processes used since they started, and the children that they have outlived."""
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
