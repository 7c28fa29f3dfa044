"""Helm as a library, in a process of its own: Go's runtime crashed one in which other libraries had been loaded."""

from __future__ import annotations

import functools
import multiprocessing
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("Helm as a library is for Linux", allow_module_level=True)


class HelmError(Exception):
    """What Helm says is wrong."""


def render_chart(chart: Path, values: Mapping[str, Any], name: str, namespace: str) -> dict[str, str]:
    """Return what each template of a chart is rendered to.

    Raises:
        HelmError: the chart refuses the values.
    """
    return _process().submit(_render, str(chart), dict(values), name, namespace).result()


def lint_chart(chart: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report of Helm's strict lint."""
    return _process().submit(_lint, str(chart), dict(values)).result()


@functools.cache
def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def _render(path: str, values: dict[str, Any], name: str, namespace: str) -> dict[str, str]:
    import helm_python

    try:
        with helm_python.Chart.load(path) as chart:
            return chart.render(values, name=name, namespace=namespace)
    except helm_python.HelmError as error:
        raise HelmError(str(error)) from None  # the original would load Helm where it is caught


def _lint(path: str, values: dict[str, Any]) -> dict[str, Any]:
    from helm_python import lint

    return lint(path, values, strict=True)
