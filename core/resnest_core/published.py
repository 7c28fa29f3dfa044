"""Table of the eight detectors published by mmdetection."""

from __future__ import annotations

from dataclasses import dataclass

BASE_URL = "https://download.openmmlab.com/mmdetection/v2.0/resnest"


@dataclass(frozen=True)
class Published:
    """One row of the published table: accuracy is COCO val2017's AP in percent."""

    name: str
    family: str
    backbone: str
    box_ap: float
    mask_ap: float | None
    config: str
    date_and_hash: str
    """The file name's date, and the first eight hex digits of the file's sha256."""

    @property
    def checkpoint(self) -> str:
        """File name of the checkpoint."""
        return f"{self.config}_{self.date_and_hash}.pth"

    @property
    def checkpoint_sha256_prefix(self) -> str:
        return self.date_and_hash.rpartition("-")[2]

    def is_checkpoint(self, sha256: str) -> bool:
        """Whether a file with this sha256 is the published checkpoint."""
        return sha256.startswith(self.checkpoint_sha256_prefix)

    @property
    def checkpoint_path(self) -> str:
        """Address of the checkpoint, relative to BASE_URL, percent-encoded."""
        return f"{self.config}/{self.checkpoint}".replace("+", "%2B")


def _row(name: str, family: str, box_ap: float, mask_ap: float | None, date_and_hash: str) -> Published:
    training = "mstrain" if mask_ap else "mstrain-range"
    return Published(
        name=name,
        family=family,
        backbone="ResNeSt-50" if name.endswith("s50") else "ResNeSt-101",
        box_ap=box_ap,
        mask_ap=mask_ap,
        config=f"{name}_fpn_syncbn-backbone+head_{training}_1x_coco",
        date_and_hash=date_and_hash,
    )


PUBLISHED: dict[str, Published] = {
    row.name: row
    for row in (
        _row("faster_rcnn_s50", "Faster R-CNN", 42.0, None, "20200926_125502-20289c16"),
        _row("faster_rcnn_s101", "Faster R-CNN", 44.5, None, "20201006_021058-421517f1"),
        _row("mask_rcnn_s50", "Mask R-CNN", 42.6, 38.1, "20200926_125503-8a2c3d47"),
        _row("mask_rcnn_s101", "Mask R-CNN", 45.2, 40.2, "20201005_215831-af60cdf9"),
        _row("cascade_rcnn_s50", "Cascade R-CNN", 44.5, None, "20201122_213640-763cc7b5"),
        _row("cascade_rcnn_s101", "Cascade R-CNN", 46.8, None, "20201005_113242-b9459f8f"),
        _row("cascade_mask_rcnn_s50", "Cascade Mask R-CNN", 45.4, 39.5, "20201122_104428-99eca4c7"),
        _row("cascade_mask_rcnn_s101", "Cascade Mask R-CNN", 47.7, 41.4, "20201005_113243-42607475"),
    )
}


def published_weights(checkpoint_sha256: str) -> Published | None:
    """Return the row of the published checkpoint with this sha256; None: there is none."""
    return next((row for row in PUBLISHED.values() if row.is_checkpoint(checkpoint_sha256)), None)
