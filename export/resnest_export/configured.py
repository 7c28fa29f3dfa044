"""Which detector a checkpoint is of: its configuration decides, else the published one of the name that is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnest_core.errors import CheckpointError, ModelNotFoundError
from resnest_core.published import PUBLISHED, published_weights
from resnest_export.checkpoint import Checkpoint, num_classes
from resnest_export.mmdet_config import (
    DetectorSettings,
    differences_from_published,
    nearest_published,
    read_config,
    read_config_file,
    registered_code,
    settings_from_config,
)
from resnest_export.models.zoo import ZOO, DetectorConfig

MAX_SHOWN = 60  # characters of a value in the table of differences

# What decides the shapes of a detector's weights: the first of these that a key holds explains it.
EXPLANATIONS = {
    "fc_cls": "num_classes",
    "conv_logits": "num_classes, or class_agnostic of the mask head",
    "fc_reg": "num_classes, or reg_class_agnostic of the box head",
    "rpn_cls": "scales and ratios of the anchors",
    "rpn_reg": "scales and ratios of the anchors",
    "rpn_conv": "feat_channels of the rpn_head",
    "shared_convs": "num_shared_convs, conv_out_channels and norm_cfg of the box head",
    "shared_fcs": "num_shared_fcs, fc_out_channels and roi_feat_size of the box head",
    "mask_head": "num_convs, conv_out_channels and norm_cfg of the mask head",
    "bbox_head": "type of the roi_head and its num_stages",
    "neck": "out_channels and num_outs of the neck",
    "fc1": "reduction_factor and radix of the backbone",
    "fc2": "reduction_factor and radix of the backbone",
    "stem": "stem_channels of the backbone",
    "backbone": "depth, base_channels and radix of the backbone",
}


@dataclass(frozen=True)
class ConfiguredDetector:
    """A detector and where its settings come from.

    Attributes:
        config: the detector; its name is the one that was given, else the nearest published one's.
        source: what decided the settings, for people.
        nearest: the name of the published detector that it is compared with.
        notes: sentences for the report.
    """

    config: DetectorConfig
    source: str
    nearest: str
    notes: tuple[str, ...] = ()

    @property
    def differences(self) -> list[tuple[str, Any, Any]]:
        """What differs from the nearest published detector: (path, its value, this detector's)."""
        return differences_from_published(self.config.settings, self.nearest)


def find_config(name: str) -> DetectorConfig:
    """Return the row of the table of detectors.

    Raises:
        ModelNotFoundError: there is none of this name.
    """
    if name not in ZOO:
        raise ModelNotFoundError(f"There is no detector {name!r}: use one of {', '.join(ZOO)}.")
    return ZOO[name]


def configured_detector(
    name: str | None, config_file: Path | None, checkpoint: Checkpoint, *, names_given: bool = False
) -> ConfiguredDetector:
    """Return the detector of a checkpoint: of the configuration file, else of its own text, else of the name.

    Args:
        name: a row of the table of detectors, or None.
        config_file: mmdetection's configuration, or None.
        checkpoint: the weights, with the text of their configuration if there is one.
        names_given: whether the classes' names are given elsewhere, so that the configuration's don't matter.

    Raises:
        ModelNotFoundError: there is neither a configuration nor a name, or no detector of this name.
        ConfigError: the configuration can't be read, or describes something that can't be built.
        CheckpointError: its number of classes isn't the configuration's.
    """
    if name is not None:
        find_config(name)
    published = published_weights(checkpoint.sha256)
    if config_file is None and published is not None and name in (None, published.name):
        return ConfiguredDetector(ZOO[published.name], "the published detector", published.name)
    if config_file is not None:
        return _of(read_config_file(config_file), str(config_file), name, checkpoint, names_given)
    if checkpoint.config is not None:
        source = "the configuration in the checkpoint"
        return _of(read_config(checkpoint.config.text), source, name, checkpoint, names_given)
    if name is None:
        raise ModelNotFoundError(
            "The checkpoint holds no configuration: pass it with --config, or name the detector, one of "
            f"{', '.join(ZOO)}."
        )
    config = ZOO[name].with_classes(num_classes(checkpoint.state_dict))
    note = (
        f"WARNING: the checkpoint holds no configuration, so these settings of the published {name} are assumed: "
        f"{'; '.join(assumed(config.settings))}. If it was trained with others, its answers will be wrong: pass its "
        "configuration with --config."
    )
    nearest = name if name in PUBLISHED else nearest_published(config.settings)
    return ConfiguredDetector(config, f"the published {name}", nearest, (note,))


def _of(section: Any, source: str, name: str | None, checkpoint: Checkpoint, names_given: bool) -> ConfiguredDetector:
    settings = settings_from_config(section, checkpoint.classes, names_given=names_given)
    count = num_classes(checkpoint.state_dict)
    if count != settings.num_classes:
        raise CheckpointError(
            f"The checkpoint has {count} classes, but {source} says num_classes={settings.num_classes}: pass the "
            "configuration that it was trained with."
        )
    nearest = nearest_published(settings)
    notes = registered_code(section)
    if name is not None and ZOO[name].family != settings.family:
        notes.append(f"The configuration decides: it is of a {settings.family}, not of a {ZOO[name].family} as {name}.")
    return ConfiguredDetector(DetectorConfig(name or nearest, settings), source, nearest, tuple(notes))


def assumed(settings: DetectorSettings) -> Iterator[str]:
    """Yield the settings that weights don't tell, as people know them."""
    preprocessing, anchors, test = settings.preprocessing, settings.rpn.anchors, settings.test_rcnn
    yield f"scale {preprocessing.scale[0]}×{preprocessing.scale[1]}"
    yield f"mean {_numbers(preprocessing.mean)}, std {_numbers(preprocessing.std)}"
    yield f"channels in the order {preprocessing.channel_order.upper()}"
    yield f"padding to multiples of {preprocessing.size_divisor}"
    yield f"anchor scales {_numbers(anchors.scales)}, ratios {_numbers(anchors.ratios)}"
    yield f"box stds {_numbers(settings.roi_head.bbox_heads[0].coder.stds)}"
    yield f"scores above {test.score_thr:g}, {test.nms.type} at IoU {test.nms.iou_threshold:g}"
    yield f"{test.max_per_img} detections at most"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def explained(keys: Sequence[str]) -> str:
    """Return which settings decide the shapes of these keys of weights; empty if that isn't known."""
    settings = dict.fromkeys(next((text for part, text in EXPLANATIONS.items() if part in key), "") for key in keys)
    return "; ".join(text for text in settings if text)


def difference_lines(configured: ConfiguredDetector) -> list[str]:
    """Return the settings that differ from the nearest published detector as lines of a table."""
    found = configured.differences
    if not found:
        return [f"Settings: {configured.source}; all as in the published {configured.nearest}."]
    rows = [("setting", f"published {configured.nearest}", "this detector")]
    rows += [(path, _shown(theirs), _shown(ours)) for path, theirs, ours in found]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [f"  {path:<{widths[0]}}  {theirs:<{widths[1]}}  {ours}" for path, theirs, ours in rows]
    return [f"Settings: {configured.source}. What differs from the published detector:", *lines]


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
