"""How many CPUs this process may use: what its affinity mask and the CPU quotas of its cgroups leave of the machine's.

`os.cpu_count()` is the machine's number, in a container with a quota too. More threads than the quota pays for are
stopped by the kernel for the rest of each period, all at once, which delays answers.

Quotas are read as Linux describes them in `Documentation/admin-guide/cgroup-v2.rst` (`cpu.max`) and
`Documentation/scheduler/sched-bwc.rst` (`cpu.cfs_quota_us`, `cpu.cfs_period_us`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import ceil
from pathlib import Path, PurePosixPath
from typing import NamedTuple

Quota = Fraction
"""CPU seconds per second."""

# Where hierarchies are mounted by custom, for a system whose mountinfo can't be read.
V2_MOUNTS: tuple[str, ...] = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
V1_MOUNTS: tuple[str, ...] = ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpuacct,cpu")
SIBLINGS = ("core_cpus_list", "thread_siblings_list")  # the second is the name before Linux 5.7


class Mount(NamedTuple):
    """A mounted cgroup hierarchy: the folder `point` shows the group `group` and those below it."""

    group: str
    point: str


def allowed_cpus(root: Path = Path("/")) -> int:
    """Return how many CPUs this process may use, at least 1: the smallest of its affinity mask and its CPU quotas.

    A quota is rounded up: 1.5 CPUs are 2. Without masks and quotas, as on macOS and Windows, all CPUs are allowed.

    Args:
        root: of the file system whose `proc` and `sys` are read.
    """
    return min([len(_affinity()), *(max(ceil(quota), 1) for quota in _quotas(root))])


def share_of_cpus(parts: int) -> int:
    """Return how many of the allowed CPUs each of `parts` may use, at least 1."""
    return max(allowed_cpus() // parts, 1)


def allowed_cores(root: Path = Path("/")) -> int | None:
    """Return how many physical cores the CPUs of the affinity mask belong to, whatever the quota.

    None where the system doesn't describe its cores, as macOS and Windows.
    """
    cores = set()
    for cpu in _affinity():
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        siblings = next(filter(None, (_read(folder / name).strip() for name in SIBLINGS)), None)
        if siblings is None:
            return None
        cores.add(siblings)
    return len(cores)


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _quotas(root: Path) -> Iterator[Quota]:
    """Yield every CPU quota of the cgroups that this process is in, and of their ancestors."""
    mounts = _read(root / "proc/self/mountinfo")
    for line in _read(root / "proc/self/cgroup").split("\n"):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            found, usual, read_quota = _mounts(mounts, "cgroup2"), V2_MOUNTS, _v2_quota
        elif "cpu" in controllers.split(","):
            found, usual, read_quota = _mounts(mounts, "cgroup", "cpu"), V1_MOUNTS, _v1_quota
        else:
            continue
        for mount in found or [Mount("/", point) for point in usual]:
            yield from _quotas_upwards(root, mount, group, read_quota)


def _quotas_upwards(
    root: Path, mount: Mount, group: str, read_quota: Callable[[Path], Quota | None]
) -> Iterator[Quota]:
    top = root / mount.point.lstrip("/")
    below = PurePosixPath(group)
    if below.is_relative_to(mount.group):
        below = below.relative_to(mount.group)
    # In a container the group may not be below the mount: then the mount itself is the container's group. A path with
    # ".." is outside of the cgroup namespace.
    parts = () if ".." in below.parts else PurePosixPath(str(below).lstrip("/")).parts
    for depth in range(len(parts), -1, -1):
        quota = read_quota(top.joinpath(*parts[:depth]))
        if quota is not None:
            yield quota


def _v2_quota(folder: Path) -> Quota | None:
    """`cpu.max` holds quota and period in µs; a quota "max" is none."""
    return _quota(*_read(folder / "cpu.max").split()[:2])


def _v1_quota(folder: Path) -> Quota | None:
    """A quota of −1 is none."""
    return _quota(_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip())


def _quota(quota: str = "", period: str = "") -> Quota | None:
    try:
        microseconds, of = int(quota), int(period)
    except ValueError:
        return None
    return Quota(microseconds, of) if microseconds > 0 and of > 0 else None


def _mounts(mountinfo: str, kind: str, controller: str | None = None) -> list[Mount]:
    """Return where cgroups of this kind are mounted; the form is described in proc_pid_mountinfo(5)."""
    found = []
    for line in mountinfo.split("\n"):
        before, _, after = line.partition(" - ")
        fields, file_system = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(file_system) < 3 or file_system[0] != kind:
            continue
        if controller is None or controller in file_system[2].split(","):
            found.append(Mount(_unescaped(fields[3]), _unescaped(fields[4])))
    return found


def _unescaped(field: str) -> str:
    r"""Spaces, tabs, line feeds and backslashes are written as three octal digits after a backslash."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


def _read(file: Path) -> str:
    """Return a file's text; empty where it can't be read, since a quota that can't be read is treated as none."""
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError):  # ValueError: a path with a null byte
        return ""
