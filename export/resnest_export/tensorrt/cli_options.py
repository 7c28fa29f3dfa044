"""The options of `resnest export --to tensorrt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnest_core.buckets import Buckets
from resnest_core.errors import ParameterError
from resnest_core.runtimes.tensorrt.manifest import Flavour, HardwareCompatibility

BuilderOption = Annotated[
    Flavour | None,
    typer.Option("--builder", help="TensorRT: library of the engine; with --sm always tensorrt-rtx."),
]
SmOption = Annotated[
    list[str] | None,
    typer.Option("--sm", help="TensorRT-RTX: target compute capability, such as 8.9, instead of this machine's GPU."),
]
BucketsOption = Annotated[Buckets, typer.Option(help="TensorRT: shapes that images are padded to.")]
MaxBatchOption = Annotated[int, typer.Option(min=1, max=64, help="TensorRT: largest batch, in images.")]
VersionCompatibleOption = Annotated[
    bool, typer.Option("--version-compatible", help="Refused: these engines run in the TensorRT that builds them.")
]
HardwareCompatibleOption = Annotated[
    HardwareCompatibility, typer.Option("--hardware-compatible", help="TensorRT: GPUs that can run the engine.")
]
LevelOption = Annotated[
    int | None, typer.Option(min=0, max=5, help="TensorRT: optimization level; default: TensorRT's own.")
]
TimingCacheOption = Annotated[Path | None, typer.Option(help="TensorRT: timing cache, read and updated by each build.")]


def refuse_version_compatible(wanted: bool) -> None:
    """Refuse an engine for later versions of TensorRT, before anything is exported.

    NVIDIA's documents don't say that ahead-of-time plugins, which every engine contains, run in other versions.

    Raises:
        ParameterError: `wanted` is true.
    """
    if wanted:
        raise ParameterError(
            "Engines with this project's plugins can't be built for later versions of TensorRT: leave out "
            "--version-compatible, and build the engine with the version that will run it."
        )


def compute_capabilities(given: list[str] | None) -> tuple[str, ...]:
    """Return compute capabilities in the manifest's notation: "8.9" for `8.9`, `89` and `sm_89`.

    Raises:
        ParameterError: one isn't a valid compute capability.
    """
    found = []
    for text in given or ():
        digits = text.lower().removeprefix("sm_").removeprefix("sm").replace(".", "")
        if not (digits.isdecimal() and len(digits) in (2, 3)):
            raise ParameterError(f"{text!r} isn't a compute capability: give one such as 8.9 with --sm.")
        found.append(f"{digits[:-1]}.{digits[-1]}")
    return tuple(found)
