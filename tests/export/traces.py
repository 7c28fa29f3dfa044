"""Traces of networks, shared by the tests of a session."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import pytest

from resnest_core.card import ModelCard
from resnest_export import to_onnx
from resnest_export.deployed_detector import DeployedDetector

FEW_PROPOSALS = 50  # of the tests of --max-proposals, which share a trace


class Traces:
    """A cache in front of the tracer, keyed by everything that a network holds: layers, settings and weights.

    The key doesn't see functions that a test replaces, so tests that plant a fault in code don't use it.
    """

    def __init__(self) -> None:
        self._models: dict[str, bytes] = {}
        self._trace = to_onnx._trace

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Let what is exported meanwhile reuse traces of equal networks."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(to_onnx, "_trace", self._cached)
            yield

    def _cached(self, network: DeployedDetector, card: ModelCard) -> onnx.ModelProto:
        key = hashlib.sha256(pickle.dumps((network, card.has_masks, card.size_divisor))).hexdigest()
        if key not in self._models:
            self._models[key] = self._trace(network, card).SerializeToString()
        return onnx.load_from_string(self._models[key])
