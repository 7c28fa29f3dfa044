"""Which instances, threads and batch size serve fastest here: one gateway in several layouts, and two gateways.

    python -m benchmarks.layouts --cpus 2
    python -m benchmarks.layouts --cpus 1 --model demo_int8 --repository model_repository
    python -m benchmarks.layouts --cpus 2 --gateways

Needs the `dev` extra and `taskset`. All gateways are started first, then take turns, round by round, in closed loops:
compare the ratios, which are to the first one's. CPU seconds are the gateways', without the clients'.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.serving import Layout, load, model_options, model_parser
from tests.server.test_serve import RESNEST, free_port, serving_at


@dataclass(frozen=True)
class Service:
    """One gateway or two: the layout of each, and the CPUs that each may use, as `taskset` reads them."""

    layout: Layout
    cpus: tuple[str, ...]

    def __str__(self) -> str:
        gateways = f"{len(self.cpus)} gateways, each " if len(self.cpus) > 1 else ""
        pinned = ", a CPU each" if len(set(self.cpus)) > 1 else ""
        return f"{gateways}{self.layout}{pinned}"


@dataclass
class Running:
    """A service that answers, and what was measured of it by number of clients: images/s and CPU s per image."""

    urls: list[str]
    processes: list[psutil.Process]
    rates: dict[int, list[float]]
    cpu: dict[int, list[float]]

    def cpu_seconds(self) -> float:
        times = [process.cpu_times() for process in self.processes]
        return sum(each.user + each.system for each in times)


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("--cpus", type=int, default=2, help="the gateways may use the first of the machine's")
    parser.add_argument("--gateways", action="store_true", help="one gateway beside two, instead of several layouts")
    parser.add_argument("--clients", default="1,8")
    parser.add_argument("--requests", type=int, default=32, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    clients = [int(number) for number in arguments.clients.split(",")]
    services = two_gateways(arguments.cpus) if arguments.gateways else layouts(arguments.cpus)
    if arguments.cpus < (os.cpu_count() or 1):  # the clients don't take the gateways' CPUs where there are others
        os.sched_setaffinity(0, range(arguments.cpus, os.cpu_count() or 1))
    with ExitStack() as stack:
        running = [start(service, arguments, stack, clients) for service in services]
        for number in range(arguments.rounds + 1):  # the first warms up
            for turn in range(len(running)):
                each = running[(number + turn) % len(running)]
                for count in each.rates:
                    measure(each, count, arguments, keep=number > 0)
    show(dict(zip(services, running, strict=True)), f"{arguments.model}, {arguments.cpus} CPUs")


def layouts(cpus: int) -> list[Service]:
    """Return one gateway with all CPUs for each batch, in several batch sizes, and with one CPU for each."""
    ways = {(1, cpus), (cpus, 1)}
    return [
        Service(Layout(instances, threads, batch), (f"0-{cpus - 1}",))
        for instances, threads in sorted(ways)
        for batch in (1, 2, 4)
    ]


def two_gateways(cpus: int) -> list[Service]:
    """Return one gateway; two that know nothing of each other; two with half of the threads, and half of the CPUs."""
    every, half = f"0-{cpus - 1}", cpus // 2
    return [
        Service(Layout(1, cpus, 1), (every,)),
        Service(Layout(1, cpus, 1), (every, every)),
        Service(Layout(1, half, 1), (every, every)),
        Service(Layout(1, half, 1), (f"0-{half - 1}", f"{half}-{cpus - 1}")),
    ]


def start(service: Service, arguments: argparse.Namespace, stack: ExitStack, clients: list[int]) -> Running:
    """Start the gateways of a service."""
    layout = service.layout
    told = [count for count in clients if count > 1 or layout.batch == 1]  # a single client fills no batch
    found = Running([], [], {count: [] for count in told}, {count: [] for count in told})
    for cpus in service.cpus:
        program = ("taskset", "-c", cpus, *RESNEST, "serve", *model_options(arguments))
        url, process = stack.enter_context(serving_at(free_port(), program, variables=layout.variables))
        found.urls.append(url)
        found.processes.append(psutil.Process(process.pid))
    return found


def measure(running: Running, clients: int, arguments: argparse.Namespace, *, keep: bool) -> None:
    """Send a round's requests to a service, divided between its gateways."""
    body, share = arguments.image.read_bytes(), len(running.urls)

    async def everywhere() -> None:
        # A single client is at one gateway at a time, as behind a proxy.
        if clients < share:
            for url in running.urls:
                await load(url, body, clients, arguments.requests // share)
        else:
            each = [load(url, body, clients // share, arguments.requests // share) for url in running.urls]
            await asyncio.gather(*each)

    cpu, begun = running.cpu_seconds(), time.perf_counter()
    asyncio.run(everywhere())
    seconds, cpu = time.perf_counter() - begun, running.cpu_seconds() - cpu
    if keep:
        running.rates[clients].append(arguments.requests / seconds)
        running.cpu[clients].append(cpu / arguments.requests)


def show(found: dict[Service, Running], title: str) -> None:
    """Print medians, and medians of the ratios to the first service of the same round, with the extremes."""
    table = Table("layout", "clients", "images/s", "÷ first", "CPU s per image", "÷ first", title=title)
    first = next(iter(found.values()))
    for service, running in found.items():
        for count in running.rates:
            cells = []
            for ours, theirs in ((running.rates[count], first.rates[count]), (running.cpu[count], first.cpu[count])):
                ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
                cells.append(f"{statistics.median(ours):.3g}")
                cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
            table.add_row(str(service), str(count), *cells)
    console = Console()
    console.width = max(console.width, 130)
    console.print(table)


if __name__ == "__main__":
    main()
