"""Cost of shape buckets in padding and accuracy, and their gain in throughput: the demo model in a real tritonserver.

    python -m benchmarks.buckets [--images DIR] [--concurrency 8] [--seconds 15] [--rounds 3]

Needs the `dev` extra; the server is built from its wheel on the first run. Rounds alternate between the variants, so
that a machine's changing load falls on all of them; medians are printed. Answers are compared with the exact shape's.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from deploy.triton.home import build, install_project
from resnest_core import Detections, InProcessDetector, load_detector
from resnest_core.buckets import Buckets, bucket_size_hw
from resnest_core.card import NETWORK_SUFFIX, ModelCard
from resnest_core.images import load_image
from resnest_core.preprocess import prepare, resized_size_hw
from resnest_export.triton_repository.options import Serving
from tests.core.examples import DATA
from tests.triton.ensemble_requests import asking
from tests.triton.server import REPOSITORY, TritonServer, add_model

FULL = (1333, 800)  # the eight detectors' test scale
CONFIDENT = 0.3
VARIANTS = {
    "alone": Serving(max_batch=1),
    "exact": Serving(),
    "ratios": Serving(buckets=Buckets.RATIOS),
    "landscape-portrait": Serving(buckets=Buckets.LANDSCAPE_PORTRAIT),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=DATA / "demo" / "images")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    images = sorted(asked.images.glob("*.jpg"))
    console = Console(highlight=False)
    with load_detector("demo", repository=REPOSITORY) as detector:
        console.print(padding(images, detector.card))
        console.print(answers(images, detector))
    console.print(throughput([path.read_bytes() for path in images], asked.concurrency, asked.seconds, asked.rounds))


def padding(images: Sequence[Path], card: ModelCard) -> Table:
    """Count shapes and padded pixels, for the demo's scale and the full one."""
    table = Table("buckets", "scale", "shapes", "pixels, of exact", title=f"Padding, {len(images)} images")
    sizes = [load_image(path).shape[:2] for path in images]
    for scale in (card.test_scale, FULL):
        scaled = card.model_copy(update={"test_scale": scale})
        resized = [resized_size_hw((height, width), scaled) for height, width in sizes]
        exact = sum(height * width for height, width in padded(resized, scaled, Buckets.EXACT))
        for buckets in Buckets:
            shapes = padded(resized, scaled, buckets)
            share = sum(height * width for height, width in shapes) / exact
            table.add_row(buckets.value, "×".join(map(str, scale)), str(len(set(shapes))), f"{share:.3f}")
    return table


def padded(sizes_hw: Sequence[tuple[int, int]], card: ModelCard, buckets: Buckets) -> list[tuple[int, int]]:
    return [bucket_size_hw(size_hw, card, buckets) for size_hw in sizes_hw]


def answers(images: Sequence[Path], detector: InProcessDetector) -> Table:
    """Compare the answers of bucketed images with those of exact ones."""
    table = Table(
        "buckets", "moved images", "found again", "score, mean", "score, max", "box px, mean", "box px, max",
        title=f"Detections above {CONFIDENT} beside the exact shape's",
    )  # fmt: skip
    for buckets in Buckets:
        if buckets is Buckets.EXACT:
            continue
        moved, total, scores, boxes = 0, 0, [], []
        for path in images:
            pixels = load_image(path)
            exact, other = (prepare(pixels, detector.card, each) for each in (Buckets.EXACT, buckets))
            if exact.pixels.shape == other.pixels.shape:
                continue
            moved += 1
            # Lower for the other: what crosses the line is found, a little below it.
            [expected] = detector.infer([exact], [CONFIDENT], [False])
            [found] = detector.infer([other], [CONFIDENT / 2], [False])
            total += len(expected)
            for score, pixel in matches(found, expected):
                scores.append(score)
                boxes.append(pixel)
        row = [np.mean(scores), np.max(scores), np.mean(boxes), np.max(boxes)] if scores else []
        figures = [f"{value:.4f}" if place < 2 else f"{value:.2f}" for place, value in enumerate(row)]
        table.add_row(buckets.value, f"{moved} of {len(images)}", f"{len(scores)} of {total}", *figures)
    return table


def matches(found: Detections, expected: Detections) -> list[tuple[float, float]]:
    """Return the differences of score and of box (pixels) of each detection that is found again: label, IoU ≥ 0.5."""
    differences = []
    for index in range(len(expected)):
        box = expected.boxes_xyxy[index]
        overlaps = np.where(found.labels == expected.labels[index], iou(found.boxes_xyxy, box), 0)
        if overlaps.size and overlaps.max() >= 0.5:
            best = int(overlaps.argmax())
            score = abs(float(found.scores[best] - expected.scores[index]))
            differences.append((score, float(np.abs(found.boxes_xyxy[best] - box).max())))
    return differences


def iou(boxes_xyxy: NDArray[np.float32], box_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the IoU of boxes (N, 4) with one box (4,)."""
    low, high = np.maximum(boxes_xyxy[:, :2], box_xyxy[:2]), np.minimum(boxes_xyxy[:, 2:], box_xyxy[2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    areas = [(each[..., 2:] - each[..., :2]).prod(axis=-1) for each in (boxes_xyxy, box_xyxy)]
    return np.asarray(common / (areas[0] + areas[1] - common), np.float32)


def throughput(images: Sequence[bytes], concurrency: int, seconds: float, rounds: int) -> Table:
    """Ask each variant for as many images as it answers."""
    table = Table("variant", "images/s", "of alone", "mean batch", title=f"Throughput, {concurrency} in flight")
    rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
    sizes: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        home = build()
        project = install_project(home, folder / "project")
        for name, serving in VARIANTS.items():
            add_model(folder / "repository", REPOSITORY, "demo", name, serving)
        with TritonServer(home, project, folder / "repository", folder / "log").start() as server:
            for _, name in itertools.product(range(rounds), VARIANTS):
                rate, size = one_round(server, name, images, concurrency, seconds)
                rates[name].append(rate)
                sizes[name].append(size)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in medians.items():
        size = statistics.median(sizes[name])
        table.add_row(name, f"{rate:.2f}", f"{rate / medians['alone']:.2f}", f"{size:.2f}")
    return table


def one_round(
    server: TritonServer, model: str, images: Sequence[bytes], concurrency: int, seconds: float
) -> tuple[float, float]:
    """Return images per second, and the mean size of the network's batches."""
    with asking(server, "grpc") as client:
        before = client.batches(model + NETWORK_SUFFIX)
        start = time.perf_counter()

        def worker(offset: int) -> int:
            count = 0
            with asking(server, "grpc") as own:
                while time.perf_counter() - start < seconds:
                    own.detect(images[(offset + count) % len(images)], model, want_masks=False)
                    count += 1
            return count

        with ThreadPoolExecutor(concurrency) as pool:
            answered = sum(pool.map(worker, range(0, concurrency * 7, 7)))
        elapsed = time.perf_counter() - start
        ran = client.batches(model + NETWORK_SUFFIX) - before
    return answered / elapsed, answered / ran.total()


if __name__ == "__main__":
    main()
