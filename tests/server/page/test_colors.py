"""The page's colours are the drawings'."""

from __future__ import annotations

import numpy as np
from playwright.sync_api import Page

from resnest_core.colors import PALETTE, class_colors, ink_on, object_colors
from tests.core.examples import random_boxes


def test_colours_are_those_of_drawings(page: Page) -> None:
    rng = np.random.default_rng(0)
    ask = "async (found) => (await import('/page/colors.js')).objectColors(found)"
    for count in (0, 1, 5, 30):
        boxes, labels = random_boxes(rng, count, (60, 60)), rng.integers(0, 80, count).tolist()
        found = [{"box": box, "label": label} for box, label in zip(boxes.tolist(), labels, strict=True)]
        assert [tuple(color) for color in page.evaluate(ask, found)] == object_colors(boxes, labels)
    labels = rng.integers(0, 80, 9).tolist()
    theirs = page.evaluate("async (all) => [...(await import('/page/colors.js')).classColors(all)]", labels)
    assert {label: tuple(color) for label, color in theirs} == {
        label: PALETTE[index] for label, index in class_colors(labels).items()
    }
    inks = page.evaluate("async (all) => all.map((await import('/page/colors.js')).inkOn)", PALETTE)
    assert [{"#fff": "white", "#000": "black"}[ink] for ink in inks] == [ink_on(color) for color in PALETTE]
