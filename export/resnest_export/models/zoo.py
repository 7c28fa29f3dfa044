"""The table of detectors: a detector is a row of data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from typing_extensions import Self

from resnest_core.published import PUBLISHED
from resnest_export.mmdet_config.comparison import settings_of_published
from resnest_export.mmdet_config.settings import BLOCKS, DetectorSettings

DEMO_NOTES = (
    "A demonstration: trained on 38 photographs, which it knows by heart; on any other it finds next to nothing."
)


@dataclass(frozen=True)
class DetectorConfig:
    """A detector: its name, and everything that decides its answers but its weights."""

    name: str
    settings: DetectorSettings
    notes: str = ""

    @property
    def family(self) -> str:
        """Such as `Mask R-CNN`."""
        return self.settings.family

    @property
    def backbone(self) -> str:
        """Such as `ResNeSt-50`."""
        depths = [depth for depth, blocks in BLOCKS.items() if blocks == self.settings.backbone.blocks]
        return f"ResNeSt-{depths[0]}" if depths else "ResNeSt, one thin block a stage"

    @property
    def cascade(self) -> bool:
        return self.settings.roi_head.cascade

    @property
    def masks(self) -> bool:
        return self.settings.roi_head.has_masks

    @property
    def num_classes(self) -> int:
        return self.settings.num_classes

    @property
    def max_proposals(self) -> int:
        """Regions that the box heads look at, at most."""
        return self.settings.test_rpn.max_per_img

    def with_classes(self, count: int) -> Self:
        """Return the same detector for so many classes; their names are kept if there are as many."""
        names = self.settings.classes
        kept = names if names is not None and len(names) == count else None
        return replace(self, settings=replace(self.settings, num_classes=count, classes=kept))

    def with_proposals(self, most: int) -> Self:
        """Return the same detector with at most so many proposals."""
        test = replace(self.settings.test_rpn, max_per_img=min(most, self.settings.test_rpn.max_per_img))
        return replace(self, settings=replace(self.settings, test_rpn=test))

    def with_detections(self, most: int) -> Self:
        """Return the same detector with at most so many detections."""
        return replace(
            self, settings=replace(self.settings, test_rcnn=replace(self.settings.test_rcnn, max_per_img=most))
        )

    def with_scale(self, scale: tuple[int, int]) -> Self:
        """Return the same detector for images of another size."""
        preprocessing = replace(self.settings.preprocessing, scale=scale)
        return replace(self, settings=replace(self.settings, preprocessing=preprocessing))


ZOO: dict[str, DetectorConfig] = {
    name: DetectorConfig(name, settings_of_published(name), DEMO_NOTES if name == "demo" else "")
    for name in (*PUBLISHED, "demo")
}
