"""Overlapping objects differ in colour, for people with any kind of colour vision."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_core.colors import PALETTE, class_colors, ink_on, object_colors
from tests.core.examples import random_boxes, seeds

# Viénot, Brettel and Mollon (1999): what a protanope and a deuteranope see, from linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    "deuteranopia": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
}


@pytest.mark.parametrize("vision", VISIONS)
def test_the_palettes_colours_can_be_told_apart(vision: str) -> None:
    linear = (np.array(PALETTE) / 255) ** 2.2
    seen = 255 * np.clip(linear @ VISIONS[vision].T, 0, 1) ** (1 / 2.2)
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(one - other) > 30
    for one, other in itertools.pairwise(seen):
        assert np.linalg.norm(one - other) > 60


@given(seeds, st.lists(st.integers(0, 79), max_size=6))
def test_overlapping_objects_and_classes_differ(seed: int, labels: list[int]) -> None:
    boxes = random_boxes(np.random.default_rng(seed), len(labels), (60, 60))
    colors = object_colors(boxes, labels)
    for (one, box), (other, second) in itertools.combinations(enumerate(boxes), 2):
        if (np.maximum(box[:2], second[:2]) < np.minimum(box[2:], second[2:])).all():
            assert colors[one] != colors[other]
    by_class = object_colors(boxes, labels, "class")
    for one, other in itertools.combinations(range(len(labels)), 2):
        assert (by_class[one] == by_class[other]) == (labels[one] == labels[other])


def test_objects_apart_have_their_classs_colour() -> None:
    boxes = np.array([[0, 0, 9, 9], [10, 10, 19, 19], [9, 0, 12, 9]], np.float32)
    assert object_colors(boxes, [3, 3, 58]) == [PALETTE[3], PALETTE[3], PALETTE[58 % 7]]


def test_more_classes_and_objects_than_colours() -> None:
    assert set(class_colors(range(80)).values()) == set(range(len(PALETTE)))
    boxes = np.tile(np.array([0, 0, 9, 9], np.float32), (20, 1))
    counts = [object_colors(boxes, [0] * 20).count(color) for color in PALETTE]
    assert set(counts) == {2, 3}
    assert object_colors(boxes[:0], []) == []


def test_text_is_legible_on_each_colour() -> None:
    for color in PALETTE:
        linear = [(value / 255) ** 2.2 for value in color]
        light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        contrast = 1.05 / (light + 0.05) if ink_on(color) == "white" else (light + 0.05) / 0.05
        assert contrast >= 4.5  # WCAG AA
