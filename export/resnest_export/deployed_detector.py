"""The network as it is deployed: uint8 pixels in, boxes in original pixels out; the detector within knows neither."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resnest_core.card import ModelCard
from resnest_export.models.boxes import clip


class DeployedDetector(nn.Module):
    """Takes and gives the tensors of `resnest_core.tensors`, in that order.

    Args:
        detector: has the signature of `TwoStageDetector.forward`.
        card: of the model: how images are normalised, and the lowest threshold.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, detector: nn.Module, card: ModelCard) -> None:
        super().__init__()
        self.detector = detector
        self.is_bgr = card.channel_order == "bgr"
        self.score_threshold = card.score_threshold
        self.pad_size_hw = card.pad_size_hw
        self.pad_rgb = card.pad_rgb
        self.register_buffer("mean", torch.tensor(card.mean), persistent=False)
        self.register_buffer("std", torch.tensor(card.std), persistent=False)

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
            self.normalize(images, image_sizes),
            self._sizes_with_pad(image_sizes),
            score_thresholds.clamp(min=self.score_threshold),
            want_masks,
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
        """Return float (B, 3, H, W) of uint8 (B, H, W, 3): normalised inside `image_sizes` (B, 2), 0 outside.

        Padding that counts as image is normalised in its colour.
        """
        inside = self._inside(images, image_sizes)
        pixels = images.float()
        if self.pad_rgb is not None:
            pixels = torch.where(inside.permute(0, 2, 3, 1), pixels, pixels.new_tensor(self.pad_rgb))
            inside = self._inside(images, self._sizes_with_pad(image_sizes))
        if self.is_bgr:
            pixels = pixels.flip(-1)
        pixels = (pixels - self.mean) / self.std
        return pixels.permute(0, 3, 1, 2) * inside

    def _inside(self, images: Tensor, sizes_hw: Tensor) -> Tensor:
        """Return which pixels are in the upper left `sizes_hw` (B, 2) of each image: bool (B, 1, H, W)."""
        rows = torch.arange(images.shape[1], device=images.device) < sizes_hw[:, :1]  # (B, H)
        columns = torch.arange(images.shape[2], device=images.device) < sizes_hw[:, 1:]  # (B, W)
        return (rows[:, :, None] & columns[:, None, :])[:, None]

    def _sizes_with_pad(self, image_sizes: Tensor) -> Tensor:
        """Return (B, 2): the height and width that count as image."""
        if self.pad_rgb is None:
            return image_sizes
        return torch.maximum(image_sizes, image_sizes.new_tensor(self.pad_size_hw))
