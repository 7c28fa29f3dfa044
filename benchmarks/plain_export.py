"""The detectors as one would export them without thinking of speed, to compare with: mmdetection's own formulation.

Split attention sums its splits before pooling and weighs them by a softmax; the box head looks at a thousand rows
whatever they hold, the mask head at a hundred, and makes a map of each class. Batch norms are folded here too: runtimes
do that by themselves. The operators are the standard ones of the function bodies.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from resnest_export.models import DetectorConfig, build
from resnest_export.models.detector import DetectorOutput, TwoStageDetector
from resnest_export.models.heads import FCNMaskHead
from resnest_export.models.resnest import SplitAttention
from resnest_export.tensorrt.fixed_size import all_rois


def build_plain(config: DetectorConfig) -> TwoStageDetector:
    """Build a detector with untrained weights that answers what `build`'s does."""
    detector = build(config)
    detector.__class__ = _PlainDetector
    for module in detector.modules():
        if isinstance(module, SplitAttention):
            module.__class__ = _PlainSplitAttention
        elif isinstance(module, FCNMaskHead):
            module.__class__ = _PlainMaskHead
    return detector


class _PlainSplitAttention(SplitAttention):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn0(self.conv(x)))
        splits = torch.unflatten(x, 1, (self.radix, -1))
        pooled = F.adaptive_avg_pool2d(splits.sum(1), 1)
        logits = self.fc2(F.relu(self.bn1(self.fc1(pooled))))
        return (splits * torch.unflatten(logits, 1, (self.radix, -1)).softmax(1)).sum(1)


class _PlainMaskHead(FCNMaskHead):
    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(x)
        logits = self.conv_logits(F.relu(self.upsample(x)))  # (R, classes, 28, 28)
        rows = torch.arange(logits.shape[0])
        maps: Tensor = logits[rows, labels].sigmoid()
        return maps


class _PlainDetector(TwoStageDetector):
    def forward(
        self, images: Tensor, image_sizes: Tensor, score_thresholds: Tensor, want_masks: Tensor
    ) -> DetectorOutput:
        pyramid = self.neck(self.backbone(images))
        proposals, objectness = self.rpn_head(pyramid, image_sizes)
        rois = all_rois(proposals)
        scores, boxes = self.roi_head.boxes(pyramid, rois, image_sizes[rois[:, 0].long()])
        rows = objectness.shape[1]
        scores = torch.unflatten(scores, 0, (-1, rows)).masked_fill(objectness[..., None] == -torch.inf, 0)
        boxes, best, labels = self.best(scores, torch.unflatten(boxes, 0, (-1, rows)), score_thresholds)
        if not self.has_masks:
            return DetectorOutput(boxes, best, labels, None)
        masks = self.roi_head.masks(pyramid, all_rois(boxes), labels.flatten())
        kept = ((best > -torch.inf) & want_masks)[..., None, None]
        return DetectorOutput(boxes, best, labels, torch.unflatten(masks, 0, (-1, self.max_detections)) * kept)
