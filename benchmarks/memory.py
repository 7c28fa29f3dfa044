"""Peak memory of a gateway by how many requests are there at a time, and how large their images are.

    python -m benchmarks.memory

Each row is a gateway of its own on the demo model: the peak of its resident memory (VmHWM), beyond that of one that
answers the same image to one client after the other. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.serving import load
from resnest_core.drawing import encode
from resnest_core.images import load_image
from tests.server.test_serve import PHOTOGRAPH, serving

SIZES = ((640, 480), (4000, 3000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--requests", type=int, default=2, help="of each client")
    arguments = parser.parse_args()
    table = Table("image", "clients", "peak MiB", "more than one client", "MiB per request", title="resident memory")
    for size in SIZES:
        body = encode(cv2.resize(load_image(PHOTOGRAPH), size).astype(np.uint8), "image/jpeg")
        alone = peak_mib(body, 1, arguments.requests)
        for clients in arguments.clients:
            peak = peak_mib(body, clients, arguments.requests)
            more = peak - alone
            cells = (f"{value:.0f}" for value in (peak, more))
            table.add_row(f"{size[0]}×{size[1]}, {len(body):,} B", str(clients), *cells, f"{more / (clients - 1):.2f}")
    Console().print(table)


def peak_mib(body: bytes, clients: int, requests: int) -> float:
    """Return the peak memory in MiB of a gateway that so many clients ask so often each."""
    with serving("--model", "demo", RESNEST_LOG_LEVEL="error", RESNEST_REQUEST_SECONDS="600") as (url, process):
        asyncio.run(load(url, body, 1, 2))  # what every gateway needs
        asyncio.run(load(url, body, clients, clients * requests))
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
