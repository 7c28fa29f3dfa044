"""Whether a TensorRT engine runs everything that Triton may send it."""

from __future__ import annotations

from pathlib import Path

from resnest_core.buckets import padded_sizes_hw
from resnest_core.card import ModelCard
from resnest_core.errors import ParameterError
from resnest_core.runtimes.tensorrt.manifest import PLAN, EngineManifest, EngineProfile, Flavour
from resnest_export.triton_repository.options import Serving


def checked_profiles(onnx: Path, card: ModelCard, serving: Serving) -> tuple[EngineProfile, ...]:
    """Return the profiles of the engine beside the ONNX file: between them they hold every batch of every shape.

    Triton pads no image and splits no batch, as the runtime in this project does. The machine isn't looked at: the
    repository may be for another.

    Raises:
        InvalidModelError: there is no engine, or it is damaged.
        EngineMismatchError: it was built from another ONNX file.
        ParameterError: Triton can't load it, or would send it more than it runs.
    """
    plan = onnx.with_name(PLAN)
    manifest = EngineManifest.find(plan, card)
    manifest.check_files(plan)
    if manifest.tensorrt_flavour is not Flavour.TENSORRT:
        raise ParameterError(
            f"Triton runs engines of TensorRT, and {plan} is one of {manifest.tensorrt_flavour.library}: "
            "build it with TensorRT."
        )
    for height, width in padded_sizes_hw(card, serving.buckets, serving.waste):
        for batch in range(1, serving.max_batch + 1):
            if not any(profile.holds((batch, height, width)) for profile in manifest.profiles):
                raise ParameterError(
                    f"The engine {plan} doesn't run {batch} images of {height}×{width} at once, as Triton would with "
                    f"--max-batch {serving.max_batch} and --buckets {serving.buckets.value}: choose others, "
                    "or export the engine for them."
                )
    return manifest.profiles
