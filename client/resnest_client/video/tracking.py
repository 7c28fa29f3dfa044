"""Numbers objects through a video with ByteTrack, of supervision."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from resnest_core.detections import Detections
from resnest_core.errors import MissingExtraError


class Tracker:
    """Gives detections of consecutive frames the numbers of the objects that they are of.

    Args:
        frames_per_second: of the frames that are detected in.

    Raises:
        MissingExtraError: supervision with ByteTrack isn't installed.
    """

    def __init__(self, frames_per_second: float) -> None:
        try:
            import supervision

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # ByteTrack moves to another package, which needs OpenCV with windows
                self._tracker = supervision.ByteTrack(frame_rate=max(round(frames_per_second), 1))
        except (ImportError, AttributeError) as error:
            raise MissingExtraError("supervision with ByteTrack", "track") from error
        self._kind = supervision.Detections

    def update(self, found: Detections) -> Detections:
        """Return a frame's detections with `track_ids`, −1 for those that aren't followed (yet)."""
        tracked = self._tracker.update_with_detections(
            self._kind(
                xyxy=found.boxes_xyxy.astype(np.float32),
                confidence=found.scores,
                class_id=found.labels.astype(int),
                data={"row": np.arange(len(found))},
            )
        )
        ids = np.full(len(found), -1, np.int64)
        if len(tracked) and tracked.tracker_id is not None:
            ids[np.asarray(tracked.data["row"], int)] = tracked.tracker_id
        return replace(found, track_ids=ids)
