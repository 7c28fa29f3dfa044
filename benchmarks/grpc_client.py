"""The gRPC clients against a Triton: images per second over concurrency, and with shared memory instead of messages.

    python -m benchmarks.grpc_client DIR [--url grpc://localhost:8001] [--model demo] [--images 200] [--rounds 5]

Needs the `dev` extra, and a Triton on this machine: its CPU time is read, and memory shared with it. All ways take
turns in each round; a way's figures are its medians, CPU time is that of client and server. Below them stand ratios of
two ways of one round: their median, the least and the greatest.

"messages" is `AsyncGrpcDetector`, "waiting" `GrpcDetector.detect_many`, "shared memory" tritonclient's requests and
answers in system shared memory: a region for each request in flight, made once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, serialize_byte_tensor, shared_memory

from resnest_client import AsyncGrpcDetector, GrpcDetector
from resnest_client.client_limits import GRPC_MAX_CONCURRENCY as MAX_CONCURRENCY
from resnest_core import tensors, triton_ensemble
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import unpack
from resnest_core.grpc_address import URL, grpc_address

SHAPES: dict[str, Callable[[int, int], tuple[type[Any], tuple[int, ...]]]] = {
    tensors.NUM_DETECTIONS: lambda _rows, _side: (np.int64, (1, 1)),
    tensors.BOXES: lambda rows, _side: (np.float32, (1, rows, 4)),
    tensors.SCORES: lambda rows, _side: (np.float32, (1, rows)),
    tensors.LABELS: lambda rows, _side: (np.int64, (1, rows)),
    tensors.MASKS: lambda rows, side: (np.float16, (1, rows, side, side)),
    tensors.ORIGINAL_SIZES: lambda _rows, _side: (np.int64, (1, 2)),
}

Way = Callable[[list[bytes]], int]
"""Detects in each image, and returns how many objects there are in all."""


class Figures(NamedTuple):
    """Of one run; CPU time in milliseconds an image."""

    images_per_second: float
    client: float
    server: float

    @property
    def cpu(self) -> float:
        return self.client + self.server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of JPEGs")
    parser.add_argument("--url", default=URL)
    parser.add_argument("--model")
    parser.add_argument("--images", type=int, default=200, help="in a run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], help="beside the usual one")
    parser.add_argument("--only-messages", action="store_true", help="leave out the other ways")
    asked = parser.parse_args()
    images = list(islice(cycle(path.read_bytes() for path in sorted(asked.folder.glob("*.jpg"))), asked.images))
    ways: dict[str, Way] = {
        f"messages, {n}": partial(messages, asked.url, asked.model, n)
        for n in sorted({*asked.concurrency, MAX_CONCURRENCY})
    }
    if not asked.only_messages:
        ways[f"waiting, {MAX_CONCURRENCY}"] = partial(waiting, asked.url, asked.model, MAX_CONCURRENCY)
        ways[f"shared memory, {MAX_CONCURRENCY}"] = partial(shared, asked.url, asked.model, MAX_CONCURRENCY)
    show(measure(ways, images, asked.rounds, server(asked.url)), len(images))


def server(url: str) -> list[psutil.Process]:
    """Return the processes of the Triton on this machine that listens there."""
    port = int(grpc_address(url).rpartition(":")[2])
    listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    [pid] = {one.pid for one in listening if getattr(one.laddr, "port", None) == port}
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def measure(
    ways: dict[str, Way], images: list[bytes], rounds: int, processes: list[psutil.Process]
) -> dict[str, list[Figures]]:
    """Return each way's figures in each round."""
    figures: dict[str, list[Figures]] = {name: [] for name in ways}
    for way in ways.values():
        way(images[:8])
    found = set()
    for turn in range(rounds):
        names = list(ways)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start, cpu, ours = time.perf_counter(), seconds(processes), time.process_time()
            found.add(ways[name](images))
            client = time.process_time() - ours
            rate = len(images) / (time.perf_counter() - start)
            figures[name].append(
                Figures(rate, 1000 * client / len(images), 1000 * (seconds(processes) - cpu) / len(images))
            )
    assert len(found) == 1, f"the ways found different numbers of objects: {found}"
    return figures


def seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time of processes until now."""
    return sum(used.user + used.system for used in (process.cpu_times() for process in processes))


def show(figures: dict[str, list[Figures]], images: int) -> None:
    console = Console()
    titles = ("way, in flight", "images/s", "client's CPU ms an image", "server's CPU ms an image")
    table = Table(*titles, title=f"{images} images a run")
    for name, rounds in figures.items():
        table.add_row(name, *(f"{statistics.median(values):.2f}" for values in zip(*rounds, strict=True)))
    console.print(table)
    usual = f"messages, {MAX_CONCURRENCY}"
    best = max(
        (name for name in figures if name.startswith("messages")),
        key=lambda name: statistics.median(one.images_per_second for one in figures[name]),
    )
    pairs = [(usual, best), *((name, usual) for name in figures if not name.startswith("messages"))]
    for name, other in pairs:
        both = list(zip(figures[name], figures[other], strict=True))
        rates = sorted(one.images_per_second / two.images_per_second for one, two in both)
        times = sorted(one.cpu / two.cpu for one, two in both)
        said = [
            f"{what} {statistics.median(ratios):.3f} ({ratios[0]:.3f}…{ratios[-1]:.3f})"
            for what, ratios in (("images/s", rates), ("CPU time", times))
        ]
        console.print(f"{name} ÷ {other}: {', '.join(said)}", highlight=False)


def messages(url: str, model: str | None, concurrency: int, images: list[bytes]) -> int:
    async def run() -> int:
        async with AsyncGrpcDetector(url, model, max_concurrency=concurrency) as detector:
            return sum([len(found) async for found in detector.detect_many(images)])

    return asyncio.run(run())


def waiting(url: str, model: str | None, concurrency: int, images: list[bytes]) -> int:
    with GrpcDetector(url, model, max_concurrency=concurrency) as detector:
        return sum(len(found) for found in detector.detect_many(images))


def shared(url: str, model: str | None, concurrency: int, images: list[bytes]) -> int:
    """As many workers as requests in flight, each with a region of its own."""

    async def run() -> int:
        async with AsyncGrpcDetector(url, model) as detector:
            card = detector.card
        left = iter(images)
        async with InferenceServerClient(grpc_address(url), channel_args=triton_ensemble.CHANNEL_OPTIONS) as client:

            async def work(number: int) -> int:
                with Region(f"resnest_bench_{os.getpid()}_{number}", max(map(len, images)), card).made() as region:
                    await client.register_system_shared_memory(region.name, region.name, region.size)
                    try:
                        return sum([len(await region.detect(client, data)) for data in left])
                    finally:
                        await let_go(client, region.name)

            return sum(await asyncio.gather(*map(work, range(concurrency))))

    return asyncio.run(run())


async def let_go(client: InferenceServerClient, name: str) -> None:
    """Unregister a region; Triton holds it a moment longer than the request that used it."""
    for _ in range(100):
        try:
            await client.unregister_system_shared_memory(name)
            return
        except InferenceServerException:
            await asyncio.sleep(0.01)
    raise TimeoutError(f"Triton still uses {name}.")


class Region:
    """A piece of shared memory that holds one request's image, and behind it the answer's tensors."""

    def __init__(self, name: str, max_bytes: int, card: ModelCard) -> None:
        self.name = name
        self.card = card
        self.places: dict[str, tuple[type[Any], tuple[int, ...], int, int]] = {}  # type, shape, size, offset
        end = -(-(max_bytes + 4) // 64) * 64
        for tensor in (*tensors.output_names(card.has_masks), tensors.ORIGINAL_SIZES):
            dtype, shape = SHAPES[tensor](card.max_detections, card.mask_size or 0)
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            self.places[tensor] = (dtype, shape, size, end)
            end += -(-size // 64) * 64
        self.size = end
        self.handle: Any = None

    @contextmanager
    def made(self) -> Iterator[Region]:
        self.handle = shared_memory.create_shared_memory_region(self.name, self.name, self.size)
        try:
            yield self
        finally:
            shared_memory.destroy_shared_memory_region(self.handle)

    async def detect(self, client: InferenceServerClient, data: bytes) -> Detections:
        content = serialize_byte_tensor(np.array([[data]], np.object_))
        shared_memory.set_shared_memory_region(self.handle, [content])
        inputs = triton_ensemble.make_inputs(data, self.card.score_threshold, True, self.card)
        image = InferInput(triton_ensemble.IMAGE, [1, 1], "BYTES")
        image.set_shared_memory(self.name, len(content.item()))
        outputs = []
        for tensor, (_, _, size, offset) in self.places.items():
            outputs.append(InferRequestedOutput(tensor))
            outputs[-1].set_shared_memory(self.name, size, offset)
        await client.infer(self.card.name, [image, *inputs[1:]], outputs=outputs)
        arrays = {
            tensor: shared_memory.get_contents_as_numpy(self.handle, dtype, shape, offset).copy()
            for tensor, (dtype, shape, _, offset) in self.places.items()
        }
        height, width = (int(side) for side in arrays.pop(tensors.ORIGINAL_SIZES)[0])
        return unpack(arrays, 0, (height, width), True)


if __name__ == "__main__":
    main()
