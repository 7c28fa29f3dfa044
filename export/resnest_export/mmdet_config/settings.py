"""What decides a detector's answers: one frozen tree of plain values, independent of torch.

    DetectorSettings
    ├── backbone: BackboneSettings
    ├── neck: NeckSettings
    ├── rpn: RPNSettings ── anchors: AnchorSettings, coder: BoxCoderSettings
    ├── roi_head: RoIHeadSettings
    │   ├── bbox_roi_extractors, mask_roi_extractors: RoIExtractorSettings, one per stage
    │   ├── bbox_heads: BoxHeadSettings, one per stage
    │   └── mask_heads: MaskHeadSettings, one per stage, or none
    ├── test_rpn: RPNTestSettings
    ├── test_rcnn: RCNNTestSettings ── nms: NMSSettings
    └── preprocessing: PreprocessingSettings

A default here is the value of the published ResNeSt detectors, not mmdetection's default for an absent key: those
are resolved when a configuration is read. Everything is hashable and compares by value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
"""Bottlenecks of each stage by depth."""


@dataclass(frozen=True)
class BatchNormSettings:
    """Batch normalization with running statistics; BN and SyncBN are the same at inference."""

    eps: float = 1e-5


@dataclass(frozen=True)
class BackboneSettings:
    """ResNeSt."""

    blocks: tuple[int, int, int, int] = BLOCKS[50]
    """Bottlenecks of each stage; mmdetection's `depth` chooses a row of `BLOCKS`."""
    stem_channels: int = 64
    """Output channels of the deep stem; its first two convolutions have half of them."""
    base_channels: int = 64
    """Width of the first stage's bottlenecks; each further stage doubles it, outputs have four times the width."""
    radix: int = 2
    """Splits of split attention: 1 (a sigmoid gate) or 2 (a softmax over two splits)."""
    reduction_factor: int = 4
    """Split attention's hidden channels are max(width * radix // reduction_factor, 32)."""
    avg_down_stride: bool = True
    """Stride 2 by a 3x3 average pool after the split attention; False: by the split attention's own convolution."""
    norm: BatchNormSettings = BatchNormSettings()

    @property
    def out_channels(self) -> tuple[int, int, int, int]:
        """Channels of the four feature maps, strides 4 to 32."""
        c = 4 * self.base_channels
        return (c, 2 * c, 4 * c, 8 * c)


@dataclass(frozen=True)
class NeckSettings:
    """FPN without norm or activation, nearest upsampling."""

    out_channels: int = 256
    num_outs: Literal[4, 5] = 5
    """5: a further level by max-pooling P5 (kernel 1, stride 2); 4: only the backbone's levels."""


@dataclass(frozen=True)
class BoxCoderSettings:
    """mmdetection's DeltaXYWHBBoxCoder; delta = predicted * stds + means, in order x, y, width, height."""

    means: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    clip_border: bool = True
    """Decoded boxes are clipped to the image before padding, at its resized size; False: they may lie outside it."""


@dataclass(frozen=True)
class AnchorSettings:
    """Base anchors per level: width = base_size * scale / sqrt(ratio), height = base_size * scale * sqrt(ratio)."""

    strides: tuple[int, ...] = (4, 8, 16, 32, 64)
    """Pixels of the padded image between neighbouring anchors, one per level of the neck."""
    base_sizes: tuple[float, ...] = (4.0, 8.0, 16.0, 32.0, 64.0)
    """Pixels, one per level."""
    scales: tuple[float, ...] = (8.0,)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height / width."""
    scale_major: bool = True
    """Order of a cell's anchors: True: index = ratio * len(scales) + scale; False: scale * len(ratios) + ratio."""
    center_offset: float = 0.0
    """Centres lie at cell * stride + center_offset * base_size; 0 to 1."""

    @property
    def num_base_anchors(self) -> int:
        """Anchors per cell."""
        return len(self.scales) * len(self.ratios)


@dataclass(frozen=True)
class RPNSettings:
    """RPN head: a 3x3 convolution and ReLU, then 1x1 convolutions to sigmoid scores and deltas."""

    feat_channels: int = 256
    anchors: AnchorSettings = AnchorSettings()
    coder: BoxCoderSettings = BoxCoderSettings()


@dataclass(frozen=True)
class RoIExtractorSettings:
    """RoIAlign (aligned=True, average) on one level: floor(log2(sqrt(w * h) / finest_scale + 1e-6)), clamped."""

    output_size: int = 7
    """Side of the square map."""
    sampling_ratio: int = 0
    """Samples per bin and axis; 0: adaptive, ceil(region / output_size)."""
    strides: tuple[int, ...] = (4, 8, 16, 32)
    """Of the first len(strides) levels of the neck."""
    finest_scale: float = 56.0
    """Pixels; regions smaller than twice this are taken from the first level."""


@dataclass(frozen=True)
class BoxHeadSettings:
    """Shared 3x3 convolutions, then shared fully connected layers, then `fc_cls` (softmax) and `fc_reg`."""

    num_shared_convs: int = 4
    num_shared_fcs: int = 1
    """With 0 `fc_cls` and `fc_reg` take the flattened map."""
    conv_out_channels: int = 256
    """Width of the convolutions; meaningless (and 0) without any."""
    fc_out_channels: int = 1024
    """Width of the fully connected layers; meaningless (and 0) without any."""
    norm: BatchNormSettings | None = BatchNormSettings()
    """Of the convolutions; None: they have a bias and no norm (also where there are no convolutions)."""
    class_agnostic: bool = False
    """`fc_reg` gives 4 deltas; otherwise 4 per class."""
    coder: BoxCoderSettings = BoxCoderSettings(stds=(0.1, 0.1, 0.2, 0.2))


@dataclass(frozen=True)
class MaskHeadSettings:
    """3x3 convolutions with ReLU, a transposed convolution with ReLU (kernel = stride), 1x1 logits, sigmoid."""

    num_convs: int = 4
    conv_out_channels: int = 256
    """Also of the transposed convolution, so it matters without convolutions, too."""
    norm: BatchNormSettings | None = BatchNormSettings()
    """Of the convolutions; None: they have a bias and no norm (also where there are no convolutions)."""
    class_agnostic: bool = False
    """One logit; otherwise one per class, of which the predicted class's is taken."""
    upsample_factor: int = 2
    """Kernel and stride of the transposed convolution; the map's side is output_size * upsample_factor."""


@dataclass(frozen=True)
class RoIHeadSettings:
    """One entry per stage in each tuple; the mask's tuples are empty for a detector without masks."""

    cascade: bool = False
    """mmdetection's CascadeRoIHead, whose weights are numbered per stage; a cascade may have one stage only."""
    bbox_roi_extractors: tuple[RoIExtractorSettings, ...] = (RoIExtractorSettings(),)
    bbox_heads: tuple[BoxHeadSettings, ...] = (BoxHeadSettings(),)
    mask_roi_extractors: tuple[RoIExtractorSettings, ...] = ()
    mask_heads: tuple[MaskHeadSettings, ...] = ()

    @property
    def has_masks(self) -> bool:
        return bool(self.mask_heads)

    @property
    def mask_size(self) -> int | None:
        """Side of the square mask map; None without masks."""
        if not self.mask_heads:
            return None
        return self.mask_roi_extractors[0].output_size * self.mask_heads[0].upsample_factor


@dataclass(frozen=True)
class NMSSettings:
    """Non-maximum suppression of mmcv, within a class unless `class_agnostic`."""

    type: Literal["nms", "soft_nms"] = "nms"
    iou_threshold: float = 0.5
    """nms: a box is suppressed where IoU > threshold; soft_nms (linear, naive): its score is decayed there."""
    class_agnostic: bool = False
    method: Literal["linear", "gaussian", "naive"] | None = None
    """soft_nms only, else None; so are the next two."""
    sigma: float | None = None
    """Gaussian: score * exp(-IoU^2 / sigma)."""
    min_score: float | None = None
    """soft_nms: a box whose decayed score falls below it is dropped."""


@dataclass(frozen=True)
class RPNTestSettings:
    """From anchors to proposals."""

    nms_pre: int = 1000
    """Best anchors kept per level, before NMS (and before boxes are decoded)."""
    iou_threshold: float = 0.7
    """Of NMS within each level."""
    max_per_img: int = 1000
    """Best proposals of all levels together, after NMS."""
    min_bbox_size: float = 0.0
    """Proposals whose width or height isn't greater than this (resized pixels) are dropped; negative: none are."""


@dataclass(frozen=True)
class RCNNTestSettings:
    """From box head outputs to detections."""

    score_thr: float = 0.05
    """Scores at or below it are dropped before NMS."""
    nms: NMSSettings = NMSSettings()
    max_per_img: int = 100
    """Detections per image, at most; 1 to 1000."""
    mask_thr_binary: float | None = None
    """Mask probability from which (>=) a pixel belongs to the object; None for a detector without masks."""


@dataclass(frozen=True)
class PadSettings:
    """A step `Pad` of the test pipeline that sets a size: right and bottom are filled up to it."""

    size_hw: tuple[int, int]
    """(height, width) in pixels that an image is padded to at least."""
    before_normalization: bool
    """mmdetection 3: the fill is a pixel value, is normalised with the image, and counts as image (boxes are clipped
    to `size_hw`). False, mmdetection 2: the fill is 0 after normalisation, boxes are clipped to the resized image."""
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Pixel value of the fill, in the loader's order B, G, R; zeros where it is put in after normalisation."""

    @property
    def rgb(self) -> tuple[int, int, int] | None:
        """The fill as OpenCV rounds it, half to even; None where it is put in after normalisation."""
        blue, green, red = map(round, self.fill)
        return (red, green, blue) if self.before_normalization else None


@dataclass(frozen=True)
class PreprocessingSettings:
    """From a decoded image (uint8) to the network's input."""

    mean: tuple[float, float, float] = (123.68, 116.779, 103.939)
    """In `channel_order`, in units of 0 to 255."""
    std: tuple[float, float, float] = (58.393, 57.12, 57.375)
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """Order in which the network sees the channels."""
    scale: tuple[int, int] = (1333, 800)
    """keep_ratio: (long, short) side the image is fitted into; otherwise (width, height) it is resized to."""
    keep_ratio: bool = True
    size_divisor: int = 32
    """After normalisation, right and bottom are padded with 0 to a multiple of this; 1: not at all."""
    pad: PadSettings | None = None
    """Fixed size, before `size_divisor` applies."""


@dataclass(frozen=True)
class DetectorSettings:
    """Everything that decides a detector's answers but its weights."""

    num_classes: int = 80
    classes: tuple[str, ...] | None = None
    """Names in label order, without duplicates; None where neither configuration nor checkpoint says them."""
    backbone: BackboneSettings = BackboneSettings()
    neck: NeckSettings = NeckSettings()
    rpn: RPNSettings = RPNSettings()
    roi_head: RoIHeadSettings = RoIHeadSettings()
    test_rpn: RPNTestSettings = RPNTestSettings()
    test_rcnn: RCNNTestSettings = RCNNTestSettings()
    preprocessing: PreprocessingSettings = PreprocessingSettings()

    @property
    def family(self) -> str:
        """Such as `Cascade Mask R-CNN`."""
        if self.roi_head.cascade:
            return "Cascade Mask R-CNN" if self.roi_head.has_masks else "Cascade R-CNN"
        return "Mask R-CNN" if self.roi_head.has_masks else "Faster R-CNN"
