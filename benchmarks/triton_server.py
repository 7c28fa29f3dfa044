"""Throughput of the demo's ensemble in Triton, called directly by gRPC and through the gateway.

    python -m benchmarks.triton_server

Starts a tritonserver (`deploy/triton`) and a gateway in front of it, on free ports of loopback. The ways take turns,
round by round: compare the ratios. Needs the `dev` extra.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from deploy.triton.home import build, install_project
from resnest_client import AsyncGrpcDetector
from tests.server.test_serve import PHOTOGRAPH, serving
from tests.triton.server import REPOSITORY, TritonServer

BODY = PHOTOGRAPH.read_bytes()
BASE = "gRPC, 1 in flight"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    home = build()
    with tempfile.TemporaryDirectory() as folder:
        project = install_project(home, Path(folder) / "project")
        with TritonServer(home, project, REPOSITORY, Path(folder) / "log").start() as triton:
            options = ("--runtime", "triton", "--triton-url", triton.grpc)
            with serving(*options, RESNEST_LOG_LEVEL="error") as (url, _):
                rates = asyncio.run(measure(f"grpc://{triton.grpc}", url, arguments.images, arguments.rounds))
    table = Table("way", "images/s", "of gRPC with as many in flight", "of one in flight")
    for name, values in rates.items():
        same = rates[name.replace("gateway", "gRPC")]
        ratios = [statistics.median(a / b for a, b in zip(values, other, strict=True)) for other in (same, rates[BASE])]
        table.add_row(name, f"{statistics.median(values):.2f}", *(f"{ratio:.3f}" for ratio in ratios))
    Console().print(table)


async def measure(grpc_url: str, http_url: str, images: int, rounds: int) -> dict[str, list[float]]:
    """Return images per second of each round, by way."""
    rates: dict[str, list[float]] = {}
    async with (
        AsyncGrpcDetector(grpc_url, "demo", max_concurrency=16) as detector,
        httpx.AsyncClient(base_url=http_url, timeout=120, trust_env=False) as client,
    ):

        async def by_grpc() -> None:
            await detector.detect(BODY)

        async def by_gateway() -> None:
            (await client.post("/v1/models/demo/detect", content=BODY)).raise_for_status()

        for number in range(rounds + 1):  # the first warms up
            for in_flight in (1, 8):
                for name, ask in (("gRPC", by_grpc), ("gateway", by_gateway)):
                    start = time.perf_counter()
                    await load(ask, images, in_flight)
                    if number:
                        rate = images / (time.perf_counter() - start)
                        rates.setdefault(f"{name}, {in_flight} in flight", []).append(rate)
    return rates


async def load(ask: Callable[[], Awaitable[None]], images: int, in_flight: int) -> None:
    """Ask for so many images, so many at a time."""

    async def worker(count: int) -> None:
        for _ in range(count):
            await ask()

    await asyncio.gather(*(worker(images // in_flight) for _ in range(in_flight)))


if __name__ == "__main__":
    main()
