"""Shared fixtures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def exported_mask_rcnn_s50(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository with `mask_rcnn_s50` and the parity kit's weights, exported by the command, once for all tests."""
    from tests.weights import export_filled

    repository = tmp_path_factory.mktemp("repository")
    export_filled("mask_rcnn_s50", repository)
    yield repository
    shutil.rmtree(repository)  # hundreds of megabytes, that pytest would keep for three sessions
