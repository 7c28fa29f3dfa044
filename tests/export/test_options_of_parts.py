"""What a configuration may say of a detector's parts, against numbers worked by hand or plain references."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from resnest_export.checkpoint import Checkpoint
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.mmdet_config.settings import (
    BLOCKS,
    AnchorSettings,
    BackboneSettings,
    BatchNormSettings,
    BoxCoderSettings,
    BoxHeadSettings,
    DetectorSettings,
    MaskHeadSettings,
    NeckSettings,
    NMSSettings,
    PadSettings,
    PreprocessingSettings,
    RCNNTestSettings,
    RoIExtractorSettings,
    RoIHeadSettings,
    RPNSettings,
    RPNTestSettings,
)
from resnest_export.models import DetectorConfig, build
from resnest_export.models.detector import TwoStageDetector
from resnest_export.models.fpn import FPN
from resnest_export.models.heads import FCNMaskHead
from resnest_export.models.layers import sum_of
from resnest_export.models.resnest import Bottleneck, ResNeSt, SplitAttention
from resnest_export.models.roi_heads import pool
from resnest_export.models.rpn import RPN
from resnest_export.ops.roi_align import multi_level_roi_align_reference
from resnest_export.pipeline import make_card

THIN = BackboneSettings((1, 1, 1, 1), stem_channels=8, base_channels=4)


def tiny(**changes: Any) -> TwoStageDetector:
    """Build a detector of few channels, with further settings."""
    torch.manual_seed(0)
    settings = DetectorSettings(
        num_classes=3,
        backbone=THIN,
        neck=NeckSettings(8),
        rpn=RPNSettings(8),
        roi_head=RoIHeadSettings(bbox_heads=(BoxHeadSettings(0, 1, 0, 16, norm=None),)),
    )
    return build(replace(settings, **changes))


@pytest.mark.parametrize("depth", [50, 101, 152, 200])
def test_blocks_of_each_depth(depth: int) -> None:
    with torch.device("meta"):
        backbone = ResNeSt(BackboneSettings(BLOCKS[depth]))
    convolutions = sum(isinstance(module, nn.Conv2d) for module in backbone.modules())
    # Five a bottleneck, with fc1 and fc2, four shortcuts, three of the stem; the depth counts three a bottleneck,
    # one of the stem, and the classifier.
    assert convolutions == 5 * (depth - 2) // 3 + 4 + 3


def test_without_avg_down_stride_split_attention_takes_the_stride() -> None:
    torch.manual_seed(0)
    block = Bottleneck(replace(THIN, avg_down_stride=False), 16, 8, stride=2, project=True).eval()
    pooled = Bottleneck(THIN, 16, 8, stride=2, project=True).eval()
    assert (block.conv2.conv.stride, pooled.conv2.conv.stride) == ((2, 2), (1, 1))
    pooled.load_state_dict(block.state_dict())  # the same keys
    x = torch.rand(1, 16, 8, 6)
    with torch.inference_mode():
        y = F.relu(block.bn1(block.conv1(x)))
        splits = F.relu(block.conv2.bn0(F.conv2d(y, block.conv2.conv.weight, stride=2, padding=1, groups=2)))
        weights = block.conv2.weights(sum_of(splits.mean((2, 3), keepdim=True).chunk(2, 1)))
        y = sum_of([split * weight for split, weight in zip(splits.chunk(2, 1), weights, strict=True)])
        shortcut = block.downsample[2](block.downsample[1](F.avg_pool2d(x, 2)))  # type: ignore[index]
        expected = F.relu(block.bn3(block.conv3(y)) + shortcut)
        torch.testing.assert_close(block(x), expected)
        assert pooled(x).shape == expected.shape and not torch.allclose(pooled(x), expected)


@pytest.mark.parametrize(("channels", "radix", "factor", "hidden"), [(128, 2, 4, 64), (128, 2, 2, 128), (64, 1, 4, 32)])
def test_hidden_channels_of_split_attention(channels: int, radix: int, factor: int, hidden: int) -> None:
    assert SplitAttention(channels, radix, factor).fc1.out_channels == hidden


def test_every_norm_of_the_backbone_has_the_configured_eps() -> None:
    backbone = ResNeSt(replace(THIN, norm=BatchNormSettings(0.25)))
    assert {norm.eps for norm in backbone.modules() if isinstance(norm, nn.BatchNorm2d)} == {0.25}


@pytest.mark.parametrize(("outs", "sides"), [(4, [32, 16, 8, 4]), (5, [32, 16, 8, 4, 2])])
def test_levels_of_the_pyramid(outs: Any, sides: list[int]) -> None:
    pyramid = FPN((4, 8, 16, 32), NeckSettings(12, outs))
    maps = [torch.rand(1, 4 * 2**level, 32 // 2**level, 32 // 2**level) for level in range(4)]
    levels = pyramid(maps)
    assert [level.shape for level in levels] == [(1, 12, side, side) for side in sides]
    if outs == 5:
        assert torch.equal(levels[4], levels[3][:, :, ::2, ::2])


def test_a_pyramid_of_any_sizes_is_upsampled_to_the_next_level() -> None:
    pyramid = FPN((2, 2, 2, 2), NeckSettings(2, 4), doubles=False)
    with torch.no_grad():
        for conv in (*pyramid.lateral_convs, *pyramid.fpn_convs):
            inner = next(module for module in conv.modules() if isinstance(module, nn.Conv2d))
            nn.init.dirac_(inner.weight)
            nn.init.zeros_(inner.bias)  # type: ignore[arg-type]
        maps = [torch.zeros(1, 2, side, side) for side in (9, 5, 3, 2)]
        maps[3][0, 0] = torch.tensor([[1.0, 2], [3, 4]])
        third = pyramid(maps)[2][0, 0]
    # Row and column i of three come from floor(i · 2 / 3) of two.
    assert third.tolist() == [[1, 1, 2], [1, 1, 2], [3, 3, 4]]


def random_pyramid(channels: int = 4, count: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, channels, 64 // 2**level, 48 // 2**level, generator=generator) for level in range(count)]


@pytest.mark.parametrize(
    "settings",
    [
        RoIExtractorSettings(output_size=5, sampling_ratio=2),
        RoIExtractorSettings(output_size=7, sampling_ratio=1, finest_scale=28.0),
        RoIExtractorSettings(output_size=3, strides=(4, 8)),
        RoIExtractorSettings(output_size=2, strides=(4,)),
    ],
    ids=lambda settings: f"{settings.output_size}-{settings.sampling_ratio}-{len(settings.strides)}",
)
def test_regions_are_pooled_as_the_reference_pools_them(settings: RoIExtractorSettings) -> None:
    pyramid = random_pyramid()
    generator = torch.Generator().manual_seed(1)
    corners = 200 * torch.rand(30, 2, generator=generator)
    sides = 250 * torch.rand(30, 2, generator=generator) ** 2
    rois = torch.cat([torch.arange(30)[:, None] % 2, corners, corners + sides], 1)
    used = len(settings.strides)
    expected = multi_level_roi_align_reference(
        pyramid[:used],  # levels are clamped to those that there are
        rois,
        output_size=settings.output_size,
        strides=settings.strides,
        finest_scale=settings.finest_scale,
        sampling_ratio=settings.sampling_ratio,
    )
    torch.testing.assert_close(pool(pyramid, rois, settings), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("least", [0.0, 16.0, 60.0])
def test_small_proposals_are_dropped(least: float) -> None:
    torch.manual_seed(0)
    anchors = AnchorSettings(scales=(2.0, 8.0))
    rpn = RPN(RPNSettings(4, anchors), RPNTestSettings(min_bbox_size=least, iou_threshold=0.95), 4)
    with torch.inference_mode():
        boxes, scores = rpn(random_pyramid(), torch.tensor([[250, 190]] * 2))
    there = boxes[scores > -torch.inf]
    sides = there[:, 2:] - there[:, :2]
    assert len(there) and bool((sides > least).all())
    assert least or bool((sides < 16).any(1).any())  # that there are any to drop


def overlapping() -> tuple[Tensor, Tensor]:
    """Two proposals that overlap by more than a half, of the classes 0 and 1."""
    scores = torch.tensor([[[0.9, 0.0, 0.0], [0.0, 0.8, 0.0]]])
    return scores, torch.tensor([[[[0.0, 0, 10, 10]], [[0.0, 0, 10, 9]]]])


@pytest.mark.parametrize(("agnostic", "found"), [(False, [0.9, 0.8]), (True, [0.9])])
def test_class_agnostic_nms(agnostic: bool, found: list[float]) -> None:
    detector = tiny(test_rcnn=RCNNTestSettings(nms=NMSSettings(class_agnostic=agnostic)))
    scores = detector.best(*overlapping(), torch.full((1, 1), 0.05))[1][0]
    torch.testing.assert_close(scores[scores > -torch.inf], torch.tensor(found))


def test_a_thousand_detections() -> None:
    detector = tiny(test_rcnn=RCNNTestSettings(max_per_img=1000))
    corners = torch.arange(1200.0)[None, :, None, None] * torch.tensor([20.0, 0, 20, 0])
    boxes = corners + torch.tensor([0.0, 0, 10, 10])
    scores = torch.linspace(0.1, 0.9, 1200)[None, :, None].expand(-1, -1, 3) * torch.tensor([1.0, 0, 0])
    best = detector.best(scores, boxes, torch.full((1, 1), 0.05))
    assert [tuple(tensor.shape) for tensor in best] == [(1, 1000, 4), (1, 1000), (1, 1000)]
    torch.testing.assert_close(best[1][0], torch.linspace(0.1, 0.9, 1200).flip(0)[:1000])


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("is_image", [True, False])
def test_a_fixed_pad_is_image_in_its_colour_or_nothing(order: Any, is_image: bool) -> None:
    # Of mmdetection 3 the fill, here B, G, R, is normalised with the image; of mmdetection 2 it comes after that.
    pad = PadSettings((3, 4), is_image, (114.0, 10.5, 20.0) if is_image else (0.0, 0.0, 0.0))
    mean, std = (100.0, 50.0, 25.0), (2.0, 4.0, 5.0)
    preprocessing = PreprocessingSettings(mean, std, order, scale=(3, 2), size_divisor=32, pad=pad)
    settings = DetectorSettings(num_classes=1, preprocessing=preprocessing)
    card = make_card(DetectorConfig("mine", settings), ("nut",), (1,), Checkpoint({}, None, ""), Path("mine.pth"))
    assert card.pad_rgb == ((20, 10, 114) if is_image else None)
    images = torch.full((1, 32, 32, 3), 200, dtype=torch.uint8)  # what lies outside the image is ignored
    normalized = DeployedDetector(nn.Identity(), card).normalize(images, torch.tensor([[2, 3]]))[0]

    def color(*rgb: float) -> list[float]:
        values = rgb if order == "rgb" else rgb[::-1]
        return [(value - m) / s for value, m, s in zip(values, mean, std, strict=True)]

    assert normalized[:, 1, 2].tolist() == pytest.approx(color(200, 200, 200))
    for row, column in ((1, 3), (2, 0), (2, 3)):
        assert normalized[:, row, column].tolist() == pytest.approx(color(20, 10, 114) if is_image else [0, 0, 0])
    assert not normalized[:, 3:].any() and not normalized[:, :, 4:].any()


def test_open_borders_are_closed_at_the_end() -> None:
    coder = BoxCoderSettings(stds=(10.0, 10.0, 0.2, 0.2), clip_border=False)
    head = RoIHeadSettings(bbox_heads=(BoxHeadSettings(0, 1, 0, 16, norm=None, coder=coder),))
    detector = tiny(roi_head=head, test_rcnn=RCNNTestSettings(score_thr=0.0))
    images, sizes = torch.rand(1, 3, 96, 128), torch.tensor([[90, 120]])
    outputs: list[Tensor] = []
    boxes_of = detector.roi_head.boxes
    detector.roi_head.boxes = lambda *given: outputs.extend(boxes_of(*given)) or outputs[-2:]  # type: ignore
    with torch.inference_mode():
        found = detector(images, sizes, torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert bool((outputs[1] < 0).any()) and bool((outputs[1] > 120).any())
    boxes = found.boxes[found.scores > -torch.inf]
    assert len(boxes) and bool((boxes >= 0).all()) and bool((boxes <= torch.tensor([120.0, 90] * 2)).all())


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_side_of_the_masks(factor: int) -> None:
    head = FCNMaskHead(MaskHeadSettings(0, 6, norm=None, upsample_factor=factor), 4, 7, 3)
    masks = head(torch.rand(2, 4, 7, 7), torch.tensor([0, 2]))
    assert masks.shape == (2, 7 * factor, 7 * factor)


def test_a_class_agnostic_mask_is_the_same_for_every_class() -> None:
    head = FCNMaskHead(MaskHeadSettings(1, 6, norm=None, class_agnostic=True), 4, 7, 3)
    x = torch.rand(1, 4, 7, 7)
    assert torch.equal(head(x, torch.tensor([0])), head(x, torch.tensor([2])))
