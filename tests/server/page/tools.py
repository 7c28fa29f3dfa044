"""Helpers of the page tests: user actions and what the page shows."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Page, expect
from pycocotools import mask as coco

from resnest_core import tensors
from resnest_core.images import load_image
from resnest_core.runtimes import FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from resnest_core.tensors import Tensors
from tests.server.test_serve import PHOTOGRAPH

PATIENCE = 15_000  # milliseconds, for a machine that has other work
FIRST_DRAW = 100  # milliseconds from the answer's arrival to the first frame
# The answers, as the page reads them.
KEEP_PARSED = (
    "globalThis.parsed = []; const { parse } = JSON; JSON.parse = (text) => parsed[parsed.push(parse(text)) - 1];"
)
SAMPLE = ".sample >> nth=0"

expect.set_options(timeout=PATIENCE)


class CrowdRuntime(FakeRuntime):
    """The fake runtime with as many detections as its card allows, all of high score."""

    def __init__(self) -> None:
        super().__init__(count=FAKE_CARD.max_detections)

    def run(self, inputs: Tensors) -> Tensors:
        every = super().run({**inputs, tensors.SCORE_THRESHOLDS: inputs[tensors.SCORE_THRESHOLDS] * 0})
        count = self.count
        height, width = inputs[tensors.ORIGINAL_SIZES][0].tolist()
        corners = np.stack(np.divmod(np.arange(count), 10), 1)[:, ::-1] * 0.07
        boxes = np.concatenate([corners, corners + 0.35], 1) * [width, height, width, height]
        masks = every[tensors.MASKS][:, :1].repeat(count, 1)
        scores = np.linspace(0.99, 0.4, count, dtype=np.float32)[None]
        return {
            tensors.NUM_DETECTIONS: np.array([[count]]),
            tensors.BOXES: boxes[None].astype(np.float32),
            tensors.SCORES: scores,
            tensors.LABELS: (np.arange(count) % len(self.card.classes))[None],
            tensors.MASKS: masks,
        }


Open = Callable[..., Page]


def answer_to(page: Page, act: Callable[[], object]) -> Any:
    """Do something that sends an image; return the answer's JSON once it is drawn."""
    page.evaluate("parsed.length = 0; document.querySelector('#status').textContent = ''")
    act()
    expect(page.locator("#status")).to_contain_text("shown.")
    return page.evaluate("parsed.at(-1)")


def click_sample(page: Page) -> Any:
    return answer_to(page, lambda: page.click(SAMPLE))


def rows(page: Page) -> list[tuple[str, str, str]]:
    """Return (class, score, area) of the list of detections, as it is read aloud."""
    texts = [" ".join(text.split()) for text in page.locator("#list li").all_inner_texts()]
    found = [re.fullmatch(r"(.+) score ([\d.]+) ([\d,]+) px", text) for text in texts]
    return [(row[1], row[2], row[3].replace(",", "")) for row in found if row]


def expected_rows(answer: Any, threshold: float) -> list[tuple[str, str, str]]:
    return [
        (row["class"], f"{row['score']:.3f}", str(coco.area(row["mask"])))
        for row in answer["detections"]
        if row["score"] > threshold
    ]


def data_transfer(page: Page, name: str, content: bytes, media_type: str) -> Any:
    """Return what a drop or paste of a file carries."""
    return page.evaluate_handle(
        """([name, type, content]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
            if (name) transfer.items.add(new File([bytes], name, { type }));
            return transfer;
        }""",
        [name, media_type, base64.b64encode(content).decode()],
    )


def drop(page: Page, transfer: Any) -> None:
    for kind in ("dragenter", "dragover", "drop"):
        page.dispatch_event("#stage", kind, {"dataTransfer": transfer})


def paste(page: Page, transfer: Any) -> None:
    page.evaluate(
        "(clipboardData) => document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true }))",
        transfer,
    )


def canvas_pixels(page: Page) -> np.ndarray[Any, Any]:
    data = page.evaluate(
        "new Promise((then) => requestAnimationFrame(() => then(document.querySelector('#canvas').toDataURL())))"
    )
    return load_image(base64.b64decode(data.partition(",")[2]))


def choose(page: Page) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose an image").click()
    chooser.value.set_files(PHOTOGRAPH)


def point_at(page: Page, answer: Any, row: Any) -> None:
    """Move the pointer over a pixel deep in a mask."""
    distance = cv2.distanceTransform(coco.decode(row["mask"]), cv2.DIST_L2, 3)
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    page.locator("#canvas").scroll_into_view_if_needed()
    place = page.locator("#canvas").bounding_box()
    assert place
    size = answer["image"]
    scale = min(place["width"] / size["width"], place["height"] / size["height"])
    left = place["x"] + (place["width"] - size["width"] * scale) / 2
    page.mouse.move(left + (x + 0.5) * scale, place["y"] + (y + 0.5) * scale)
