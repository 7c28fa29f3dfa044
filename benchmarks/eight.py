"""One line per detector: CPU seconds per image in fp32, bf16 and int8, share of the peak, and detections found again.

    python -m benchmarks.eight --checkpoints DIR --image FILE --calibration DIR --repository DIR

`DIR/<name>.pth` are the checkpoints. Needs the `dev` extra. What isn't in the repository yet is exported into it first.
The precisions of a detector take turns in OpenVINO on the same image, with fp32 in ONNX Runtime beside them. The peak
is that of the precision, measured with products of large matrices; its share counts the multiplications of a plain
convolution: Winograd's algorithm needs fewer, so the share can exceed 1.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from pathlib import Path

from torch.utils.flop_counter import FlopCounterMode

from benchmarks.network import inputs_of, pytorch, take_turns
from benchmarks.precisions import export_all, found
from resnest_client.bench.profiling.peak import Peaks
from resnest_core.card import read_card
from resnest_core.runtimes import RUNTIMES
from resnest_export.check import agreement
from resnest_export.models import ZOO
from resnest_export.precision import Precision

HEAD = ("model", "GFLOP", "", "images/s", "CPU s per image", "min", "fp32 ÷ this", "of the peak", "found again")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[name for name in ZOO if name != "demo"])
    for folder in ("--checkpoints", "--image", "--calibration", "--repository"):
        parser.add_argument(folder, type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    peaks = Peaks("openvino", arguments.threads)
    peaks.measure(3)
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    for name in arguments.names:
        for row in rows(name, arguments, peaks):
            print("| " + " | ".join(row) + " |", flush=True)
    print("\nPeaks, GFLOP per CPU second:", {name: round(rate) for name, rate in peaks.gflop_per_cpu_second.items()})


def rows(name: str, arguments: argparse.Namespace, peaks: Peaks) -> list[tuple[str, ...]]:
    checkpoint, threads = arguments.checkpoints / f"{name}.pth", arguments.threads
    files = export_all(name, checkpoint, arguments.calibration, arguments.repository)
    card = read_card(files[Precision.FP32])
    inputs = inputs_of(arguments.image, card)
    with FlopCounterMode(display=False) as counter:
        pytorch(name, checkpoint, threads, inputs, card)()
    gflop = counter.get_total_flops() / 1e9
    ways = [*((precision, "openvino") for precision in files), (Precision.FP32, "onnxruntime")]
    networks = {way: RUNTIMES[way[1]].load(files[way[0]], threads=threads) for way in ways}
    subjects = {", ".join(way): partial(network.run, inputs) for way, network in networks.items()}
    cpu, wall = take_turns(subjects, arguments.runs)
    peaks.measure(1)
    first, *_ = subjects
    reference = found(networks[ways[0]], inputs)
    table = []
    for (precision, _), (way, times), network in zip(ways, cpu.items(), networks.values(), strict=True):
        seconds = statistics.median(times)
        figures = agreement(reference, found(network, inputs), card, pixels=8, score=0.05)
        figures_of_row = (
            1 / min(wall[way]),
            seconds,
            min(times),
            statistics.median(a / b for a, b in zip(cpu[first], times, strict=True)),
            gflop / seconds / peaks.gflop_per_cpu_second[precision],
        )
        again = f"{figures.found:.2f} of {figures.count}"
        table.append((f"`{name}`", f"{gflop:.0f}", way, *(f"{value:.2f}" for value in figures_of_row), again))
    return table


if __name__ == "__main__":
    main()
