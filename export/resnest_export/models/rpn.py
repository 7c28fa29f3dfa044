"""Region Proposal Network (Ren et al. 2015, arXiv:1506.01497)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from resnest_export.mmdet_config.settings import RPNSettings, RPNTestSettings
from resnest_export.models import boxes
from resnest_export.ops import apart, batched_nms, topk


class RPN(nn.Module):
    """The pyramid to at most `max_proposals` proposals per image.

    Args:
        settings: widths, anchors, box coder.
        test: how many candidates, NMS, and how many proposals.
        channels: of the pyramid.
    """

    def __init__(self, settings: RPNSettings, test: RPNTestSettings, channels: int) -> None:
        super().__init__()
        self.settings = settings
        self.test = test
        self.max_proposals = min(test.max_per_img, test.nms_pre * len(settings.anchors.strides))
        count = settings.anchors.num_base_anchors
        self.rpn_conv = nn.Conv2d(channels, settings.feat_channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(settings.feat_channels, count, 1)
        self.rpn_reg = nn.Conv2d(settings.feat_channels, 4 * count, 1)

    def forward(self, pyramid: Sequence[Tensor], image_sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Propose regions.

        Args:
            pyramid: P2…P6, each (B, C, H, W).
            image_sizes: (B, 2), height and width of the resized image inside the padding.

        Returns:
            boxes (B, P, 4) in pixels of the resized image, and scores (B, P), best first, −inf where there is no box.
        """
        levels = [self._level(x, level, image_sizes) for level, x in enumerate(pyramid)]  # L × ((B, N, 4), (B, N))
        candidates = torch.stack([level[0] for level in levels], dim=1)  # (B, L, N, 4)
        scores = torch.stack([level[1] for level in levels], dim=1)  # (B, L, N)
        level = torch.arange(scores.shape[1], dtype=torch.int32, device=scores.device)[:, None].expand_as(scores)
        # mmdetection moves levels apart, too, which rounds boxes to float32's coarser steps there.
        moved = apart(candidates.flatten(1, 2), scores.flatten(1), level.flatten(1))
        keep, _ = batched_nms(
            moved.view_as(candidates).flatten(0, 1),  # a level is an image of its own here
            scores.flatten(0, 1),
            torch.zeros_like(scores.flatten(0, 1), dtype=torch.int32),
            iou_threshold=self.test.iou_threshold,
            max_output=self.test.nms_pre,
        )
        keep = keep.long().view_as(scores)
        kept_scores = scores.gather(2, keep.clamp(min=0)).masked_fill(keep < 0, -torch.inf).flatten(1)
        kept_boxes = candidates.gather(2, keep.clamp(min=0)[..., None].expand_as(candidates)).flatten(1, 2)
        best_scores, best = topk(kept_scores, self.max_proposals)
        return kept_boxes.gather(1, best[..., None].expand(-1, -1, 4)), best_scores

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, A, H, W) and box deltas (B, 4·A, H, W) of a level x (B, feat_channels, H, W)."""
        return self.rpn_cls(x), self.rpn_reg(x)

    def _level(self, x: Tensor, level: int, image_sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best boxes (B, N, 4) of one level and their scores (B, N); short levels are filled with −inf."""
        count = self.test.nms_pre
        x = F.relu(self.rpn_conv(x))
        logits, deltas = self.outputs(x)
        # The sigmoid as PyTorch rounds it: close to 1 many scores are equal, and runtimes' own sigmoids part them.
        scores = 1 / (1 + torch.exp(-logits))
        scores = scores.permute(0, 2, 3, 1).flatten(1)  # (B, H·W·A)
        deltas = torch.unflatten(deltas.permute(0, 2, 3, 1).flatten(1), 1, (-1, 4))  # (B, H·W·A, 4)
        scores, index = topk(F.pad(scores, (0, count), value=-torch.inf), count)
        index = index.clamp(max=deltas.shape[1] - 1)
        anchors = boxes.anchors_at(index, x.shape[3], level, self.settings.anchors)
        deltas = deltas.gather(1, index[..., None].expand(-1, -1, 4))
        decoded = boxes.decode_and_clip(anchors, deltas, self.settings.coder, image_sizes)
        least = self.test.min_bbox_size
        if least < 0:
            return decoded, scores
        too_small = (decoded[..., 2:] <= (decoded[..., :2] + least if least else decoded[..., :2])).any(-1)
        return decoded, scores.masked_fill(too_small, -torch.inf)
