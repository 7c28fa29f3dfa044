"""Keys of state_dicts, and the prefixes that wrappers give them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from resnest_core.errors import CheckpointError
from resnest_core.messages import named

WRAPPERS = ("module.", "model.", "_orig_mod.")
"""Prefixes of a wrapped detector's keys: data parallelism, training frameworks, torch.compile."""


def unwrapped(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights without the prefixes of wrappers, nested ones too, where most keys have them.

    No detector's own key starts with one.

    Raises:
        CheckpointError: two keys are the same without them.
    """
    keys = list(weights)
    while prefix := next((one for one in WRAPPERS if 2 * sum(key.startswith(one) for key in keys) > len(keys)), None):
        keys = [key.removeprefix(prefix) for key in keys]
    keys = [key.replace("._orig_mod.", ".") for key in keys]  # parts of a detector may be compiled alone
    twice = sorted(key for key, count in Counter(keys).items() if count > 1)
    if twice:
        raise CheckpointError(
            f"The checkpoint has weights with and without a prefix such as {', '.join(WRAPPERS)} and can't tell which "
            f"to take: save one of them only; keys {named(twice)}."
        )
    return dict(zip(keys, weights.values(), strict=True))
