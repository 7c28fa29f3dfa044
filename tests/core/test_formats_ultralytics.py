"""Ultralytics' answer, field by field as https://docs.ultralytics.com/platform/deploy/inference/#response has it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnest_core import __version__
from resnest_core.detections import Detections
from resnest_core.formats import ultralytics
from resnest_core.formats.outline import outline
from resnest_core.formats.ultralytics import add_speed
from resnest_core.masks import MASK_FORMS
from tests.core.examples import CARD, random_detections, seeds

counts = st.integers(0, 5)
forms = st.sampled_from(sorted(MASK_FORMS))


def answer(detections: Detections, masks: str = "rle") -> dict[str, Any]:
    """Return what a client reads."""
    read: dict[str, Any] = json.loads(json.dumps(ultralytics(detections, CARD, masks=masks), allow_nan=False))
    return read


@settings(deadline=None)
@given(seeds, counts, forms, st.booleans())
def test_every_field(seed: int, count: int, masks: str, has_masks: bool) -> None:
    detections = random_detections(seed, count=count, masks=has_masks)
    height, width = detections.image_size_hw
    found = answer(detections, masks)
    assert found.keys() == {"images", "metadata"}
    assert found["metadata"] == {"imageCount": 1, "model": "fake", "version": {"resnest-serving": __version__}}
    (image,) = found["images"]
    assert image.keys() == {"shape", "results", "speed"}
    assert (image["shape"], image["speed"]) == ([height, width], {})
    assert len(image["results"]) == count
    for index, row in enumerate(image["results"]):
        assert row.keys() == {"class", "name", "confidence", "box"} | ({"segments"} if has_masks else set())
        assert (row["class"], row["name"]) == (detections.labels[index], CARD.classes[detections.labels[index]])
        assert isinstance(row["class"], int)
        assert row["confidence"] == pytest.approx(float(detections.scores[index]), abs=1e-7)
        assert list(row["box"]) == ["x1", "y1", "x2", "y2"]
        np.testing.assert_allclose(list(row["box"].values()), detections.boxes_xyxy[index], atol=5.1e-4)
        if detections.masks is not None:
            assert list(row["segments"]) == ["x", "y"]
            expected = outline(detections.masks[index], detections.boxes_xyxy[index], (height, width))
            ring = np.array([row["segments"]["x"], row["segments"]["y"]]).T
            assert ring.tolist() == expected.tolist()
            assert (ring >= 0).all() and (ring < [width, height]).all()


@settings(deadline=None)
@given(seeds, counts)
def test_none_leaves_segments_out(seed: int, count: int) -> None:
    (image,) = answer(random_detections(seed, count=count), "none")["images"]
    assert ["segments" in row for row in image["results"]] == [False] * count


def test_the_segments_of_an_empty_mask_are_empty() -> None:
    detections = random_detections(0, count=2)
    assert detections.masks is not None
    detections.masks[1] = 0
    (image,) = answer(detections)["images"]
    assert image["results"][1]["segments"] == {"x": [], "y": []}


def test_times_of_stages_that_were_not_taken_are_0() -> None:
    found = answer(random_detections(0))
    add_speed(found, {"network": 4.0, "total": 5.0})
    assert found["images"][0]["speed"] == {"preprocess": 0, "inference": 4.0, "postprocess": 0}


def test_no_stage_is_said_to_take_0_ms_where_only_the_total_is_known() -> None:
    found = answer(random_detections(0))
    add_speed(found, {"total": 5.0})
    assert found["images"][0]["speed"] == {}
    assert found["metadata"]["functionTimeCall"] == 0.005
