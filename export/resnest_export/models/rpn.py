"""Region Proposal Network (Ren et al. 2015, arXiv:1506.01497)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from resnest_export.models import boxes
from resnest_export.models.fpn import STRIDES
from resnest_export.ops import apart, batched_nms, topk

RATIOS = (0.5, 1.0, 2.0)
PER_LEVEL = 1000  # candidates of a level before NMS, and at most so many after it
IOU_THRESHOLD = 0.7


class RPN(nn.Module):
    """The pyramid to at most `max_proposals` proposals per image."""

    def __init__(self, channels: int, anchor_scale: float, max_proposals: int = PER_LEVEL) -> None:
        super().__init__()
        self.anchor_scale = anchor_scale
        self.max_proposals = max_proposals
        self.rpn_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(channels, len(RATIOS), 1)
        self.rpn_reg = nn.Conv2d(channels, 4 * len(RATIOS), 1)

    def forward(self, pyramid: Sequence[Tensor], image_sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Propose regions.

        Args:
            pyramid: P2…P6, each (B, C, H, W).
            image_sizes: (B, 2), height and width of the resized image inside the padding.

        Returns:
            boxes (B, P, 4) in pixels of the resized image, and scores (B, P), best first, −inf where there is no box.
        """
        levels = [
            self._level(x, stride, image_sizes) for x, stride in zip(pyramid, STRIDES, strict=True)
        ]  # 5 × ((B, N, 4), (B, N))
        candidates = torch.stack([level[0] for level in levels], dim=1)  # (B, 5, N, 4)
        scores = torch.stack([level[1] for level in levels], dim=1)  # (B, 5, N)
        level = torch.arange(scores.shape[1], dtype=torch.int32, device=scores.device)[:, None].expand_as(scores)
        # Levels too lie apart in mmdetection, with float32's steps there.
        moved = apart(candidates.flatten(1, 2), scores.flatten(1), level.flatten(1))
        keep, _ = batched_nms(
            moved.view_as(candidates).flatten(0, 1),  # a level is an image of its own here
            scores.flatten(0, 1),
            torch.zeros_like(scores.flatten(0, 1), dtype=torch.int32),
            iou_threshold=IOU_THRESHOLD,
            max_output=PER_LEVEL,
        )
        keep = keep.long().view_as(scores)
        kept_scores = scores.gather(2, keep.clamp(min=0)).masked_fill(keep < 0, -torch.inf).flatten(1)
        kept_boxes = candidates.gather(2, keep.clamp(min=0)[..., None].expand_as(candidates)).flatten(1, 2)
        best_scores, best = topk(kept_scores, self.max_proposals)
        return kept_boxes.gather(1, best[..., None].expand(-1, -1, 4)), best_scores

    def _level(self, x: Tensor, stride: int, image_sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best boxes (B, N, 4) of one level and their scores (B, N); short levels are filled with −inf."""
        x = F.relu(self.rpn_conv(x))
        # The sigmoid as PyTorch rounds it: close to 1 many scores are equal, and runtimes' own sigmoids part them.
        scores = 1 / (1 + torch.exp(-self.rpn_cls(x)))
        scores = scores.permute(0, 2, 3, 1).flatten(1)  # (B, H·W·A)
        deltas = torch.unflatten(self.rpn_reg(x).permute(0, 2, 3, 1).flatten(1), 1, (-1, 4))  # (B, H·W·A, 4)
        scores, index = topk(F.pad(scores, (0, PER_LEVEL), value=-torch.inf), PER_LEVEL)
        index = index.clamp(max=deltas.shape[1] - 1)
        anchors = boxes.anchors_at(index, x.shape[3], stride, self.anchor_scale, RATIOS)
        decoded = boxes.decode(anchors, deltas.gather(1, index[..., None].expand(-1, -1, 4)))
        decoded = boxes.clip(decoded, image_sizes[:, None])
        empty = (decoded[..., 2:] <= decoded[..., :2]).any(-1)
        return decoded, scores.masked_fill(empty, -torch.inf)
