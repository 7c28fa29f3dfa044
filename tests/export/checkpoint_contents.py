"""What the tests of checkpoints put into files."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

WEIGHTS = {"backbone.a.weight": torch.arange(6.0).view(2, 3), "backbone.a.bias": torch.ones(2)}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


class Config(dict[str, Any]):
    """A mapping that pickles its items as an argument, as mmengine's ConfigDict does."""

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return (Config, (dict(self),), None, None, None)
