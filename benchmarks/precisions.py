"""CPU seconds per image of PyTorch, a plain export and ours, in both runtimes and every precision, in one run.

    python -m benchmarks.precisions mask_rcnn_s50 --checkpoint FILE --image FILE --calibration DIR --repository DIR

Needs the `dev` extra. What isn't in the repository yet is exported into it first. All take turns on the same image with
the same threads: compare the ratios. A product of two large matrices takes a turn too: its rate is the machine's peak.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.network import inputs_of, pytorch, take_turns
from benchmarks.plain_export import build_plain
from resnest_core import tensors
from resnest_core.card import ModelCard, read_card
from resnest_core.detections import Detections
from resnest_core.detector import unpack
from resnest_core.repository import network_path
from resnest_core.runtimes import RUNTIMES, Runtime
from resnest_core.tensors import Tensors
from resnest_export.check import agreement
from resnest_export.checkpoint import import_weights, load_checkpoint
from resnest_export.configured import find_config
from resnest_export.pipeline import export_detector
from resnest_export.precision import Precision, model_name
from resnest_export.request import ExportRequest
from resnest_export.to_onnx import export_onnx

SIDE = 2048  # of the matrices

EAGER, PEAK = "PyTorch eager", "matrix product"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    name, checkpoint, threads = arguments.name, arguments.checkpoint, arguments.threads

    ours = export_all(name, checkpoint, arguments.calibration, arguments.repository)
    card = read_card(ours[Precision.FP32])
    plain = arguments.repository / "plain" / f"{name}.onnx"
    if not plain.is_file():
        export_plain(name, checkpoint, card, plain)
    inputs = inputs_of(arguments.image, card)
    networks = {
        f"{what}, {runtime}": RUNTIMES[runtime].load(path, threads=threads)
        for what, path, runtime in (
            ("plain export", plain, "onnxruntime"),
            ("plain export", plain, "openvino"),
            ("fp32", ours[Precision.FP32], "onnxruntime"),
            ("fp32", ours[Precision.FP32], "openvino"),
            ("bf16", ours[Precision.BF16], "openvino"),
            ("int8", ours[Precision.INT8], "onnxruntime"),
            ("int8", ours[Precision.INT8], "openvino"),
        )
    }
    eager = pytorch(name, checkpoint, threads, inputs, card)
    matrix = torch.rand(SIDE, SIDE)
    subjects: dict[str, Callable[[], object]] = {
        PEAK: lambda: matrix @ matrix,
        EAGER: eager,
        **{what: partial(network.run, inputs) for what, network in networks.items()},
    }
    cpu, _ = take_turns(subjects, arguments.runs)
    with FlopCounterMode(display=False) as counter:
        eager()
    show(cpu, counter.get_total_flops() / 1e9, networks, inputs, card)


def export_all(name: str, checkpoint: Path, calibration: Path, repository: Path) -> dict[Precision, Path]:
    """Return the detector's file in each precision, exported unless it is there."""
    files = {}
    for precision in (Precision.FP32, Precision.BF16, Precision.INT8):
        path = network_path(repository, model_name(name, precision))
        if not path.is_file():
            photographs = calibration if precision is Precision.INT8 else None
            export_detector(ExportRequest(name, checkpoint, repository, precision=precision, calibration=photographs))
        files[precision] = path
    return files


def export_plain(name: str, checkpoint: Path, card: ModelCard, path: Path) -> None:
    """Export the detector as one would without thinking of speed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    detector = build_plain(find_config(name))
    import_weights(detector, load_checkpoint(checkpoint).state_dict, name)
    export_onnx(detector, card, path, winograd=False)


def show(
    cpu: dict[str, list[float]], gflop: float, networks: dict[str, Runtime], inputs: Tensors, card: ModelCard
) -> None:
    def ratio(one: str, other: str) -> str:
        return f"{statistics.median(a / b for a, b in zip(cpu[one], cpu[other], strict=True)):.2f}"

    peak = 2 * SIDE**3 / 1e9 / min(cpu[PEAK])
    height, width = inputs[tensors.IMAGES].shape[1:3]
    title = f"{card.name}, {width}×{height}, {gflop:.0f} GFLOP, peak {peak:.0f} GFLOP per CPU second in fp32"
    columns = ("CPU s", "min", "max", "eager ÷ this", "plain, same runtime ÷ this", "plain ONNX Runtime ÷ this")
    table = Table("", *columns, "our fp32 ÷ this", "of the peak", "found again, of fp32", title=title)
    reference = found(networks["fp32, onnxruntime"], inputs)
    for name, values in cpu.items():
        if name == PEAK:
            continue
        runtime = name.rpartition(", ")[2]
        row = [f"{value:.2f}" for value in (statistics.median(values), min(values), max(values))]
        row.append(ratio(EAGER, name))
        if name == EAGER:
            row += ["", "", ""]
        else:
            row += [ratio(f"plain export, {runtime}", name), ratio("plain export, onnxruntime", name)]
            row.append(ratio("fp32, openvino", name))
        row.append(f"{gflop / statistics.median(values) / peak:.2f}")
        if name in networks:
            figures = agreement(reference, found(networks[name], inputs), card, pixels=8, score=0.05)
            row.append(f"{figures.found:.2f} of {figures.count}")
        table.add_row(name, *row)
    console = Console()
    console.width = max(console.width, 170)
    console.print(table)


def found(network: Runtime, inputs: Tensors) -> Detections:
    """Return what a network finds."""
    height, width = np.asarray(inputs[tensors.ORIGINAL_SIZES])[0].tolist()
    return unpack(network.run(inputs), 0, (height, width), True)


if __name__ == "__main__":
    main()
