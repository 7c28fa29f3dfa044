"""What every runtime is: something that runs a network on a batch of tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from typing_extensions import Self

from resnest_core.card import ModelCard
from resnest_core.closeable import Closeable
from resnest_core.tensors import Tensors


class Runtime(Closeable, ABC):
    """A loaded network. A context manager; `run` may be called from several threads."""

    name: str
    """The runtime's name in the registry, such as `onnxruntime`."""
    card: ModelCard
    device: str
    """Where it runs, as it reports itself: `cpu`, `cuda:0`, `triton`."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path, *, device: str = "cpu", threads: int | None = None, instances: int = 1) -> Self:
        """Load the ONNX file at `path`.

        Args:
            path: the file.
            device: `cpu` or `cuda`.
            threads: that a batch runs on; None: its share of the cores.
            instances: batches that run at the same time.

        Raises:
            InvalidModelError: the file is damaged, or wasn't made by `resnest export`.
            MissingExtraError: the runtime's package isn't installed.
            RuntimeUnavailableError: the device isn't there.
        """

    @abstractmethod
    def run(self, inputs: Tensors) -> Tensors:
        """Run the network on the tensors of `resnest_core.tensors`."""
