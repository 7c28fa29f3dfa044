"""The highest scores of a list, the same ones everywhere."""

from __future__ import annotations

import torch
from torch import Tensor


def topk(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the highest `count` of scores (B, N), best first, and their positions, both (B, count).

    Of equal scores the first comes first, as in mmdetection and in ONNX's TopK; PyTorch's topk promises nothing.
    """
    if torch.compiler.is_exporting():
        return scores.topk(count)
    values, index = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :count], index[:, :count]
