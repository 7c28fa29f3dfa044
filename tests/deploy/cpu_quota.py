"""A real cgroup with a CPU quota, as a container with `limits.cpu` has one; needs the rights to make cgroups."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PERIOD = 100_000  # µs
ROOTS = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/cpu,cpuacct"), Path("/sys/fs/cgroup"))
EMPTY_SECONDS = 10


class CpuQuota:
    """A cgroup of version 1 or 2.

    Raises:
        OSError: none can be made here.
    """

    def __init__(self, cpus: int) -> None:
        self._root = next((root for root in ROOTS if (root / "cgroup.procs").exists()), ROOTS[-1])
        self._folder = self._root / f"resnest-test-{os.getpid()}"
        is_v2 = (self._root / "cgroup.controllers").exists()
        if is_v2:
            (self._root / "cgroup.subtree_control").write_text("+cpu")
        self._folder.mkdir()
        try:
            if is_v2:
                (self._folder / "cpu.max").write_text(f"{cpus * PERIOD} {PERIOD}")
            else:
                (self._folder / "cpu.cfs_period_us").write_text(f"{PERIOD}")
                (self._folder / "cpu.cfs_quota_us").write_text(f"{cpus * PERIOD}")
            with self.entered():
                pass
        except OSError:
            self.close()
            raise

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put this process into the cgroup meanwhile; processes that it starts stay there."""
        before = self._own()
        (self._folder / "cgroup.procs").write_text(f"{os.getpid()}")
        try:
            yield
        finally:
            (before / "cgroup.procs").write_text(f"{os.getpid()}")

    def close(self) -> None:
        """Remove the cgroup, once its processes have ended."""
        end = time.monotonic() + EMPTY_SECONDS
        while time.monotonic() < end:
            with suppress(OSError):  # while a process ends
                self._folder.rmdir()
                return
            time.sleep(0.1)

    def _own(self) -> Path:
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, group = line.split(":", 2)
            if "cpu" in controllers.split(",") or (not controllers and self._root == ROOTS[-1]):
                return self._root / group.lstrip("/")
        return self._root
