"""The interface of a runtime: it loads a network and runs it on batches of tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from typing_extensions import Self

from resnest_core.card import ModelCard
from resnest_core.closeable import Closeable
from resnest_core.cpus import share_of_cpus
from resnest_core.errors import RuntimeUnavailableError
from resnest_core.tensors import Tensors


class Runtime(Closeable, ABC):
    """A loaded network. A context manager; `run` may be called from several threads."""

    name: ClassVar[str]
    """The runtime's name in the registry, such as `onnxruntime`."""
    title: ClassVar[str]
    """Its name in sentences, such as `ONNX Runtime`."""
    packages: ClassVar[tuple[str, ...]]
    """What must be importable for it to run."""
    devices: ClassVar[tuple[str, ...]]
    """Where it can run: `cpu`, `cuda`; the first is the default."""
    is_automatic: ClassVar[bool] = True
    """Whether it may be picked where no runtime is named."""
    fallbacks: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Runtimes and devices to try in turn where this one can't run a model, if the caller allows it."""
    card: ModelCard
    device: str
    """Where this network runs, as the runtime itself reports it: `cpu`, `cuda:0`."""

    @classmethod
    def is_installed(cls) -> bool:
        """Return whether its packages are there; nothing is imported."""
        return all(find_spec(package) for package in cls.packages)

    @classmethod
    @abstractmethod
    def load(cls, path: Path, *, device: str | None = None, threads: int | None = None, instances: int = 1) -> Self:
        """Load the ONNX file at `path`.

        Args:
            path: the file.
            device: one of `devices`; None: the first of them.
            threads: threads of a batch; None: its share of the CPUs that this process may use.
            instances: batches that run at the same time.

        Raises:
            InvalidModelError: the file is damaged, or wasn't made by `resnest export`.
            MissingExtraError: the runtime's package isn't installed.
            RuntimeUnavailableError: the device isn't there, or the runtime doesn't run on it.
            PrecisionUnavailableError: the CPU or the runtime hasn't the model's precision; see `load_in_fp32`.
        """

    @classmethod
    def threads_of_batch(cls, instances: int = 1) -> int | None:
        """Return how many threads a batch runs on where none are given; None: as many as the runtime finds cores."""
        return share_of_cpus(instances)

    @classmethod
    def load_in_fp32(
        cls, path: Path, *, device: str | None = None, threads: int | None = None, instances: int = 1
    ) -> Self:
        """Load as `load` does, but to be computed in fp32: for what raises PrecisionUnavailableError there."""
        return cls.load(path, device=device, threads=threads, instances=instances)

    @classmethod
    def checked_device(cls, device: str | None) -> str:
        """Return the device to load on.

        Raises:
            RuntimeUnavailableError: the runtime doesn't run on it.
        """
        device = device or cls.devices[0]
        if device not in cls.devices:
            raise RuntimeUnavailableError(
                f"The {cls.name} runtime runs on {' or '.join(cls.devices)}, not on {device}: use another runtime."
            )
        return device

    @abstractmethod
    def run(self, inputs: Tensors) -> Tensors:
        """Run the network on the tensors of `resnest_core.tensors`."""
