"""Preprocessing in Triton, 8 requests in flight: one image per call against batches, by number of processes.

    python -m benchmarks.triton_preprocess

Starts a tritonserver (`deploy/triton`) with the demo's preprocessing in several configurations, and calls it directly,
without the network. The configurations take turns, round by round: compare the ratios. Needs the `dev` extra.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tritonclient.grpc
from google.protobuf import text_format
from rich.console import Console
from rich.table import Table

from deploy.triton.home import build, install_project
from resnest_core.card import read_card
from resnest_core.repository import network_path
from resnest_export.triton_repository.model_configs import MADE_BY, preprocess
from resnest_export.triton_repository.options import Serving
from tests.triton.server import REPOSITORY, TritonServer

PHOTOGRAPHS = [path.read_bytes() for path in sorted(Path("tests/data/demo/images").glob("*.jpg"))]
IN_FLIGHT = 8
Configuration = tuple[int, int]
"""Largest batch, and processes."""
CONFIGURATIONS: tuple[Configuration, ...] = ((8, 2), (1, 2), (8, 4), (1, 4), (1, 8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="of a round")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    home = build()
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        names = {each: write(repository, *each) for each in CONFIGURATIONS}
        project = install_project(home, Path(folder) / "project")
        with TritonServer(home, project, repository, Path(folder) / "log").start() as triton:
            rates, latencies = measure(triton, names, arguments.images, arguments.rounds)
    first = CONFIGURATIONS[0]
    table = Table("images per call", "processes", "images/s", "÷ first", "p50 ms", "p95 ms")
    for (batch, processes), values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(values, rates[first], strict=True))
        p50, p95 = np.percentile(latencies[batch, processes], (50, 95)) * 1000
        up_to = f"up to {batch}" if batch > 1 else "1"
        table.add_row(
            up_to, str(processes), f"{statistics.median(values):.0f}", f"{ratio:.2f}", f"{p50:.1f}", f"{p95:.1f}"
        )
    Console().print(table)


def write(repository: Path, max_batch: int, processes: int) -> str:
    """Write a preprocessing model, and return its name."""
    name = f"batch_{max_batch}_of_{processes}"
    card = read_card(network_path(REPOSITORY, "demo"))
    config = preprocess(card, Serving(preprocess_instances=processes))
    config.name, config.max_batch_size = name, max_batch
    if max_batch > 1:
        config.dynamic_batching.preferred_batch_size.extend((max_batch // 2, max_batch))
    (repository / name).mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(MADE_BY + text_format.MessageToString(config))
    shutil.copytree(REPOSITORY / "demo_preprocess" / "1", repository / name / "1")
    return name


def measure(
    triton: TritonServer, names: dict[Configuration, str], images: int, rounds: int
) -> tuple[dict[Configuration, list[float]], dict[Configuration, list[float]]]:
    """Return images per second of each round, and seconds of each request, by configuration."""
    rates: dict[Configuration, list[float]] = {each: [] for each in names}
    latencies: dict[Configuration, list[float]] = {each: [] for each in names}
    with (
        tritonclient.grpc.InferenceServerClient(triton.grpc) as client,
        ThreadPoolExecutor(IN_FLIGHT) as pool,
    ):

        def ask(model: str, index: int) -> float:
            image = tritonclient.grpc.InferInput("image", (1, 1), "BYTES")
            image.set_data_from_numpy(np.array([[PHOTOGRAPHS[index % len(PHOTOGRAPHS)]]], np.object_))
            output = tritonclient.grpc.InferRequestedOutput("image_sizes")  # the pixels would cost more than decoding
            begin = time.perf_counter()
            client.infer(model, [image], outputs=[output])
            return time.perf_counter() - begin

        for number in range(rounds + 1):  # the first warms up
            for configuration, name in names.items():
                begin = time.perf_counter()
                seconds = list(pool.map(ask, [name] * images, range(images)))
                if number:
                    rates[configuration].append(images / (time.perf_counter() - begin))
                    latencies[configuration].extend(seconds)
    return rates, latencies


if __name__ == "__main__":
    main()
