"""CPU seconds per image and peak memory of an exported detector, beside PyTorch eager, in one run.

    python benchmarks/network.py mask_rcnn_s50 --checkpoint FILE --image FILE [--repository DIR]

Needs the `export` extra. PyTorch and each runtime take turns on the same image with the same number of threads, so that
a machine whose speed drifts slows all of them alike: compare the ratios. A boxes-only run (`want_masks` false) shows
what the mask head costs. Peak memory is that of a process which loads the file in one runtime and answers the image,
nothing else. The detector is exported into a temporary folder first, unless it is in the repository given.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from resnest_core import tensors
from resnest_core.card import ModelCard
from resnest_core.images import load_image
from resnest_core.preprocess import prepare, stack
from resnest_core.repository import network_path
from resnest_core.runtimes import RUNTIMES, runtimes_on
from resnest_core.tensors import Tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--repository", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.repository:
        report(arguments, network_path(arguments.repository, arguments.name))
    else:
        from resnest_export.pipeline import export_detector
        from resnest_export.request import ExportRequest

        with tempfile.TemporaryDirectory() as folder:
            request = ExportRequest(arguments.name, arguments.checkpoint, Path(folder))
            report(arguments, export_detector(request))


def report(arguments: argparse.Namespace, path: Path) -> None:
    """Print the tables of the ONNX file at `path`."""
    image, threads = arguments.image, arguments.threads
    # Before this process grows: a child may be charged with the memory of the process that it left.
    peaks = {name: peak_memory(name, path, image, threads) for name in runtimes_on("cpu")}
    runtimes = {name: kind.load(path, threads=threads) for name, kind in runtimes_on("cpu").items()}
    card = runtimes["onnxruntime"].card
    inputs = inputs_of(image, card)

    subjects: dict[str, Callable[[], object]] = {
        "PyTorch eager": pytorch(arguments.name, arguments.checkpoint, threads, inputs, card)
    }
    for name, runtime in runtimes.items():
        subjects[name] = partial(runtime.run, inputs)
        if card.has_masks:
            boxes_only = dict(inputs) | {tensors.WANT_MASKS: np.zeros((1, 1), bool)}
            subjects[f"{name}, boxes only"] = partial(runtime.run, boxes_only)
    cpu, wall = take_turns(subjects, arguments.runs)

    height, width = inputs[tensors.IMAGES].shape[1:3]
    found = int(runtimes["onnxruntime"].run(inputs)[tensors.NUM_DETECTIONS][0, 0])
    title = f"{card.name}, {width}×{height}, {found} detections, {threads} threads, {arguments.runs} runs"
    table = Table("", "CPU s per image", "min", "max", "of PyTorch", "s per image", "peak memory, GiB", title=title)
    for name, values in cpu.items():
        ratio = statistics.median(a / b for a, b in zip(values, cpu["PyTorch eager"], strict=True))
        row = (statistics.median(values), min(values), max(values), ratio, statistics.median(wall[name]))
        peak = f"{peaks[name]:.2f}" if name in peaks else ""
        table.add_row(name, *(f"{value:.2f}" for value in row), peak)
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)


def inputs_of(image: Path, card: ModelCard) -> Tensors:
    """Return the network's tensors of one image at the detector's test scale."""
    return stack([prepare(load_image(image), card)]) | {
        tensors.SCORE_THRESHOLDS: np.zeros((1, 1), np.float32),
        tensors.WANT_MASKS: np.ones((1, 1), bool),
    }


def take_turns(
    subjects: Mapping[str, Callable[[], object]], runs: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Run each subject once a turn, and return the CPU and wall seconds of each run by subject."""
    cpu: dict[str, list[float]] = {name: [] for name in subjects}
    wall: dict[str, list[float]] = {name: [] for name in subjects}
    for run in range(runs + 1):  # the first warms up
        for name, subject in subjects.items():
            start, start_wall = time.process_time(), time.monotonic()
            subject()
            if run:
                cpu[name].append(time.process_time() - start)
                wall[name].append(time.monotonic() - start_wall)
    return cpu, wall


def pytorch(name: str, checkpoint: Path, threads: int, inputs: Tensors, card: ModelCard) -> Callable[[], object]:
    """Return a run of the network as somebody would run it in PyTorch, batch norms and all."""
    import torch

    from resnest_export.checkpoint import import_weights, load_checkpoint
    from resnest_export.configured import find_config
    from resnest_export.deployed_detector import DeployedDetector
    from resnest_export.models import build

    torch.set_num_threads(threads)
    detector = build(find_config(name))
    import_weights(detector, load_checkpoint(checkpoint).state_dict)
    network = DeployedDetector(detector, card)
    arrays = [torch.from_numpy(inputs[name]) for name in tensors.input_names(card.has_masks)]

    def run() -> None:
        with torch.inference_mode():
            network(*arrays)

    return run


def peak_memory(runtime: str, path: Path, image: Path, threads: int) -> float:
    """Return the peak memory in GiB of a new process that answers the image three times."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_peak_memory_here, runtime, path, image, threads).result()


def _peak_memory_here(runtime: str, path: Path, image: Path, threads: int) -> float:
    with RUNTIMES[runtime].load(path, threads=threads) as network:
        for _ in range(3):
            network.run(inputs_of(image, network.card))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
