"""Reference detections of mmdetection, comparison with this project's, and tolerances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnest_core import masks, tensors
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import unpack
from resnest_core.images import load_image
from resnest_core.preprocess import PreparedImage, prepare, stack
from resnest_export.checkpoint import Checkpoint
from resnest_export.coco_classes import COCO
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.models import ZOO
from resnest_export.models.detector import TwoStageDetector
from resnest_export.pipeline import make_card
from tests.data.parity import compare
from tests.weights import DEMO, PARITY

FEATURE = 1e-3  # max|a − b| ÷ max|golden|

Golden = Mapping[str, NDArray[Any]]


def folder(name: str) -> Path:
    """Return where the goldens of a detector lie, and their photographs beside them."""
    return DEMO / "golden" if name == "demo" else PARITY / "golden" / name


def names(detector: str) -> list[str]:
    """Return the photographs that a detector has goldens of."""
    return sorted(path.stem for path in folder(detector).glob("*.npz"))


def load(detector: str, photograph: str) -> Golden:
    """Return what mmdetection answered."""
    with np.load(folder(detector) / f"{photograph}.npz") as file:
        return dict(file)


def photograph_path(photograph: str) -> Path:
    """Return the file of a photograph of the kit or the demo."""
    return next(p for p in ((kit / "images" / f"{photograph}.jpg") for kit in (PARITY, DEMO)) if p.is_file())


def card(name: str) -> ModelCard:
    """Return the card of a detector with the kit's weights."""
    return make_card(ZOO[name], tuple(COCO), tuple(COCO.values()), Checkpoint({}, None, "0" * 64), Path("kit.pth"))


def as_answer(detections: Detections) -> Golden:
    """Return detections as `compare.agreement` takes them."""
    answer: dict[str, NDArray[Any]] = {
        "boxes": detections.boxes_xyxy,
        "scores": detections.scores,
        "labels": detections.labels,
    }
    if detections.masks is not None:
        pasted = [
            masks.rle(mask, box, detections.image_size_hw)["counts"]
            for mask, box in zip(detections.masks, detections.boxes_xyxy, strict=True)
        ]
        answer["mask_rle"] = np.array(pasted, str)
        answer["image_size_hw"] = np.array(detections.image_size_hw)
    return answer


def assert_agrees(golden: Golden, answer: Golden) -> dict[str, float]:
    """Hold an answer against the kit's limits, and return the figures."""
    figures: dict[str, float] = compare.agreement(golden, answer)
    told = "  ".join(f"{name} {value:.6g}" for name, value in figures.items())
    print(told)
    assert figures["found"] >= compare.LOWEST["found"], told
    assert figures["extra"] <= compare.EXTRA, told
    assert figures.get("mask_iou", 1.0) >= compare.LOWEST["mask_iou"], told
    if "mask_rle" in golden and len(golden["scores"]):
        assert "mask_iou" in figures, told
    return figures


def run_pytorch(
    detector: TwoStageDetector, name: str, photograph: Path
) -> tuple[Detections, dict[str, Sequence[Tensor]]]:
    """Detect in PyTorch; return the detections, and what backbone, neck and proposals gave on the way."""
    image = prepare(load_image(photograph), card(name))
    seen: dict[str, Sequence[Tensor]] = {}
    parts = {"backbone": detector.backbone, "neck": detector.neck, "proposals": detector.rpn_head}
    hooks = [part.register_forward_hook(_keeper(seen, key)) for key, part in parts.items()]
    inputs = [torch.from_numpy(array) for array in stack([image]).values()]
    with torch.inference_mode():
        outputs = DeployedDetector(detector, card(name))(*inputs, torch.zeros(1, 1))
    for hook in hooks:
        hook.remove()
    return unpacked(outputs, image), seen


def unpacked(outputs: Sequence[Tensor], image: PreparedImage) -> Detections:
    """Return the detections in a PyTorch network's outputs for one image."""
    names = tensors.output_names(has_masks=len(outputs) == len(tensors.output_names(has_masks=True)))
    named = dict(zip(names, (tensor.numpy() for tensor in outputs), strict=True))
    return unpack(named, 0, image.original_size_hw, True)


def _keeper(seen: dict[str, Sequence[Tensor]], key: str) -> Any:
    def keep(_module: nn.Module, _inputs: object, output: Sequence[Tensor]) -> None:
        seen[key] = output

    return keep


def assert_features_agree(golden: Golden, seen: Mapping[str, Sequence[Tensor]]) -> float:
    """Compare C2…C5 and P2…P6 with the golden's samples of them; return the largest relative difference."""
    worst = 0.0
    for part in ("backbone", "neck"):
        for level, feature in enumerate(seen[part]):
            key = f"{part}{level}"
            assert feature.shape == tuple(golden[f"{key}_shape"]), key
            value = golden[f"{key}_value"]
            ours = feature.flatten()[torch.from_numpy(golden[f"{key}_index"])].numpy()
            difference = float(np.abs(ours - value).max() / np.abs(value).max())
            assert difference <= FEATURE, f"{key}: {difference:.2e}"
            worst = max(worst, difference)
    return worst


@contextmanager
def box_heads_watched(detector: TwoStageDetector) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect logits and deltas of every box head that runs meanwhile."""
    seen: list[tuple[Tensor, Tensor]] = []
    heads = detector.roi_head.bbox_head
    stages = heads if isinstance(heads, nn.ModuleList) else [heads]
    hooks = [stage.register_forward_hook(lambda _m, _i, output: seen.append(output)) for stage in stages]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def assert_proposals_agree(golden: Golden, proposals: Sequence[Tensor]) -> None:
    """Find mmdetection's proposals among ours, by the limits of detections."""
    boxes, scores = (tensor[0].numpy() for tensor in proposals)
    kept = np.isfinite(scores)
    expected = {"boxes": golden["proposals"], "scores": golden["proposal_scores"]}
    answer = {"boxes": boxes[kept], "scores": scores[kept]}
    assert_agrees(_of_one_class(expected), _of_one_class(answer))


def _of_one_class(arrays: Golden) -> Golden:
    return {**arrays, "labels": np.zeros(len(arrays["scores"]), np.int64)}


def assert_box_heads_agree(golden: Golden, detector: TwoStageDetector, pyramid: Sequence[Tensor]) -> None:
    """Compare logits and deltas of each stage's box head on the golden's first eight proposals."""
    boxes = torch.from_numpy(golden["proposals"][:8])
    rois = torch.cat([torch.zeros(8, 1), boxes], dim=1)
    sizes = torch.from_numpy(golden["resized_hw"]).expand(8, 2)
    with torch.inference_mode(), box_heads_watched(detector) as stages:
        detector.roi_head.boxes(pyramid, rois, sizes)
    assert sum("_0_head" in key for key in golden) == len(stages)
    for stage, (logits, deltas) in enumerate(stages):
        for part, ours in enumerate((logits, deltas.flatten(1))):
            value = golden[f"bbox_head{stage}_{part}_head"]
            difference = float(np.abs(ours.numpy() - value).max() / np.abs(value).max())
            assert difference <= FEATURE, f"stage {stage}, output {part}: {difference:.2e}"
