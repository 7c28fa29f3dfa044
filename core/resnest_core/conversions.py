"""Detections as objects of other libraries, each imported only when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resnest_core.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas
    import supervision

    from resnest_core.detections import Detections


def to_supervision(detections: Detections) -> supervision.Detections:
    """See `Detections.to_supervision`."""
    try:
        import supervision
    except ImportError as error:
        raise MissingExtraError("supervision", "supervision") from error
    return supervision.Detections(
        xyxy=detections.boxes_xyxy.astype(np.float32),
        mask=None if detections.masks is None else detections.masks_full(),
        confidence=detections.scores,
        class_id=detections.labels.astype(int),
        tracker_id=None if detections.track_ids is None else detections.track_ids.astype(int),
        data={"class_name": np.array(detections.class_names, dtype=str)} if detections.card else {},
    )


def to_pandas(detections: Detections) -> pandas.DataFrame:
    """See `Detections.to_pandas`."""
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError("pandas", "pandas") from error
    frame = pandas.DataFrame(detections.boxes_xyxy, columns=["x1", "y1", "x2", "y2"])
    frame["score"], frame["label"] = detections.scores, detections.labels
    if detections.card:
        frame["class"] = detections.class_names
    return frame
