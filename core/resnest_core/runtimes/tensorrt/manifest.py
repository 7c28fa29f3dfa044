"""The manifest beside a TensorRT engine: what it was built with and for. A mismatch is told before anything is loaded.

`model.plan` has its manifest in `model.plan.json`, and lies beside the `model.onnx` that it was built from. The rules
are those of NVIDIA's guides "Engine Compatibility", of TensorRT 11 and of TensorRT-RTX 1.7.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from resnest_core.card import ModelCard
from resnest_core.errors import EngineMismatchError, InvalidModelError
from resnest_core.hashing import sha256
from resnest_core.published import PUBLISHED, published_weights

PLAN = "model.plan"

# Keys of `build_options` that widen what an engine runs on.
VERSION_COMPATIBLE = "version_compatible"  # bool: later versions of TensorRT run it too
HARDWARE_COMPATIBILITY = "hardware_compatibility"  # a value of HardwareCompatibility
COMPUTE_CAPABILITIES = "compute_capabilities"  # list of str, TensorRT-RTX: all that the engine was built for

LATER_MAJORS = {8: 10, 10: 11}  # which next major version runs a version-compatible engine
AMPERE = Version("8.0")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ShapeBHW = tuple[int, int, int]


class Flavour(str, Enum):
    """Which of NVIDIA's two libraries built an engine; neither runs the other's."""

    TENSORRT = "tensorrt"
    RTX = "tensorrt-rtx"

    @property
    def library(self) -> str:
        """The library's name in sentences."""
        return {Flavour.TENSORRT: "TensorRT", Flavour.RTX: "TensorRT-RTX"}[self]


class HardwareCompatibility(str, Enum):
    """TensorRT's levels: on which other GPUs an engine runs."""

    NONE = "none"
    """On the GPU's own model only."""
    SAME_COMPUTE_CAPABILITY = "same_compute_capability"
    AMPERE_PLUS = "ampere_plus"
    """On any GPU of compute capability 8.0 or later."""


@dataclass(frozen=True)
class Machine:
    """What an engine is to run on."""

    tensorrt_flavour: Flavour
    tensorrt_version: str
    gpu_name: str
    compute_capability: str
    """Such as `8.9`."""
    cuda_version: str
    """The newest that the driver runs, such as `13.0`."""


class EngineProfile(BaseModel):
    """An optimisation profile: the shapes (B, H, W) of `images` from `min` to `max`, tuned for `opt`."""

    model_config = ConfigDict(frozen=True)

    min: ShapeBHW
    opt: ShapeBHW
    max: ShapeBHW

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not all(0 < low <= best <= high for low, best, high in zip(self.min, self.opt, self.max, strict=True)):
            raise ValueError("a profile needs 0 < min ≤ opt ≤ max in each dimension")
        return self

    def holds(self, shape_bhw: ShapeBHW) -> bool:
        """Return whether the engine runs images of this shape with this profile."""
        return all(low <= size <= high for low, size, high in zip(self.min, shape_bhw, self.max, strict=True))


class EngineManifest(BaseModel):
    """What an engine was built with, from and for."""

    model_config = ConfigDict(frozen=True)

    model: str
    """The model's name, without that of a precision below fp32."""
    detector: str | None = None
    """What the model was exported from, as `resnest export` takes it; None, in older manifests: `model`."""
    checkpoint: str | None = None
    """File name of the checkpoint; None: the one that was published. `find` takes it from the card."""
    tensorrt_flavour: Flavour
    tensorrt_version: str
    cuda_version: str
    """Of the TensorRT libraries."""
    gpu_name: str | None
    """None: built on a machine without a GPU."""
    compute_capability: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    precision: str
    profiles: tuple[EngineProfile, ...] = Field(min_length=1)
    onnx_sha256: Sha256
    """Of the `model.onnx` beside the engine."""
    kernels_sha256: Sha256
    engine_sha256: Sha256
    build_options: dict[str, Any]
    project_version: str

    @classmethod
    def read(cls, path: Path) -> EngineManifest:
        """Read the manifest at `path`.

        Raises:
            InvalidModelError: there is none, or it is damaged.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InvalidModelError(f"{path} can't be read: export the engine again, with its manifest.") from error
        except ValidationError as error:
            raise InvalidModelError(f"{path} is damaged: export the engine again.") from error

    def write(self, path: Path) -> None:
        """Write the manifest to `path` as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def find(cls, plan: Path, card: ModelCard) -> EngineManifest:
        """Read the manifest of the engine `plan`, which is one of the card's model, and has the card's name.

        Raises:
            InvalidModelError: there is no engine, or its manifest is missing or damaged.
        """
        model = model_of(card)
        if not plan.is_file():
            command = _command(detector_of(card), model, own_checkpoint(card), card.precision)
            raise InvalidModelError(f"There is no {plan}: run {command} on the machine that is to run it.")
        manifest = cls.read(manifest_path(plan))
        # A folder that was renamed after the export is a model of its own.
        own = {"model": model, "detector": manifest.detector or manifest.model, "checkpoint": own_checkpoint(card)}
        return manifest.model_copy(update=own)

    @property
    def is_version_compatible(self) -> bool:
        """Whether later versions of TensorRT run the engine too."""
        return bool(self.build_options.get(VERSION_COMPATIBLE))

    @property
    def remedy(self) -> str:
        """What to run to get an engine that fits."""
        command = _command(self.detector or self.model, self.model, self.checkpoint, self.precision)
        return f"run {command} on this machine"

    def check(self, machine: Machine) -> None:
        """Compare with the machine that the engine is to run on.

        Raises:
            EngineMismatchError: it can't run there; the sentence says why, and what to run.
        """
        for reason in (self._library(machine), self._gpu(machine), self._driver(machine)):
            if reason:
                raise EngineMismatchError(f"The engine of {self.model} {reason}: {self.remedy}.")

    def check_files(self, plan: Path) -> None:
        """Compare the engine, and the `model.onnx` beside it, with their hashes.

        Raises:
            InvalidModelError: the engine is damaged or cut short, or not there.
            EngineMismatchError: it was built from another `model.onnx`.
        """
        try:
            is_whole = sha256(plan) == self.engine_sha256
            is_of_network = sha256(plan.with_name("model.onnx")) == self.onnx_sha256
        except OSError as error:
            raise InvalidModelError(f"{error.filename} can't be read: {self.remedy}.") from error
        if not is_whole:
            raise InvalidModelError(f"{plan} is damaged or cut short: {self.remedy}.")
        if not is_of_network:
            raise EngineMismatchError(f"{plan} was built from another model.onnx than lies beside it: {self.remedy}.")

    def _library(self, machine: Machine) -> str | None:
        here = f"{machine.tensorrt_flavour.library} {machine.tensorrt_version}"
        built = f"{self.tensorrt_flavour.library} {self.tensorrt_version}"
        if here == built:
            return None
        # TensorRT-RTX has no version-compatible engines.
        if machine.tensorrt_flavour is self.tensorrt_flavour is Flavour.TENSORRT and self._runs_with(machine):
            return None
        return f"was built with {built}, and {here} is installed here"

    def _runs_with(self, machine: Machine) -> bool:
        ours, theirs = _version(self.tensorrt_version), _version(machine.tensorrt_version)
        is_later = theirs >= ours and theirs.major in (ours.major, LATER_MAJORS.get(ours.major))
        return self.is_version_compatible and is_later

    def _gpu(self, machine: Machine) -> str | None:
        target = f"compute capability {self.compute_capability}"
        here = f"{machine.gpu_name} here has {machine.compute_capability}"
        if self.tensorrt_flavour is Flavour.RTX:
            targets = self.build_options.get(COMPUTE_CAPABILITIES) or [self.compute_capability]
            if machine.compute_capability in targets:
                return None
            return f"was built for compute capability {', '.join(targets)}, and the {here}"
        level = self.build_options.get(HARDWARE_COMPATIBILITY, HardwareCompatibility.NONE)
        if level == HardwareCompatibility.AMPERE_PLUS:
            is_new = _version(machine.compute_capability) >= AMPERE
            return None if is_new else f"needs compute capability 8.0 or later, and the {here}"
        if machine.compute_capability != self.compute_capability:
            return f"was built for {target}, and the {here}"
        is_other = level == HardwareCompatibility.NONE and self.gpu_name not in (None, machine.gpu_name)
        return f"was built for the {self.gpu_name}, and the GPU here is the {machine.gpu_name}" if is_other else None

    def _driver(self, machine: Machine) -> str | None:
        # Within a major version CUDA's drivers run what newer toolkits made.
        if _version(machine.cuda_version).major >= _version(self.cuda_version).major:
            return None
        return f"needs CUDA {self.cuda_version}, and the driver here runs {machine.cuda_version}"


def manifest_path(plan: Path) -> Path:
    """Return where the manifest of an engine lies."""
    return plan.with_name(f"{plan.name}.json")


def model_of(card: ModelCard) -> str:
    """Return a model's name without that of its precision, as `resnest export --name` takes it."""
    return card.name if card.precision == "fp32" else card.name.removesuffix(f"_{card.precision}")


def detector_of(card: ModelCard) -> str:
    """Return what a model was exported from, as `resnest export` takes it; `NAME` where the card doesn't tell."""
    kind = (card.family, card.backbone)
    return next((row.name for row in PUBLISHED.values() if (row.family, row.backbone) == kind), "NAME")


def own_checkpoint(card: ModelCard) -> str | None:
    """Return the file name of a model's checkpoint; None: it is a published one, which `resnest export` fetches."""
    return None if published_weights(card.checkpoint_sha256) else card.checkpoint


def _command(detector: str, model: str, checkpoint: str | None, precision: str) -> str:
    own = [] if checkpoint is None else ["--checkpoint", shlex.quote(checkpoint)]
    name = [] if model == detector else ["--name", shlex.quote(model)]
    words = ["resnest export", detector, *own, *name, "--to tensorrt --precision", precision]
    return f"`{' '.join(words)}`"


def _version(text: str) -> Version:
    """Return a version such as `10.13.2.6` so that it compares; 0, which is before all others, if it is none."""
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")
