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
    typer.Option("--builder", help="TensorRT: what builds the engine and runs it; with --sm it is tensorrt-rtx."),
]
SmOption = Annotated[
    list[str] | None,
    typer.Option(
        "--sm", help="TensorRT-RTX: build for this compute capability, such as 8.9, and not for the GPU here."
    ),
]
BucketsOption = Annotated[Buckets, typer.Option(help="TensorRT: the shapes that images are padded to.")]
MaxBatchOption = Annotated[int, typer.Option(min=1, max=64, help="TensorRT: images of a batch, at most.")]
VersionCompatibleOption = Annotated[
    bool, typer.Option("--version-compatible", help="TensorRT: let later versions of it run the engine.")
]
HardwareCompatibleOption = Annotated[
    HardwareCompatibility, typer.Option("--hardware-compatible", help="TensorRT: the GPUs that run the engine.")
]
LevelOption = Annotated[
    int | None, typer.Option(min=0, max=5, help="TensorRT: how long it looks for faster kernels; else its own choice.")
]
TimingCacheOption = Annotated[
    Path | None, typer.Option(help="TensorRT: a file that keeps what it measured, for the next build.")
]


def compute_capabilities(given: list[str] | None) -> tuple[str, ...]:
    """Return compute capabilities as the manifest writes them: "8.9" for `8.9`, `89` and `sm_89`.

    Raises:
        ParameterError: one is no compute capability.
    """
    found = []
    for text in given or ():
        digits = text.lower().removeprefix("sm_").removeprefix("sm").replace(".", "")
        if not (digits.isdecimal() and len(digits) in (2, 3)):
            raise ParameterError(f"{text!r} is no compute capability: give one such as 8.9 with --sm.")
        found.append(f"{digits[:-1]}.{digits[-1]}")
    return tuple(found)
