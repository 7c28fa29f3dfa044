"""`resnest download` and `resnest export`; `resnest repository` is in `resnest_export.triton_repository.commands`."""

from __future__ import annotations

import os
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from resnest_core.buckets import Buckets
from resnest_core.errors import MissingExtraError, ModelNotFoundError, ParameterError
from resnest_core.published import PUBLISHED, Published
from resnest_core.runtimes.tensorrt.manifest import Flavour, HardwareCompatibility
from resnest_export.inspection import inspect
from resnest_export.precision import ENGINES_ONLY, Gate, Precision
from resnest_export.request import ExportRequest
from resnest_export.tensorrt import cli_options
from resnest_export.triton_repository.commands import repository as write_repository
from resnest_export.triton_repository.options import Platform, Serving

FOLDER = Path("checkpoints")
REPOSITORY = Path("model_repository")


class Target(str, Enum):
    """What a detector can be exported to."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    """The ONNX file converted, beside it: it loads in a third of the time."""
    TENSORRT = "tensorrt"
    """An engine beside the ONNX file."""


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(download)
    app.command()(export)
    app.command()(inspect)
    app.command("repository")(write_repository)


def download(
    name: Annotated[str, typer.Argument(help="Such as mask_rcnn_s50; `resnest models` lists them.")],
    folder: Annotated[Path, typer.Option(help="Where the checkpoint goes.")] = FOLDER,
) -> None:
    """Fetch a published checkpoint, and check its hash."""
    typer.echo(_download(_published(name), folder))


def export(
    detector: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="A published detector, such as mask_rcnn_s50; optional if there is a configuration."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="mmdetection's .pth, published or your own. Default: download the published one."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="mmdetection's configuration. Default: the one that the checkpoint contains.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Name of the model to write. Default: NAME, or the nearest published detector's."
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="File with one class name per line. Default: the configuration's, the checkpoint's, or COCO's."
        ),
    ] = None,
    category_ids: Annotated[
        str | None,
        typer.Option(help="Category ids of the classes: N,N,… or a file with one per line. Default: COCO's, or 1…N."),
    ] = None,
    ema: Annotated[bool, typer.Option("--ema", help="Export the checkpoint's averaged weights.")] = False,
    to: Annotated[
        Target, typer.Option(help="Format; openvino and tensorrt are written beside the ONNX file.")
    ] = Target.ONNX,
    precision: Annotated[
        Precision,
        typer.Option(help="Precision of the network; others than fp32 write MODEL_int8 etc. fp16, fp8: TensorRT only."),
    ] = Precision.FP32,
    calibration: Annotated[
        Path | None,
        typer.Option(help="For int8 and fp8: folder of photographs similar to those that the model will process."),
    ] = None,
    max_proposals: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of proposals for the box heads; fewer are faster and find less."),
    ] = None,
    max_detections: Annotated[
        int | None,
        typer.Option(
            min=1, max=1000, help="Maximum number of detections per image. Default: as configured, such as 100."
        ),
    ] = None,
    no_winograd: Annotated[
        bool,
        typer.Option(
            "--no-winograd",
            help="Plain convolutions in the ONNX file: for ONNX Runtime with CUDA. Implied by --to tensorrt.",
        ),
    ] = False,
    gate: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Refuse a model whose AP is lower than fp32's by more than this, such as 0.005."
        ),
    ] = None,
    annotations: Annotated[Path | None, typer.Option(help="For --gate: annotations, COCO's instances in JSON.")] = None,
    images: Annotated[Path | None, typer.Option(help="For --gate: folder of the annotated images.")] = None,
    repository: Annotated[
        Path, typer.Option(envvar="RESNEST_REPOSITORY", help="The model repository to write into.")
    ] = REPOSITORY,
    platform: Annotated[Platform, typer.Option(help="Triton platform that runs the network.")] = Platform.CPU,
    builder: cli_options.BuilderOption = None,
    sm: cli_options.SmOption = None,
    buckets: cli_options.BucketsOption = Buckets.RATIOS,
    max_batch: cli_options.MaxBatchOption = 8,
    version_compatible: cli_options.VersionCompatibleOption = False,
    hardware_compatible: cli_options.HardwareCompatibleOption = HardwareCompatibility.NONE,
    optimization_level: cli_options.LevelOption = None,
    timing_cache: cli_options.TimingCacheOption = None,
) -> None:
    """Export a detector into the model repository, and check the file against PyTorch."""
    cli_options.refuse_version_compatible(version_compatible)
    # PyTorch's idle threads would spin, which took half of the check's CPU time on a machine that others use, too.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import torch

        from resnest_core.card import read_card
        from resnest_core.cpus import allowed_cpus
        from resnest_core.runtimes import openvino_files
        from resnest_export.configured import find_config
        from resnest_export.pipeline import export_detector
        from resnest_export.tensorrt.builder import EngineOptions
        from resnest_export.tensorrt.engine_export import EngineTarget, export_engine
        from resnest_export.triton_repository.writer import write_model
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "export") from error
    # PyTorch counts the CPUs of the affinity mask by itself, but knows no quotas.
    torch.set_num_threads(min(torch.get_num_threads(), allowed_cpus()))
    if detector is not None:
        find_config(detector)
    elif checkpoint is None:
        raise ParameterError("Name a detector to fetch, such as mask_rcnn_s50, or pass your own with --checkpoint.")
    if to is not Target.TENSORRT and precision in ENGINES_ONLY:
        raise ParameterError(f"{precision.value} is a precision of TensorRT's engines: add --to tensorrt.")
    flavour = builder or (Flavour.RTX if sm else Flavour.TENSORRT)
    serving = Serving(platform=platform)
    if platform is Platform.TENSORRT:
        if to is not Target.TENSORRT or flavour is Flavour.RTX:
            raise ParameterError("--platform tensorrt needs an engine of TensorRT: add --to tensorrt, drop --sm.")
        serving = Serving(platform=platform, buckets=buckets, max_batch=max_batch)
    if to is Target.OPENVINO:
        openvino_files.import_openvino()
    request = ExportRequest(
        detector=detector,
        checkpoint=checkpoint or FOLDER / _published(str(detector)).checkpoint,
        repository=repository,
        name=name,
        config=config,
        classes_file=classes,
        category_ids=category_ids,
        use_ema=ema,
        precision=precision,
        calibration=calibration,
        gate=_gate(gate, annotations, images),
        max_proposals=max_proposals,
        max_detections=max_detections,
        # Beside an engine the file is run with CUDA.
        winograd=not no_winograd and to is not Target.TENSORRT,
    )
    if checkpoint is None:
        _download(_published(str(detector)), FOLDER)
    console = Console(stderr=True, highlight=False)
    report = partial(console.print, markup=False, soft_wrap=True)
    if to is Target.TENSORRT:
        target = EngineTarget(
            buckets=buckets,
            max_batch=max_batch,
            building=EngineOptions(
                flavour=flavour,
                compute_capabilities=cli_options.compute_capabilities(sm),
                hardware_compatibility=hardware_compatible,
                optimization_level=optimization_level,
                timing_cache=timing_cache,
            ),
        )
        path = export_engine(request, target, report)
    else:
        with console.status("Exporting: tracing takes most of a minute, checking as long …"):
            path = export_detector(request, report)
            if to is Target.OPENVINO:
                openvino_files.save(path)
    write_model(repository, read_card(path), serving)
    typer.echo(path)


def _gate(most: float | None, annotations: Path | None, images: Path | None) -> Gate | None:
    if (most, annotations, images) == (None, None, None):
        return None
    if most is None or annotations is None or images is None:
        raise ParameterError("--gate, --annotations and --images go together: give all three.")
    return Gate(most, annotations, images)


def _published(name: str) -> Published:
    if name not in PUBLISHED:
        raise ModelNotFoundError(
            f"No checkpoint of {name!r} is published, only of {', '.join(PUBLISHED)}: pass your own with --checkpoint."
        )
    return PUBLISHED[name]


def _download(published: Published, folder: Path) -> Path:
    from resnest_export.download import download as fetch

    return fetch(published, folder)
