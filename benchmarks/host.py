"""CPU time of pre- and postprocessing in milliseconds: image bytes to input tensor, detections to an answer.

    python -m benchmarks.host

Needs the `dev` extra. One thread; medians of CPU time. Photographs and detections are the tests' own: mmdetection's for
`mask_rcnn_s50` with weights that were never trained, whose masks are rougher than any trained detector's, and for the
trained demo model.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before numpy

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
from rich.console import Console
from rich.table import Table

from resnest_core.detections import Detections
from resnest_core.drawing import draw, encode
from resnest_core.formats import native
from resnest_core.images import Pixels, decode_image, load_image
from resnest_core.masks import MASK_FORMS, MaskForm
from resnest_core.preprocess import prepare, stack
from resnest_core.runtimes.fake import FAKE_CARD
from resnest_core.threads import work_in_callers_thread
from tests.core.examples import DATA, golden

PHOTOGRAPH = DATA / "parity" / "images" / "000000311303.jpg"
GOLDENS = {
    "mask_rcnn_s50": "parity/golden/mask_rcnn_s50/000000311303",
    "mask_rcnn_s50, large": "parity/golden/mask_rcnn_s50/311303_large",
    "demo": "demo/golden/000000000544",
    "demo, large": "demo/golden/311303_large",
}
TARGETS = {"JPEG to input tensor": "4", "masks as rle": "8"}  # ms; of 640×480, of 100 masks in a photograph like it
CARD = FAKE_CARD.model_copy(update={"test_scale": (1333, 800), "classes": tuple(f"class {i}" for i in range(80))})

Step = tuple[str, Callable[[], Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=51)
    runs = parser.parse_args().runs
    work_in_callers_thread()

    table = Table("step", "median ms", "min ms", "at most ms", title="CPU time, one thread")
    sections = [("a photograph of 640×480", input_steps())]
    for model, name in GOLDENS.items():
        path = DATA / f"{name}.npz"
        [photograph] = DATA.glob(f"*/images/{path.stem}.jpg")
        found, pixels = golden(path), load_image(photograph)
        height, width = found.image_size_hw
        sections.append((f"{model}: {len(found)} detections in {width}×{height}", answer_steps(found, pixels)))
    for title, steps in sections:
        table.add_section()
        table.add_row(f"[bold]{title}")
        for name, step in steps:
            times = measure(step, runs)
            table.add_row(name, f"{statistics.median(times):.2f}", f"{min(times):.2f}", TARGETS.get(name, ""))
    Console().print(table)


def input_steps() -> list[Step]:
    """Return the steps from bytes to the network's input."""
    data = encode(cv2.resize(load_image(PHOTOGRAPH), (640, 480)).astype("uint8"), "image/jpeg")
    pixels = decode_image(data)
    return [
        ("JPEG to input tensor", lambda: stack([prepare(decode_image(data), CARD)])),
        ("decoding", lambda: decode_image(data)),
        ("resizing and padding", lambda: prepare(pixels, CARD)),
    ]


def answer_steps(found: Detections, pixels: Pixels) -> list[Step]:
    """Return the steps from detections to what is answered."""
    answer, drawn = native(found, CARD), draw(pixels, found, CARD)
    return [
        *((f"masks as {name}", partial(all_masks, form, found)) for name, form in MASK_FORMS.items()),
        ("native answer with RLE", lambda: native(found, CARD)),
        ("its JSON", lambda: json.dumps(answer)),
        ("drawing", lambda: draw(pixels, found, CARD)),
        ("drawing to JPEG", lambda: encode(drawn, "image/jpeg")),
        ("drawing to PNG", lambda: encode(drawn, "image/png")),
    ]


def all_masks(form: MaskForm, found: Detections) -> list[Any]:
    assert found.masks is not None
    pairs = zip(found.masks, found.boxes_xyxy, strict=True)
    return [form(mask, box_xyxy, found.image_size_hw) for mask, box_xyxy in pairs]


def measure(step: Callable[[], Any], runs: int) -> list[float]:
    """Return the milliseconds of CPU time of each run, after one that warms up."""
    times = []
    for _ in range(runs + 1):
        start = time.process_time()
        step()
        times.append((time.process_time() - start) * 1000)
    return times[1:]


if __name__ == "__main__":
    main()
