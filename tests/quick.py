"""Which tests `make quick` runs: those that trace or run no real network and start no process, Triton or browser.

That is read from the code of a test, of its fixtures and of the helpers that they call, so a new test needs no mark.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

import pytest

MARKS = {"slow", "docker", "gpu", "triton", "browser", "rtx"}
FIXTURES = {"bucket", "cluster", "demo", "detector", "exported_mask_rcnn_s50", "fine_tuned", "graphs", "traces"}
"""Fixtures for tests that trace networks, or run the demo's."""
NAMES = {
    "DeployedDetector",
    "FixedSizeDetector",
    "InferenceSession",
    "OnnxRuntime",
    "OpenVinoRuntime",
    "ProcessPoolExecutor",
    "PyTorchRuntime",
    "build_engine",
    "compile_model",
    "deployed",
    "export_detector",
    "export_onnx",
    "fixed_size_graph",
    "in_own_process",
    "load_detector",
    "load_engines",
    "run_pytorch",
    "subprocess",
    "time_engine",
}
"""What starts processes, or traces, builds, loads or runs networks."""


def is_quick(item: pytest.Item) -> bool:
    """Tell whether a test belongs to `make quick`."""
    if MARKS.intersection(mark.name for mark in item.iter_markers()) or not isinstance(item, pytest.Function):
        return False
    if FIXTURES.intersection(item.fixturenames):
        return False
    fixtures = (definitions[-1].func for definitions in item._fixtureinfo.name2fixturedefs.values())
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    seen: set[object] = set()
    return not any(reaches(value, seen) for value in (item.function, *fixtures, *parameters))


def reaches(value: Any, seen: set[object] | None = None) -> bool:
    """Tell whether a function or class of the tests uses one of NAMES, by itself or by what it calls."""
    seen = set() if seen is None else seen
    if inspect.isclass(value) and NAMES.intersection(base.__name__ for base in value.__mro__):
        return True
    if not inspect.isroutine(value) and not inspect.isclass(value):
        return False
    value = inspect.unwrap(value)
    if value in seen or not (getattr(value, "__module__", None) or "").startswith("tests."):
        return False
    seen.add(value)
    if inspect.isclass(value):
        return any(reaches(member, seen) for member in vars(value).values())
    if not isinstance(value, FunctionType):
        return False
    names = set(_names(value.__code__))
    return bool(NAMES & names) or any(reaches(value.__globals__.get(name), seen) for name in names)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
