"""The CPUs that a process may use: its affinity mask, and cgroups as files in a folder of the test's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_core.cpus import allowed_cores, allowed_cpus

MACHINE = 16
DEMO = Path(__file__).parents[2] / "model_repository/demo_network/1/model.onnx"
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 32 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "36 32 0:32 / /sys/fs/cgroup/memory rw shared:12 - cgroup cgroup rw,memory"
HYBRID_V2 = "42 32 0:27 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 cgroup2 rw"
CPU_MAX = "sys/fs/cgroup/cpu.max"
LONG = 100_000


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MACHINE)), raising=False)


def written(root: Path, files: Mapping[str, str], *, cgroup: str = "", mountinfo: str = "") -> Path:
    """Write a file system of these files, and return its root."""
    for name, text in {**files, "proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n", encoding="utf-8")
    return root


def v1(folder: str, quota: int, period: int = LONG) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": str(quota), f"{folder}/cpu.cfs_period_us": str(period)}


NESTED = {
    "sys/fs/cgroup/system.slice/cpu.max": f"400000 {LONG}",
    "sys/fs/cgroup/system.slice/a b.service/cpu.max": "max 100000",
    "sys/fs/cgroup/system.slice/a b.service/worker/cpu.max": f"600000 {LONG}",
}
CONTAINER = "0::/docker/0123"
CASES = {
    "nothing is limited": ({}, "0::/", V2, MACHINE),
    "no cgroup is mounted": ({CPU_MAX: f"200000 {LONG}"}, "", "", MACHINE),
    "v2, a namespace": ({CPU_MAX: f"200000 {LONG}"}, "0::/", V2, 2),
    "v2, half a CPU": ({CPU_MAX: f"50000 {LONG}"}, "0::/", V2, 1),
    "v2, one and a half": ({CPU_MAX: f"150000 {LONG}"}, "0::/", V2, 2),
    "v2, a hair above two": ({CPU_MAX: f"200001 {LONG}"}, "0::/", V2, 3),
    "v2, a short period": ({CPU_MAX: "30000 10000"}, "0::/", V2, 3),
    "v2, max": ({CPU_MAX: f"max {LONG}"}, "0::/", V2, MACHINE),
    "v2, more than the mask": ({CPU_MAX: f"6400000 {LONG}"}, "0::/", V2, MACHINE),
    "v2, an ancestor's": (NESTED, "0::/system.slice/a b.service/worker", V2, 4),
    "v2, not a neighbour's": (NESTED, "0::/user.slice", V2, MACHINE),
    "v2, no mountinfo": (NESTED, "0::/system.slice/a b.service", "", 4),
    "v2, the group isn't below the mount": ({CPU_MAX: f"300000 {LONG}"}, CONTAINER, V2, 3),
    "v2, the mount shows the group": (
        {"sys/fs/cgroup/own/cpu.max": f"500000 {LONG}", CPU_MAX: "700000 100000"},
        "0::/docker/0123/own",
        V2.replace(" / ", " /docker/0123 ", 1),
        5,
    ),
    "v2, outside of the namespace": (
        {CPU_MAX: f"300000 {LONG}", "sys/fs/other/cpu.max": f"100000 {LONG}"},
        "0::/../other",
        V2,
        3,
    ),
    "v2, mounted elsewhere": (
        {"mnt/c g/cpu.max": f"200000 {LONG}"},
        "0::/",
        V2.replace("/sys/fs/cgroup", r"/mnt/c\040g"),
        2,
    ),
    "v1": (v1("sys/fs/cgroup/cpu,cpuacct/jobs", 250_000), "4:cpu,cpuacct:/jobs\n3:memory:/", f"{V1_MEMORY}\n{V1}", 3),
    "v1, −1": (v1("sys/fs/cgroup/cpu,cpuacct", -1), "4:cpu,cpuacct:/", V1, MACHINE),
    "v1, an ancestor's": (
        {**v1("sys/fs/cgroup/cpu,cpuacct/a", 200_000), **v1("sys/fs/cgroup/cpu,cpuacct/a/b", -1)},
        "4:cpu,cpuacct:/a/b",
        V1,
        2,
    ),
    "v1, a container": (v1("sys/fs/cgroup/cpu,cpuacct", 50_000), "4:cpu,cpuacct:/docker/0123", V1, 1),
    "v1, no mountinfo": (v1("sys/fs/cgroup/cpu/a", 200_000), "2:cpu:/a", "", 2),
    "v1, no mountinfo, both": (v1("sys/fs/cgroup/cpu,cpuacct/a", 200_000), "2:cpu,cpuacct:/a", "", 2),
    "v1, the order the other way": (v1("sys/fs/cgroup/cpuacct,cpu", 200_000), "2:cpuacct,cpu:/", "", 2),
    "v1, other controllers don't count": (
        v1("sys/fs/cgroup/memory", 100_000),
        "3:cpuset:/\n2:memory:/",
        V1_MEMORY,
        MACHINE,
    ),
    "v1, cpuset and cpuacct aren't cpu": (
        v1("sys/fs/cgroup/cpu/jobs", 200_000),
        "3:cpuset:/jobs\n2:cpuacct:/jobs\n1:cpu:/",
        "",
        MACHINE,
    ),
    "v1, a colon in the name": (v1("sys/fs/cgroup/cpu,cpuacct/a:b", 200_000), "4:cpu,cpuacct:/a:b", V1, 2),
    "hybrid": (
        v1("sys/fs/cgroup/cpu,cpuacct/jobs", 300_000),
        "4:cpu,cpuacct:/jobs\n0::/jobs",
        f"{V1}\n{HYBRID_V2}",
        3,
    ),
    "hybrid, both limit": (
        {**v1("sys/fs/cgroup/cpu,cpuacct", 300_000), "sys/fs/cgroup/unified/cpu.max": f"200000 {LONG}"},
        "4:cpu,cpuacct:/\n0::/",
        f"{V1}\n{HYBRID_V2}",
        2,
    ),
    "garbled: a word": ({CPU_MAX: "plenty 100000"}, "0::/", V2, MACHINE),
    "garbled: empty": ({CPU_MAX: ""}, "0::/", V2, MACHINE),
    "garbled: no period": ({CPU_MAX: "200000"}, "0::/", V2, MACHINE),
    "garbled: a period of 0": ({CPU_MAX: "200000 0"}, "0::/", V2, MACHINE),
    "garbled: below 0": ({CPU_MAX: f"-200000 {LONG}"}, "0::/", V2, MACHINE),
    "garbled: v1, one file": ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000"}, "2:cpu:/", "", MACHINE),
    "garbled: cpu.max is a folder": ({f"{CPU_MAX}/x": ""}, "0::/", V2, MACHINE),
    "garbled: lines": ({CPU_MAX: f"200000 {LONG}"}, "\n:\n0\n0::/", f"x - cgroup2\n - \n{V2}", 2),
}


@pytest.mark.parametrize(("files", "cgroup", "mountinfo", "allowed"), CASES.values(), ids=CASES)
def test_the_smallest_quota_wins(
    files: dict[str, str], cgroup: str, mountinfo: str, allowed: int, tmp_path: Path
) -> None:
    assert allowed_cpus(written(tmp_path, files, cgroup=cgroup, mountinfo=mountinfo)) == allowed


@given(
    levels=st.lists(st.none() | st.integers(1, 40 * LONG), min_size=1, max_size=4),
    period=st.integers(1_000, 1_000_000),
    version=st.sampled_from((1, 2)),
)
def test_every_level_counts_and_is_rounded_up(levels: list[int | None], period: int, version: int) -> None:
    files, group = dict[str, str](), ""
    for quota in levels:
        folder = f"sys/fs/cgroup{'' if version == 2 else '/cpu,cpuacct'}{group}"
        v2 = {f"{folder}/cpu.max": f"{'max' if quota is None else quota} {period}"}
        files |= v2 if version == 2 else v1(folder, -1 if quota is None else quota, period)
        group += "/below"
    group = group.removesuffix("/below") or "/"
    with TemporaryDirectory() as folder:
        root = written(
            Path(folder),
            files,
            cgroup=f"0::{group}" if version == 2 else f"4:cpu,cpuacct:{group}",
            mountinfo=V2 if version == 2 else V1,
        )
        assert allowed_cpus(root) == min([MACHINE, *(ceil(quota / period) for quota in levels if quota is not None)])


@given(cgroup=st.binary(max_size=60), mountinfo=st.binary(max_size=60), limit=st.binary(max_size=20))
def test_files_of_any_content_raise_nothing(cgroup: bytes, mountinfo: bytes, limit: bytes) -> None:
    with TemporaryDirectory() as folder:
        root = written(Path(folder), {CPU_MAX: ""})
        (root / "proc/self/cgroup").write_bytes(b"0::/\n0::/" + cgroup + b"\n1:cpu:" + cgroup)
        (root / "proc/self/mountinfo").write_bytes(V2.encode() + b"\n1 2 3 / /" + mountinfo + b" r - cgroup2 c rw")
        (root / CPU_MAX).write_bytes(limit)
        assert 1 <= allowed_cpus(root) <= MACHINE


def test_without_affinity_masks_and_cgroups_it_is_the_machines_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, allowed in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert allowed_cpus(tmp_path) == allowed
    assert allowed_cores(tmp_path) is None


@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
def test_threads_of_one_core_are_one_core(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpu{}/topology"
    root = written(tmp_path, {f"{folder}/{name}".format(cpu): f"{cpu % 8},{cpu % 8 + 8}" for cpu in range(MACHINE)})
    for mask, cores in ((set(range(MACHINE)), 8), ({0, 8}, 1), ({0, 1, 2}, 3), ({3}, 1)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, mask=mask: mask)
        assert allowed_cores(root) == cores
    assert allowed_cpus(root) == 1  # of the last mask


IN_THE_MASK = """
import json, os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from pathlib import Path
import onnxruntime, openvino
from resnest_client.bench.machine import describe_machine
from resnest_core.runtimes import OnnxRuntime, OpenVinoRuntime
from resnest_server.host_threads import HostThreads

def tasks():
    return {int(task) for task in os.listdir("/proc/self/task")}

path, before = Path(sys.argv[1]), tasks()
with OnnxRuntime.load(path):
    started = len(tasks() - before)
    with OpenVinoRuntime.load(path) as compiled:
        threads = compiled._model.get_property("INFERENCE_NUM_THREADS")
        masks = {cpu for task in tasks() for cpu in os.sched_getaffinity(task)}
print(json.dumps({
    "ONNX Runtime's threads beside the caller's": started,
    "OpenVINO's threads": threads,
    "CPUs of all threads": len(masks),
    "host threads": HostThreads(1).count,
    "bench": describe_machine()["cores"],
}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has affinity masks")
def test_in_a_mask_of_one_cpu_each_runtime_really_has_one_thread() -> None:
    command = [sys.executable, "-c", IN_THE_MASK, str(DEMO)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "ONNX Runtime's threads beside the caller's": 0,
        "OpenVINO's threads": 1,
        "CPUs of all threads": 1,
        "host threads": 1,
        "bench": 1,
    }
