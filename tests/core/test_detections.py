import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_core.detections import Detections
from resnest_core.errors import ParameterError
from tests.core.examples import random_detections, seeds


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("boxes_xyxy", (4, 4)),
        ("boxes_xyxy", (5, 5)),
        ("boxes_xyxy", (5,)),
        ("scores", (5, 1)),
        ("labels", (4,)),
        ("masks", (4, 28, 28)),
        ("masks", (5, 784)),
    ],
)
def test_shapes_must_agree_on_the_number(field: str, shape: tuple[int, ...]) -> None:
    arrays: dict[str, Any] = {field: np.zeros(shape, np.float32)}
    with pytest.raises(ParameterError, match="must agree on N"):
        dataclasses.replace(random_detections(0, count=5), **arrays)


@given(seeds, st.integers(0, 6), st.booleans(), st.data())
def test_picking_picks_every_array_alike(seed: int, count: int, masks: bool, data: st.DataObject) -> None:
    detections = random_detections(seed, count=count, masks=masks)
    rows = np.arange(count)
    keep = data.draw(
        st.sampled_from([slice(None, None, -1), slice(1, 3), detections.scores > 0.5, rows[rows % 2 == 1][::-1]])
    )
    picked = detections[keep]
    assert isinstance(picked, Detections) and len(picked) == len(rows[keep])
    assert picked.image_size_hw == detections.image_size_hw
    for row, original in enumerate(rows[keep]):
        np.testing.assert_array_equal(picked.boxes_xyxy[row], detections.boxes_xyxy[original])
        assert picked.scores[row] == detections.scores[original]
        assert picked.labels[row] == detections.labels[original]
        if picked.masks is not None and detections.masks is not None:
            np.testing.assert_array_equal(picked.masks[row], detections.masks[original])
    assert (picked.masks is None) == (not masks)


def test_detections_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        random_detections(0).image_size_hw = (1, 1)  # type: ignore[misc]
