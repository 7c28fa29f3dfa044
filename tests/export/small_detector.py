"""A checkpoint of a small detector with its configuration in it, as a user's training leaves it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from resnest_export.mmdet_config import read_config, settings_from_config
from resnest_export.models import build
from tests.export.mmdet_config.texts import plain, text_of

CLASSES = ("screw", "nut", "washer")


def small_config(*changes: tuple[str, Any]) -> dict[str, Any]:
    """Return the configuration `small_parts` with thin layers, and with further `changes` of (path, value)."""
    config = copy.deepcopy(plain())
    model = config["model"]
    model["backbone"].update(base_channels=8, stem_channels=8)
    model["neck"].update(in_channels=[32, 64, 128, 256], out_channels=16)
    model["rpn_head"].update(in_channels=16, feat_channels=16)
    for extractor in ("bbox_roi_extractor", "mask_roi_extractor"):
        model["roi_head"][extractor]["out_channels"] = 16
    model["roi_head"]["bbox_head"].update(in_channels=16, conv_out_channels=16, fc_out_channels=32)
    model["roi_head"]["mask_head"].update(in_channels=16, conv_out_channels=16)
    for path, value in changes:
        part: Any = config
        *way, last = path.split(".")
        for step in way:
            part = part[step]
        part[last] = value
    return config


def save_small(
    path: Path, config: dict[str, Any], *, kept: str | None = None, averages: bool = False, **meta: Any
) -> Path:
    """Write a checkpoint of the detector that `config` describes, with `kept` as the text of its configuration."""
    torch.manual_seed(0)
    weights = dict(build(settings_from_config(read_config(text_of(config)))).state_dict())
    if kept is not None:
        meta["cfg"] = kept
    content: dict[str, Any] = {"state_dict": weights, "meta": meta}
    if averages:
        content["state_dict"] = weights | {f"ema_{key.replace('.', '_')}": value + 1 for key, value in weights.items()}
    torch.save(content, path)
    return path
