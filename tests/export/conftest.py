"""What the tests of the export share."""

from __future__ import annotations

import pytest

from tests.export.traces import Traces


@pytest.fixture(scope="session")
def traces() -> Traces:
    """Networks traced once per session: a trace of the demo takes 20 s of CPU time."""
    return Traces()
