"""Images per second of a served model beside its runtime called in a loop; `benchmarks.layouts` compares layouts.

    python -m benchmarks.serving
    python -m benchmarks.serving --model mask_rcnn_s50 --repository model_repository --requests 24

The gateway runs in a process of its own, with several combinations of instances, threads and batch size; the
loop runs in this process with the same threads and batch size. They take turns, round by round: compare the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from resnest_core import load_detector
from resnest_core.detector import InProcessDetector
from resnest_core.images import load_image
from resnest_core.preprocess import PreparedImage, prepare
from resnest_core.runtimes import preferred_runtime
from tests.server.test_serve import PHOTOGRAPH, ROOT, serving


@dataclass(frozen=True)
class Layout:
    """How a model is run: batches at a time, threads of each, images together."""

    instances: int
    threads: int
    batch: int

    def __str__(self) -> str:
        return f"{self.instances} × {self.threads} threads, batch {self.batch}"

    @property
    def variables(self) -> dict[str, str]:
        """Settings of a gateway that runs so, and that a benchmark doesn't time out."""
        return {
            "RESNEST_INSTANCES": str(self.instances),
            "RESNEST_THREADS": str(self.threads),
            "RESNEST_MAX_BATCH": str(self.batch),
            "RESNEST_LOG_LEVEL": "error",
            "RESNEST_REQUEST_SECONDS": "600",
        }


def model_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options for what is served: model, repository, image, runtime."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--image", type=Path, default=PHOTOGRAPH)
    parser.add_argument("--runtime", default=preferred_runtime("cpu").name)
    return parser


def model_options(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return `resnest serve`'s options for what `model_parser` parsed."""
    return "--model", arguments.model, "--repository", str(arguments.repository), "--runtime", arguments.runtime


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=64, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    halves = [Layout(2, arguments.cores // 2, 1)] if arguments.cores > 1 else []
    layouts = [Layout(1, arguments.cores, batch) for batch in (1, 2, 4)] + halves
    table = Table("layout", "served images/s", "loop images/s", "served ÷ loop", title=arguments.model)
    for layout in layouts:
        served, looped = compare(layout, arguments)
        ratio = statistics.median(a / b for a, b in zip(served, looped, strict=True))
        rates = (statistics.median(served), statistics.median(looped))
        table.add_row(str(layout), *(f"{rate:.2f}" for rate in rates), f"{ratio:.2f}")
    Console().print(table)


def compare(layout: Layout, arguments: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Return images per second of each round: served, and of the loop."""
    body = arguments.image.read_bytes()
    served, looped = [], []
    detector = load_detector(
        arguments.model,
        runtime=arguments.runtime,
        threads=layout.threads,
        instances=layout.instances,
        repository=arguments.repository,
    )
    image = prepare(load_image(arguments.image), detector.card)
    options = model_options(arguments)
    share = arguments.requests // (layout.batch * layout.instances)
    with serving(*options, log=None, **layout.variables) as (url, _), ThreadPoolExecutor(layout.instances) as pool:
        for number in range(arguments.rounds + 1):  # the first warms up
            start = time.perf_counter()
            asyncio.run(load(url, body, arguments.clients, arguments.requests))
            middle = time.perf_counter()
            list(pool.map(partial(loop, image=image, batch=layout.batch, runs=share), [detector] * layout.instances))
            end = time.perf_counter()
            if number:
                served.append(arguments.requests / (middle - start))
                looped.append(share * layout.batch * layout.instances / (end - middle))
    detector.close()
    return served, looped


def loop(detector: InProcessDetector, image: PreparedImage, batch: int, runs: int) -> None:
    for _ in range(runs):
        detector.infer([image] * batch, [0.05] * batch, [True] * batch)


async def load(url: str, body: bytes, clients: int, requests: int) -> None:
    """Send requests from several clients, each one after the other."""

    async def client(session: httpx.AsyncClient, count: int) -> None:
        for _ in range(count):
            (await session.post("/v1/detect", content=body)).raise_for_status()

    # One session, without certificates to read: making one takes as long as a small network.
    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False, verify=False) as session:
        await asyncio.gather(*(client(session, requests // clients) for _ in range(clients)))


if __name__ == "__main__":
    main()
