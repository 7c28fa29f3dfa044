"""What the tests of the export share."""

from __future__ import annotations

import pytest

from tests.export.traces import Traces


@pytest.fixture(scope="session")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Traces:
    """Networks traced once per session: a trace of the demo takes 20 s of CPU time."""
    return Traces(tmp_path_factory.mktemp("traces"))
