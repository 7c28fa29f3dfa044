"""Groups of tests for pytest-xdist: a worker runs a whole group, so that what its tests share is made once."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED = {
    "traces": "exports",
    "triton_home": "triton",
    "exported_mask_rcnn_s50": "triton",
    "chromium": "browser",
}
"""Fixtures of a session that take long to make, and the group of the files that use them; other files are groups."""
LONGEST_FIRST = (
    "exports",
    "triton",
    "tests/export/test_parity_of_configs.py",
    "tests/tools/test_gpu_check.py",
    "tests/export/test_exported_options.py",
    "tests/test_wheel.py",
    "tests/client/bench/test_bench_demo.py",
    "tests/tools/test_engine_check.py",
    "tests/export/kernels/test_roi_align_kernel.py",
    "tests/export/test_batch_padding.py",
    "browser",
)
"""Groups that take longest, so that the workers end together; the others follow in their usual order."""


def group(items: list[pytest.Item]) -> None:
    """Mark each test with its group, and sort the tests by group."""
    names: dict[Path, str] = {}
    for item in items:
        names.setdefault(item.path, item.path.relative_to(ROOT).as_posix())
        for fixture, name in SHARED.items():
            if fixture in getattr(item, "fixturenames", ()):
                names[item.path] = name
    order = {name: place for place, name in enumerate(dict.fromkeys((*LONGEST_FIRST, *names.values())))}
    items.sort(key=lambda item: order[names[item.path]])
    for item in items:
        item.add_marker(pytest.mark.xdist_group(names[item.path]))
