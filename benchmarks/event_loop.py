"""Latency of /health/live while eight clients send bodies that take long to parse: PNGs full of texts, JSON, forms.

    python -m benchmarks.event_loop --seconds 20

The gateway runs in its own process on a runtime without a network: what remains is its parsing. On a busy machine
compare runs in pairs.
"""

from __future__ import annotations

import argparse
import time
from multiprocessing import get_context

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.gateway.__main__ import running
from tests.server.test_off_loop import BODIES

CLIENTS = 8
KINDS = ("texts", "JSON", "form")


def send(url: str, seconds: float, number: int) -> None:
    """Send bodies one after the other; in a process of its own, so that it doesn't slow the one that measures."""
    choices, end, answered = [BODIES[kind] for kind in KINDS], time.monotonic() + seconds, 0
    with httpx.Client(timeout=120, trust_env=False) as client:
        while time.monotonic() < end:
            body, media_type = choices[(number + answered) % len(choices)]
            client.post(f"{url}/v1/detect", content=body, headers={"Content-Type": media_type}).raise_for_status()
            answered += 1
    print(f"client {number}: {answered} bodies answered")


def measure(url: str, seconds: float, clients: int) -> NDArray[np.float64]:
    """Return the latencies of /health/live in milliseconds while so many clients send."""
    context = get_context("spawn")
    senders = [context.Process(target=send, args=(url, seconds, number)) for number in range(clients)]
    for sender in senders:
        sender.start()
    latencies = []
    end = time.monotonic() + seconds
    with httpx.Client(timeout=120, trust_env=False) as client:
        while time.monotonic() < end:
            start = time.perf_counter()
            client.get(f"{url}/health/live").raise_for_status()
            latencies.append((time.perf_counter() - start) * 1000)
            time.sleep(0.01)
    for sender in senders:
        sender.join()
    return np.array(latencies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    seconds = parser.parse_args().seconds
    with running("ours") as (port, _):
        for clients in (0, CLIENTS):
            latencies = measure(f"http://127.0.0.1:{port}", seconds if clients else seconds / 4, clients)
            p50, p99 = np.percentile(latencies, (50, 99))
            print(f"{clients} clients: p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {latencies.max():.1f} ms")


if __name__ == "__main__":
    main()
