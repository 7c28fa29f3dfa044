"""Shared fixtures."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import resnest_core  # noqa: F401 - turns off other packages' reports before a test imports them
from tests.groups import group_scheduler, sort_by_group
from tests.quick import is_quick

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before PyTorch is loaded: idle threads spin otherwise

# Hypothesis' limit of 200 ms for an example would measure the machine's other load. The rest stays as it chose.
settings.register_profile("no deadline", settings(), deadline=None)
settings.load_profile("no deadline")

SLOW_SECONDS = 3600
"""After which a test marked `slow` is ended; the others' limit stands in pyproject.toml."""


def pytest_configure() -> None:
    """React to SIGINT, and let child processes do so.

    A shell without job control starts background jobs with SIGINT ignored, children inherit that, and Python then
    installs no handler: a test that interrupts something would wait in vain.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))
        if is_quick(item):
            item.add_marker("quick")
    sort_by_group(items)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return group_scheduler(config, log)


@pytest.fixture(scope="session")
def exported_mask_rcnn_s50(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository with `mask_rcnn_s50` and the parity kit's weights, exported by the command, once for all tests."""
    from tests.weights import export_filled_unchecked

    repository = tmp_path_factory.mktemp("repository")
    export_filled_unchecked("mask_rcnn_s50", repository)
    yield repository
    shutil.rmtree(repository)  # hundreds of megabytes, that pytest would keep for three sessions
