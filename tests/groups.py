"""Groups of test files for pytest-xdist: a worker runs a whole group, so that what its files share is made once."""

from __future__ import annotations

from typing import Any

import pytest

GROUPS = {
    "exports": (
        "tests/export/tensorrt/test_command.py",
        "tests/export/tensorrt/test_engine.py",
        "tests/export/tensorrt/test_equal_scores.py",
        "tests/export/tensorrt/test_graph.py",
        "tests/export/tensorrt/test_quantized.py",
        "tests/export/test_export.py",
        "tests/export/test_precision.py",
    ),
    "triton": (
        "tests/triton/",
        "tests/deploy/test_cpu_quota.py",
        "tests/deploy/test_helm_triton.py",
        "tests/export/test_parity.py",
    ),
    "browser": ("tests/server/page/", "tests/examples/", "tests/docs/"),
}
"""Files, or the beginnings of their paths, that share a fixture of SHARED; every other file is a group of its own."""
SHARED = {"traces": "exports", "triton_home": "triton", "exported_mask_rcnn_s50": "triton", "chromium": "browser"}
"""Fixtures of a session that take long to make, and the group of the files that use them."""
LONGEST_FIRST = (
    "tests/client/bench/test_load.py",  # short, but an interrupt crashes Python once OpenVINO has converted a model
    "exports",
    "triton",
    "tests/export/test_parity_of_configs.py",
    "tests/tools/test_gpu_check.py",
    "tests/export/test_exported_options.py",
    "tests/test_wheel.py",
    "tests/client/bulk/test_bulk.py",
    "tests/client/bench/test_bench_demo.py",
    "tests/tools/test_engine_check.py",
    "tests/tools/test_pytorch_network.py",
    "tests/export/kernels/test_roi_align_kernel.py",
    "tests/export/test_batch_padding.py",
    "browser",
)
"""Groups that take longest, so that the workers end together; the others follow in their usual order."""


def group_of(node_id: str) -> str:
    """Return the group of a test, by its path in pytest's node id."""
    path = node_id.partition("::")[0]
    return next((name for name, beginnings in GROUPS.items() if path.startswith(beginnings)), path)


def sort_by_group(items: list[pytest.Item]) -> None:
    """Sort tests by group, the longest first."""
    groups = dict.fromkeys((*LONGEST_FIRST, *(group_of(item.nodeid) for item in items)))
    order = {name: place for place, name in enumerate(groups)}
    items.sort(key=lambda item: order[group_of(item.nodeid)])


def group_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return a scheduler that gives each worker one group after the other, in the order of the tests.

    pytest-xdist's own `loadgroup` does the same by marks, but doesn't see them with pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False  # by the number of tests
    return GroupScheduling(config, log)
