"""CPU seconds per image of an exported detector, beside PyTorch eager, in one run.

    python benchmarks/network.py mask_rcnn_s50 --checkpoint FILE --image FILE

Needs the `export` extra. PyTorch and each runtime take turns on the same image with the same number of threads, so that
a machine whose speed drifts slows all of them alike: compare the ratios. A boxes-only run (`want_masks` false) shows
what the mask head costs. The detector is exported into a temporary folder first.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from resnest_core import tensors
from resnest_core.images import load_image
from resnest_core.preprocess import prepare, stack
from resnest_core.runtimes import RUNTIMES
from resnest_export.checkpoint import import_weights, load_checkpoint
from resnest_export.deployed import DeployedDetector
from resnest_export.models import build
from resnest_export.pipeline import export_detector, find_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = export_detector(arguments.name, arguments.checkpoint, Path(folder))
        runtimes = {name: kind.load(path, threads=arguments.threads) for name, kind in RUNTIMES.items()}
    card = runtimes["onnxruntime"].card
    image = prepare(load_image(arguments.image), card)
    inputs = stack([image]) | {
        tensors.SCORE_THRESHOLDS: np.zeros((1, 1), np.float32),
        tensors.WANT_MASKS: np.ones((1, 1), bool),
    }
    network = _pytorch(arguments.name, arguments.checkpoint)
    arrays = [torch.from_numpy(inputs[name]) for name in tensors.input_names(card.has_masks)]

    subjects: dict[str, Callable[[], object]] = {"PyTorch eager": partial(network, *arrays)}
    for name, runtime in runtimes.items():
        subjects[name] = partial(runtime.run, inputs)
        if card.has_masks:
            boxes_only = inputs | {tensors.WANT_MASKS: np.zeros((1, 1), bool)}
            subjects[f"{name}, boxes only"] = partial(runtime.run, boxes_only)

    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    with torch.inference_mode():
        for run in range(arguments.runs + 1):  # the first warms up
            for name, subject in subjects.items():
                start = time.process_time()
                subject()
                if run:
                    seconds[name].append(time.process_time() - start)

    height, width = image.pixels.shape[:2]
    table = Table("", "CPU s per image", "min", "max", "of PyTorch", title=f"{card.name}, {width}×{height}")
    eager = seconds["PyTorch eager"]
    for name, values in seconds.items():
        ratio = statistics.median(value / base for value, base in zip(values, eager, strict=True))
        row = (statistics.median(values), min(values), max(values), ratio)
        table.add_row(name, *(f"{value:.2f}" for value in row))
    Console().print(table)
    print(f"peak memory of all together: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def _pytorch(name: str, checkpoint: Path) -> DeployedDetector:
    """Return the network as somebody would run it in PyTorch, batch norms and all."""
    detector = build(find_config(name))
    import_weights(detector, load_checkpoint(checkpoint).state_dict)
    return DeployedDetector(detector)


if __name__ == "__main__":
    main()
