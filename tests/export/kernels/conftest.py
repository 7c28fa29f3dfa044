"""Shared fixtures of the kernel tests."""

from collections.abc import Iterator

import pytest

from tests.export.kernels.interpreter import Interpreter


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    """Triton's interpreter, started once."""
    with Interpreter() as interpreter:
        yield interpreter
