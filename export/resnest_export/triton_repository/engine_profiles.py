"""Checks that a TensorRT engine supports every batch and shape that Triton may send."""

from __future__ import annotations

from pathlib import Path

from resnest_core.buckets import padded_sizes_hw
from resnest_core.card import ModelCard
from resnest_core.errors import ParameterError
from resnest_core.runtimes.tensorrt.manifest import PLAN, EngineManifest, EngineProfile, Flavour
from resnest_export.triton_repository.options import Serving


def checked_profiles(onnx: Path, card: ModelCard, serving: Serving) -> tuple[EngineProfile, ...]:
    """Return the profiles of the engine in the ONNX file's folder; together they cover every batch of every shape.

    Unlike this project's own runtime, Triton doesn't pad images or split batches to fit a profile. The GPU isn't
    checked: the repository may be for another machine.

    Raises:
        InvalidModelError: there is no engine, or it is damaged.
        EngineMismatchError: it was built from another ONNX file.
        ParameterError: Triton can't load it, or it doesn't support every batch and shape.
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
