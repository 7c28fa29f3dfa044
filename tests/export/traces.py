"""Traces of networks, shared by the tests of a session."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest
import torch

from resnest_core.card import ModelCard
from resnest_export import to_onnx
from resnest_export.deployed_detector import DeployedDetector

FEW_PROPOSALS = 50  # of the tests of --max-proposals, which share a trace


class Traces:
    """A cache in front of the tracer, keyed by everything that a network holds: layers, settings and weights.

    The key doesn't see functions that a test replaces, so tests that plant a fault in code don't use it.

    Args:
        folder: where the traces lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trace = to_onnx._trace

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Let what is exported meanwhile reuse traces of equal networks."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(to_onnx, "_trace", self._cached)
            yield

    def _cached(self, network: DeployedDetector, card: ModelCard) -> onnx.ModelProto:
        file = self._folder / f"{digest((network, card.has_masks, card.size_divisor))}.onnx"
        if not file.exists():
            onnx.save(self._trace(network, card), file)
        return onnx.load(file)


def digest(value: object) -> str:
    """Return a hash of an object's content that is the same for an equal object, in every process."""
    stream = io.BytesIO()
    _ContentPickler(stream).dump(value)
    return hashlib.sha256(stream.getvalue()).hexdigest()


class _ContentPickler(pickle.Pickler):
    """Pickles tensors and sets by their content: by itself pickle writes addresses of tensors, and sets unsorted."""

    def persistent_id(self, obj: object) -> object:
        if isinstance(obj, torch.Tensor):
            data = obj.detach().contiguous().view(-1).view(torch.uint8).numpy()
            return "tensor", str(obj.dtype), tuple(obj.shape), hashlib.sha256(data.tobytes()).hexdigest()
        return ("set", *sorted(obj)) if isinstance(obj, set) else None
