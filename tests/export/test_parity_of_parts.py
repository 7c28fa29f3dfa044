"""What stands for goldens of the stages: two of the eight have them, and the other six are made of their parts.

Backbone, pyramid and proposals of either depth, the single box head, the cascade and the mask head: each stands in one
of those two. So the six get weights of parts that mmdetection answered for, and have to give its answers.
"""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

from resnest_core.detections import Detections
from resnest_core.images import load_image
from resnest_core.preprocess import prepare, stack
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.models import ZOO, build, detector, roi_heads, rpn
from resnest_export.models.detector import TwoStageDetector
from resnest_export.ops.nms import batched_nms_reference
from resnest_export.ops.roi_align import multi_level_roi_align_reference
from tests.export import goldens
from tests.weights import filled, state_dict

pytestmark = pytest.mark.slow

WITH_BODY = {"ResNeSt-50": "mask_rcnn_s50", "ResNeSt-101": "cascade_rcnn_s101"}
WITH_STAGES = ("demo", *WITH_BODY.values())
WITHOUT_STAGES = [name for name in ZOO if name not in WITH_STAGES]
BODY = ("backbone", "neck", "rpn_head")
PHOTOGRAPHS = ("000000168974", "000000311303", "311303_panorama")

six = pytest.mark.parametrize("name", WITHOUT_STAGES)
photographs = pytest.mark.parametrize("photograph", PHOTOGRAPHS)


def with_heads(name: str) -> str:
    """Return the detector that has goldens of this one's box heads."""
    return "cascade_rcnn_s101" if ZOO[name].cascade else "mask_rcnn_s50"


def load_part(module: nn.Module, donor: str, part: str) -> None:
    """Load the kit's weights of a part of the donor, every one of them, into a module."""
    start = f"{part}."
    module.load_state_dict({k.removeprefix(start): v for k, v in _weights(donor).items() if k.startswith(start)})


@functools.lru_cache(maxsize=2)
def _weights(donor: str) -> dict[str, Tensor]:
    return state_dict(donor)


@functools.lru_cache(maxsize=1)
def with_body_of(name: str, donor: str) -> TwoStageDetector:
    """Build a detector whose backbone, pyramid and proposals have the donor's weights."""
    built = build(ZOO[name])
    for part in BODY:
        load_part(built.get_submodule(part), donor, part)
    return built


@functools.lru_cache(maxsize=1)
def with_heads_of(name: str, donor: str) -> TwoStageDetector:
    """Build a detector whose heads have the donor's weights, on the donor's backbone."""
    built, other = build(ZOO[name]), build(ZOO[donor])
    for part in BODY:
        load_part(other.get_submodule(part), donor, part)
        built.set_submodule(part, other.get_submodule(part))
    load_part(built.get_submodule("roi_head.bbox_head"), donor, "roi_head.bbox_head")
    if isinstance(built.roi_head, roi_heads.RoIHead) and built.has_masks:
        load_part(built.roi_head.mask_head, donor, "roi_head.mask_head")
    return built


def test_six_have_no_goldens_of_their_stages() -> None:
    of_stages = [name for name in ZOO if any("proposals" in goldens.load(name, each) for each in goldens.names(name))]
    assert sorted(of_stages) == sorted(WITH_STAGES)
    assert len(WITHOUT_STAGES) == 6


@six
@photographs
def test_features_and_proposals(name: str, photograph: str) -> None:
    donor = WITH_BODY[ZOO[name].backbone]
    golden = goldens.load(donor, photograph)
    _, seen = goldens.run_pytorch(with_body_of(name, donor), name, goldens.photograph_path(photograph))
    print(f"{name} {photograph} features {goldens.assert_features_agree(golden, seen):.1e}")
    goldens.assert_proposals_agree(golden, seen["proposals"])


@six
@photographs
def test_detections(name: str, photograph: str) -> None:
    donor = with_heads(name)
    golden = dict(goldens.load(donor, photograph))
    if not ZOO[name].masks:
        golden.pop("mask_rle", None)
    built = with_heads_of(name, donor)
    detections, seen = goldens.run_pytorch(built, name, goldens.photograph_path(photograph))
    goldens.assert_box_heads_agree(golden, built, seen["neck"])
    assert (detections.masks is not None) == ZOO[name].masks
    print(name, photograph, end="  ")
    goldens.assert_agrees(golden, goldens.as_answer(detections))


@pytest.mark.parametrize("name", ["cascade_mask_rcnn_s50", "cascade_mask_rcnn_s101"])
@photographs
def test_masks_of_a_cascade(name: str, photograph: str) -> None:
    """Three heads alike average to one, so they give the masks of `mask_rcnn_s50` on its boxes."""
    donor = "mask_rcnn_s50"
    golden = goldens.load(donor, photograph)
    path = goldens.photograph_path(photograph)
    _, seen = goldens.run_pytorch(with_body_of("faster_rcnn_s50", donor), donor, path)
    head = build(ZOO[name]).roi_head
    assert isinstance(head, roi_heads.CascadeRoIHead)
    for stage in head.mask_head:
        load_part(stage, donor, "roi_head.mask_head")
    boxes = torch.from_numpy(golden["boxes"]) * torch.from_numpy(golden["scale_factor_xy"]).repeat(2)
    with torch.inference_mode():
        rois = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)
        masks = head.masks(seen["neck"], rois, torch.from_numpy(golden["labels"]))
    height, width = golden["image_size_hw"].tolist()
    answer = Detections(golden["boxes"], golden["scores"], golden["labels"], masks.half().numpy(), (height, width))
    goldens.assert_agrees(golden, goldens.as_answer(answer))


@pytest.mark.parametrize("name", ["mask_rcnn_s101", "cascade_mask_rcnn_s50"])
def test_fast_operators_answer_what_the_plain_ones_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole detector with the operators that anyone can read, on a small image."""
    image = prepare(load_image(goldens.photograph_path("311303_panorama")), goldens.card(name))
    network = DeployedDetector(filled(name), goldens.card(name))
    inputs = [torch.from_numpy(array) for array in stack([image]).values()]
    with torch.inference_mode():
        fast = network(*inputs, torch.zeros(1, 1))
        monkeypatch.setattr(rpn, "batched_nms", batched_nms_reference)
        monkeypatch.setattr(detector, "batched_nms", batched_nms_reference)
        monkeypatch.setattr(roi_heads, "multi_level_roi_align", multi_level_roi_align_reference)
        plain = network(*inputs, torch.zeros(1, 1))
    expected, answer = (goldens.unpacked(outputs, image) for outputs in (plain, fast))
    print(name, len(expected), end="  ")
    assert len(expected) > 10
    goldens.assert_agrees(goldens.as_answer(expected), goldens.as_answer(answer))
