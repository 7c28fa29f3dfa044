"""The network as it is deployed: uint8 pixels in, boxes in original pixels out; the detector within knows none."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resnest_export.models.boxes import clip

MEAN = (123.68, 116.779, 103.939)  # RGB
STD = (58.393, 57.12, 57.375)
SCORE_THRESHOLD = 0.05  # the detectors' own


class DeployedDetector(nn.Module):
    """Takes and gives the tensors of `resnest_core.tensors`, in that order.

    `detector` has the signature of `TwoStageDetector.forward`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        self.register_buffer("mean", torch.tensor(MEAN), persistent=False)
        self.register_buffer("std", torch.tensor(STD), persistent=False)

    def forward(
        self,
        images: Tensor,
        image_sizes: Tensor,
        original_sizes: Tensor,
        score_thresholds: Tensor,
        want_masks: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        if want_masks is None:
            want_masks = torch.ones_like(score_thresholds, dtype=torch.bool)
        found = self.detector(
            self.normalize(images, image_sizes), image_sizes, score_thresholds.clamp(min=SCORE_THRESHOLD), want_masks
        )
        valid = found.scores > -torch.inf  # (B, K)
        scale = original_sizes.float() / image_sizes.float()  # (B, 2), y x
        boxes = clip(found.boxes * scale.flip(1).repeat(1, 2)[:, None], original_sizes[:, None])
        outputs = (
            valid.sum(1, keepdim=True),
            boxes.masked_fill(~valid[..., None], 0),
            found.scores.masked_fill(~valid, 0),
            found.labels.masked_fill(~valid, -1),
        )
        return outputs if found.masks is None else (*outputs, found.masks.half())

    def normalize(self, images: Tensor, image_sizes: Tensor) -> Tensor:
        """Return float (B, 3, H, W) of uint8 (B, H, W, 3): normalised inside `image_sizes` (B, 2), 0 outside."""
        rows = torch.arange(images.shape[1], device=images.device) < image_sizes[:, :1]  # (B, H)
        columns = torch.arange(images.shape[2], device=images.device) < image_sizes[:, 1:]  # (B, W)
        inside = (rows[:, :, None] & columns[:, None, :])[:, None]  # (B, 1, H, W)
        pixels = (images.float() - self.mean) / self.std
        return pixels.permute(0, 3, 1, 2) * inside
