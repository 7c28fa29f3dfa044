"""The table of detectors: a detector is a row of data."""

from __future__ import annotations

from dataclasses import dataclass

from resnest_core.published import PUBLISHED, Published


@dataclass(frozen=True)
class DetectorConfig:
    """What tells one detector from another."""

    name: str
    family: str
    backbone: str
    blocks: tuple[int, int, int, int]
    stem_channels: int
    cascade: bool
    masks: bool
    base_channels: int = 64
    """Width of the backbone's first stage; each further stage doubles it."""
    channels: int = 256
    """Of the pyramid, the proposal head, and the heads' convolutions."""
    fc_channels: int = 1024
    anchor_scale: float = 8.0
    """Side of the square anchor in units of its level's stride."""
    test_scale: tuple[int, int] = (1333, 800)
    num_classes: int = 80
    max_detections: int = 100
    max_proposals: int = 1000
    """Regions that the box heads look at, at most."""
    notes: str = ""


BACKBONES = {"ResNeSt-50": ((3, 4, 6, 3), 64), "ResNeSt-101": ((3, 4, 23, 3), 128)}  # blocks, stem channels


def _published(row: Published) -> DetectorConfig:
    blocks, stem_channels = BACKBONES[row.backbone]
    return DetectorConfig(
        name=row.name,
        family=row.family,
        backbone=row.backbone,
        blocks=blocks,
        stem_channels=stem_channels,
        cascade="Cascade" in row.family,
        masks="Mask" in row.family,
    )


DEMO = DetectorConfig(
    name="demo",
    family="Mask R-CNN",
    backbone="ResNeSt, one thin block a stage",
    blocks=(1, 1, 1, 1),
    stem_channels=32,
    cascade=False,
    masks=True,
    base_channels=32,
    channels=64,
    fc_channels=256,
    anchor_scale=4.0,
    test_scale=(533, 320),
    notes="A demonstration: trained on 38 photographs, which it knows by heart; on any other it finds next to nothing.",
)

ZOO: dict[str, DetectorConfig] = {config.name: config for config in (*map(_published, PUBLISHED.values()), DEMO)}
