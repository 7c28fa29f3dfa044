"""What the tests of the export share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.traces import Traces


@pytest.fixture(scope="session")
def traces(session_folder: Path) -> Traces:
    """Networks traced once per session: a trace of the demo takes 20 s of CPU time."""
    folder = session_folder / "traces"
    folder.mkdir(exist_ok=True)
    return Traces(folder)
