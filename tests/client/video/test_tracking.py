"""Objects keep their numbers, also where a frame shows none."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from resnest_client.video.tracking import Tracker
from resnest_core import Detections
from resnest_core.errors import MissingExtraError


def frame(*corners: tuple[float, float], score: float = 0.9) -> Detections:
    """Return boxes of 30×30 pixels at these corners."""
    boxes = np.array([(x, y, x + 30, y + 30) for x, y in corners], np.float32).reshape(-1, 4)
    count = len(boxes)
    return Detections(boxes, np.full(count, score, np.float32), np.zeros(count, np.int64), None, (200, 300))


def test_numbers_follow_objects_that_move_and_change_places_in_the_list() -> None:
    tracker = Tracker(10)
    seen = []
    for step in range(6):
        one, other = (10.0 + 4 * step, 20.0), (200.0 - 4 * step, 120.0)
        found = tracker.update(frame(one, other) if step % 2 else frame(other, one))
        assert found.track_ids is not None and len(found) == 2
        seen.append(found.track_ids.tolist() if step % 2 else found.track_ids.tolist()[::-1])
    assert len(set(map(tuple, seen[1:]))) == 1 and len(set(seen[-1])) == 2


def test_an_object_comes_back_with_its_number_after_frames_without_any() -> None:
    tracker = Tracker(10)
    for _ in range(3):
        before = tracker.update(frame((10, 20)))
    for _ in range(3):
        nothing = tracker.update(frame())
        assert len(nothing) == 0 and nothing.track_ids is not None
    tracker.update(frame((10, 20)))
    again = tracker.update(frame((10, 20)))
    assert before.track_ids is not None and again.track_ids is not None
    assert again.track_ids.tolist() == before.track_ids.tolist()


def test_what_is_not_followed_has_no_number() -> None:
    found = Tracker(10).update(frame((10, 20), score=0.06))
    assert found.track_ids is not None and found.track_ids.tolist() == [-1]


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtraError, match=r"\[track\]"):
        Tracker(10)
