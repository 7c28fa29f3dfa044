"""From a checkpoint to a model in the repository."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from typing_extensions import Self

import resnest_core
from resnest_core.card import ModelCard
from resnest_core.detector import InProcessDetector
from resnest_core.errors import ParameterError
from resnest_core.masks import THRESHOLD
from resnest_core.published import PUBLISHED
from resnest_core.repository import network_path
from resnest_core.runtimes import RUNTIMES, preferred_runtime
from resnest_export.check import Reference, check
from resnest_export.checkpoint import Checkpoint, import_weights, load_checkpoint
from resnest_export.class_files import category_ids, class_names
from resnest_export.configured import ConfiguredDetector, configured_detector, difference_lines, explained
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.models import ZOO, DetectorConfig, build
from resnest_export.models.detector import TwoStageDetector
from resnest_export.precision import Gate, Precision, model_name
from resnest_export.quantize import calibration_images, quantize
from resnest_export.request import ExportRequest
from resnest_export.to_onnx import export_onnx, save_with_card

ON_CPUS = (Precision.INT8, Precision.BF16)
"""Precisions below fp32 that CPUs run; the others are of TensorRT's engines."""


@dataclass(frozen=True, eq=False)
class ExportSource:
    """A request with what its files hold; each is read once.

    Attributes:
        request: what is exported.
        checkpoint: the weights.
        configured: the detector that the configuration describes, and where that came from.
        config: the same, with as many proposals as are asked for.
        whole: with all proposals.
        detector: with the weights; nothing is folded in it, and nothing may change it.
        classes: the classes' names.
        category_ids: the classes' ids.
        photographs: to calibrate on; empty where there is nothing to calibrate.
    """

    request: ExportRequest
    checkpoint: Checkpoint
    configured: ConfiguredDetector
    config: DetectorConfig
    whole: DetectorConfig
    detector: TwoStageDetector
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    photographs: tuple[Path, ...]

    @classmethod
    def read(cls, request: ExportRequest) -> Self:
        """Read the files of a request.

        Raises:
            ModelNotFoundError: there is no such detector.
            CheckpointError: the checkpoint is damaged, or doesn't fit; or its classes have other than one name each.
            ParameterError: the photographs can't be used.
        """
        photographs = () if request.calibration is None else tuple(calibration_images(request.calibration))
        checkpoint = load_checkpoint(request.checkpoint, use_ema=request.use_ema)
        configured = configured_detector(
            request.detector, request.config, checkpoint, names_given=request.classes_file is not None
        )
        whole = configured.config
        if request.max_detections is not None:
            whole = whole.with_detections(request.max_detections)
        config = whole if request.max_proposals is None else whole.with_proposals(request.max_proposals)
        detector = build_with_weights(config, checkpoint)
        names = class_names(config.num_classes, request.classes_file, checkpoint, config.settings.classes)
        ids = category_ids(request.category_ids, names)
        return cls(request, checkpoint, configured, config, whole, detector, names, ids, photographs)

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the report: which weights and settings were taken, and what differs from the published detector."""
        return (*self.checkpoint.notes, *self.configured.notes, *difference_lines(self.configured))

    @cached_property
    def reference(self) -> Reference:
        """What PyTorch finds with the detector, in which nothing is folded or transformed."""
        card = self.card(Precision.FP32)
        return Reference(DeployedDetector(self.detector, card), card)

    def card(self, precision: Precision, config: DetectorConfig | None = None) -> ModelCard:
        """Return the card of the model in a precision, or that of another configuration."""
        request = self.request
        return make_card(
            config or self.config,
            self.classes,
            self.category_ids,
            self.checkpoint,
            request.checkpoint,
            precision,
            request.name,
            self.whole,
        )


def export_detector(request: ExportRequest, report: Callable[[str], None] = print) -> Path:
    """Export a detector with the weights of a checkpoint, check the file, and return its path.

    Args:
        request: what is exported.
        report: gets a line of figures per check.

    Raises:
        ModelNotFoundError: there is no such detector.
        CheckpointError: the checkpoint doesn't fit it, or is damaged.
        ParameterError: the repository can't be written to; or the photographs or annotations can't be used.
        InvalidModelError: the exported file doesn't answer what PyTorch answers, or doesn't pass the gate; an earlier
            file stays as it was.
        RuntimeUnavailableError, MissingExtraError: nothing here can run the precision.
    """
    return export_network(ExportSource.read(request), request.gate, report)


def export_network(source: ExportSource, gate: Gate | None, report: Callable[[str], None]) -> Path:
    """Write a model's ONNX file as `export_detector` does, and return its path.

    In every precision the network is first written in fp32 and held against a detector in which nothing is folded or
    transformed; of a precision below fp32 only figures are reported after that.
    """
    precision = source.request.precision
    card, exact_card = source.card(precision), source.card(Precision.FP32)
    # Runtimes quantize convolutions, not what Winograd makes of them.
    winograd = source.request.winograd and precision not in ON_CPUS
    path = network_path(source.request.repository, card.name)
    for line in source.notes:
        report(line)
    with written_aside(path) as part, TemporaryDirectory() as folder:
        is_fp32 = precision is Precision.FP32
        exact = part if is_fp32 else Path(folder) / "exact.onnx"
        export_onnx(source.detector, exact_card, exact, winograd=winograd)
        for line in check(exact, source.reference, exact_card):
            report(line if is_fp32 else f"The network in fp32: {line}")
        fastest = RUNTIMES[preferred_runtime("cpu").name]
        if precision is Precision.INT8:
            quantize(exact, part, card, source.photographs)
        elif not is_fp32:
            save_with_card(onnx.load(exact), card, part)
        if precision in ON_CPUS:
            for line in check(part, source.reference, card, fastest):
                report(line)
        if gate:
            if source.config != source.whole:
                exact = Path(folder) / "whole.onnx"
                export_whole(source, exact, winograd=winograd)
            with InProcessDetector(fastest.load(exact)) as before, InProcessDetector(fastest.load(part)) as after:
                gate.check(before, after, report)
    return path


def export_whole(source: ExportSource, path: Path, *, winograd: bool = True) -> None:
    """Write the detector in fp32 with all its proposals to `path`: what a gate compares with."""
    detector = build_with_weights(source.whole, source.checkpoint)
    export_onnx(detector, source.card(Precision.FP32, source.whole), path, winograd=winograd)


def build_with_weights(config: DetectorConfig, checkpoint: Checkpoint) -> TwoStageDetector:
    """Build a detector whose weights are the checkpoint's tensors themselves.

    Raises:
        CheckpointError: they don't fit.
    """
    detector = build(config)
    import_weights(detector, checkpoint.state_dict, config.name, explained)
    return detector


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give the name of a file beside `path` that replaces it in the end, or goes where something went wrong."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ParameterError(f"{path} can't be written ({error.strerror}): name another repository.") from error


def make_card(
    config: DetectorConfig,
    classes: tuple[str, ...],
    category_ids: tuple[int, ...],
    checkpoint: Checkpoint,
    checkpoint_path: Path,
    precision: Precision = Precision.FP32,
    name: str | None = None,
    whole: DetectorConfig | None = None,
) -> ModelCard:
    """Return the model card; it has the published accuracy only of the published weights, run as published.

    `name` is the model's own, without that of its precision; None: the detector's. `whole` is the detector with all its
    proposals, if `config` has fewer.
    """
    row = PUBLISHED.get(config.name)
    settings = config.settings
    published = (
        row is not None
        and row.is_checkpoint(checkpoint.sha256)
        and precision is Precision.FP32
        and settings == ZOO[row.name].settings
    )
    is_whole = whole is None or config.max_proposals == whole.max_proposals
    proposals = "" if is_whole else f"The box heads look at {config.max_proposals} proposals at most."
    preprocessing, test = settings.preprocessing, settings.test_rcnn
    is_soft = test.nms.type == "soft_nms"
    return ModelCard(
        name=model_name(name or config.name, precision),
        family=config.family,
        backbone=config.backbone,
        classes=classes,
        category_ids=category_ids,
        test_scale=preprocessing.scale,
        keep_ratio=preprocessing.keep_ratio,
        size_divisor=preprocessing.size_divisor,
        pad_size_hw=preprocessing.pad.size_hw if preprocessing.pad else None,
        pad_rgb=preprocessing.pad.rgb if preprocessing.pad else None,
        mean=preprocessing.mean,
        std=preprocessing.std,
        channel_order=preprocessing.channel_order,
        # Soft-NMS lowers scores below the threshold that candidates pass, down to its own.
        score_threshold=min(test.score_thr, test.nms.min_score or 0.0) if is_soft else test.score_thr,
        nms={name: value for name, value in asdict(test.nms).items() if value is not None},
        max_detections=test.max_per_img,
        mask_size=settings.roi_head.mask_size,
        mask_threshold=THRESHOLD if test.mask_thr_binary is None else test.mask_thr_binary,
        box_ap=row.box_ap if row and published else None,
        mask_ap=row.mask_ap if row and published else None,
        checkpoint=checkpoint_path.name,
        checkpoint_sha256=checkpoint.sha256,
        project_version=resnest_core.__version__,
        precision=precision.value,
        notes=" ".join(filter(None, (config.notes, proposals))),
    )
