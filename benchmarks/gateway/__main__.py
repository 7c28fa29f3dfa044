"""CPU time and throughput of the gateway on a runtime without a network, beside an empty route and other servers.

    python -m benchmarks.gateway
    pip install litserve bentoml && python -m benchmarks.gateway --servers empty,ours,litserve,bentoml

Every server is a process of its own on loopback; they take turns in short rounds, so that a machine whose speed drifts
slows all alike. CPU time is that of the server's processes together. A request is a form with a JPEG, which all of them
read.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.gateway.work import answer, make_detector
from resnest_core.drawing import encode
from resnest_core.images import load_image

ROOT = Path(__file__).parents[2]
PHOTOGRAPH = ROOT / "tests/data/demo/images/000000000471.jpg"
SIZES = {"640×427": (640, 427), "96×64": (96, 64)}
BOUNDARY = "frontier"
PATIENCE = 60.0  # seconds for a server to start


@dataclass
class Figures:
    """Of one server: a value per round."""

    cpu_ms: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default="empty,ours")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=400, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    names = arguments.servers.split(",")

    pixels = load_image(PHOTOGRAPH)
    for title, size in SIZES.items():
        image = encode(cv2.resize(pixels, size).astype(np.uint8), "image/jpeg")
        body = form(image)
        figures = {name: Figures() for name in names}
        work: list[float] = []
        with ExitStack() as stack:
            servers = {name: stack.enter_context(running(name)) for name in names}
            for number in range(arguments.rounds + 1):  # the first warms up
                work.append(work_ms(image))
                for name, (port, process) in servers.items():
                    before, start = cpu_seconds(process), time.perf_counter()
                    latencies = asyncio.run(load(port, body, arguments.clients, arguments.requests))
                    wall, cpu = time.perf_counter() - start, cpu_seconds(process) - before
                    if number:
                        figures[name].cpu_ms.append(cpu * 1000 / arguments.requests)
                        figures[name].per_second.append(arguments.requests / wall)
                        figures[name].latencies_ms += latencies
        show(f"{title} JPEG of {len(image):,} bytes, {arguments.clients} clients", figures, work[1:])


def form(image: bytes) -> bytes:
    """Return a form that holds an image in its field `file`."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg'
    return f"{head}\r\n\r\n".encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()


def work_ms(image: bytes, runs: int = 100) -> float:
    """Return the CPU time of the work itself, without a server: decoding, resizing, the fake runtime, the answer.

    Another process works beside it, as a server's clients do: two threads of a core slow each other.
    """
    detector = make_detector()
    times = []
    beside = multiprocessing.Process(target=spin, daemon=True)
    beside.start()
    for _ in range(runs):
        start = time.thread_time()
        answer(detector, image)
        times.append(time.thread_time() - start)
    beside.terminate()
    beside.join()
    return statistics.mean(times) * 1000


def spin() -> None:
    """Keep a core busy until somebody ends it."""
    while True:
        pass


def show(title: str, figures: dict[str, Figures], work: list[float]) -> None:
    table = Table("server", "CPU ms per request", "above empty and work", "requests/s", "p50 ms", "p99 ms", title=title)
    for name, row in figures.items():
        above = ""
        if "empty" in figures and name != "empty":
            rounds = zip(row.cpu_ms, figures["empty"].cpu_ms, work, strict=True)
            above = f"{statistics.median(cpu - empty - itself for cpu, empty, itself in rounds):.2f}"
        p50, p99 = (statistics.quantiles(row.latencies_ms, n=100)[rank - 1] for rank in (50, 99))
        cpu, rate = statistics.median(row.cpu_ms), statistics.median(row.per_second)
        table.add_row(name, f"{cpu:.2f}", above, f"{rate:.0f}", f"{p50:.1f}", f"{p99:.1f}")
    console = Console()
    console.print(table)
    console.print(f"The work itself takes {statistics.median(work):.2f} ms.\n")


@contextmanager
def running(name: str) -> Iterator[tuple[int, psutil.Process]]:
    """Run a server, and give its port and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.gateway.servers", name, str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            wait_for(port, process)
            yield port, psutil.Process(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers a request."""
    body = form(encode(load_image(PHOTOGRAPH)[:32, :32].copy(), "image/jpeg"))
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            asyncio.run(load(port, body, 1, 1))
        except (OSError, asyncio.IncompleteReadError):
            time.sleep(0.2)
        else:
            return
    raise SystemExit("A server did not start; what it printed says why.")


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time that a process and its children have taken."""
    times = [member.cpu_times() for member in (process, *process.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


async def load(port: int, body: bytes, clients: int, requests: int) -> list[float]:
    """Send requests from several clients, each one after the other on a connection it keeps; return milliseconds."""
    head = (
        f"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    latencies: list[float] = []

    async def client(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count):
            start = time.perf_counter()
            writer.write(request)
            answered = await reader.readuntil(b"\r\n\r\n")
            if not answered.startswith(b"HTTP/1.1 200"):
                raise OSError(answered.decode())
            length = next(line for line in answered.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            latencies.append((time.perf_counter() - start) * 1000)
        writer.close()

    await asyncio.gather(*(client(requests // clients) for _ in range(clients)))
    return latencies


if __name__ == "__main__":
    main()
