"""How many servers a load needs: simulates gateways, batches and servers, plans, and checks itself on a real gateway.

    python -m benchmarks.sizing --service-seconds 0.25 --rate 6 --servers 2
    python -m benchmarks.sizing --service-seconds 0.25 --clients 8 --servers 2
    python -m benchmarks.sizing --service-seconds 0.25 --rate 100 --per-gateway 2 --plan --p95 1
    python -m benchmarks.sizing --check --save service.json

A server runs one batch at a time: an instance of `resnest serve`, or of the network in Triton. Its time per batch is
given in seconds, or as a file of measured times that `--save` wrote. `--check` serves the demo model with 1 and 2
servers on this machine, and compares what it measures with what the simulation says. Needs the `dev` extra.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.sizing.check import check
from benchmarks.sizing.loads import ClosedLoop, OpenLoop, poisson
from benchmarks.sizing.outcome import Outcome
from benchmarks.sizing.plan import MOST_BUSY, WARM_UP, Demand, images_for, plan
from benchmarks.sizing.service_times import ServiceTimes
from benchmarks.sizing.simulation import simulate
from benchmarks.sizing.stack import Balancer, Batching, Stack
from resnest_core.errors import ParameterError, ResNeStError

COLUMNS = ("images/s", "busy", "mean s", "p50 s", "p95 s", "p99 s", "images waiting", "batch", "503")


def main() -> None:
    arguments = parser().parse_args()
    try:
        run(arguments)
    except ResNeStError as error:
        sys.exit(str(error))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.sizing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--service-seconds", help="of a batch: 0.25; samples: 0.24,0.26; or a JSON file of --save")
    parser.add_argument("--rate", type=float, help="images per second of an open loop")
    parser.add_argument("--clients", type=int, help="clients of a closed loop, instead of --rate")
    parser.add_argument("--servers", type=int, default=1, help="in all gateways together")
    parser.add_argument("--per-gateway", type=int, help="servers of a gateway; else all in one; for --plan else 1")
    parser.add_argument("--balancer", choices=[each.value for each in Balancer], default=Balancer.ROUND_ROBIN.value)
    parser.add_argument("--batching", choices=[each.value for each in Batching], default=Batching.GATEWAY.value)
    parser.add_argument("--max-batch", type=int, default=1)
    parser.add_argument("--max-wait-ms", type=float, default=0.0)
    parser.add_argument("--max-queue", type=int, default=64, help="images in flight of a gateway; more get 503")
    parser.add_argument("--shapes", default="1", help="shares of the padded shapes, such as 0.6,0.4")
    parser.add_argument("--host-threads", type=int, default=1, help="of a gateway, to decode and encode")
    parser.add_argument("--decode-ms", type=float, default=2.5)
    parser.add_argument("--encode-ms", type=float, default=2.0)
    parser.add_argument("--images", type=int, help="to simulate; else 20,000 and 30 for each server")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plan", action="store_true", help="find the fewest gateways for --rate and --p95")
    parser.add_argument("--p95", type=float, default=1.0, help="seconds")
    parser.add_argument("--refused", type=float, default=0.001, help="largest share of 503s that a plan allows")
    parser.add_argument("--busy", type=float, default=MOST_BUSY, help="largest share of busy servers in a plan")
    parser.add_argument("--check", action="store_true", help="measure a real gateway on this machine")
    parser.add_argument("--rounds", type=int, default=3, help="of --check")
    parser.add_argument("--requests", type=int, default=40, help="of each load of a round of --check")
    parser.add_argument("--save", type=Path, help="where --check writes the service times of one server")
    return parser


def run(arguments: argparse.Namespace) -> None:
    console = Console()
    console.width = max(console.width, 110)
    if arguments.check:
        console.print(check(arguments.rounds, arguments.requests, arguments.save))
        return
    if not arguments.service_seconds:
        raise ParameterError("Give the seconds of a batch with --service-seconds, or measure them with --check.")
    service = ServiceTimes.parse(arguments.service_seconds)
    begun = time.process_time()
    table = make_plan(arguments, service) if arguments.plan else single(arguments, service)
    console.print(table)
    console.print(f"{time.process_time() - begun:.1f} s of CPU time")


def stack(arguments: argparse.Namespace, gateways: int, servers: int) -> Stack:
    """Return a stack of the options."""
    return Stack(
        gateways=gateways,
        servers=servers,
        max_batch=arguments.max_batch,
        max_wait=arguments.max_wait_ms / 1000,
        max_queue=arguments.max_queue,
        host_threads=arguments.host_threads,
        decode_seconds=arguments.decode_ms / 1000,
        encode_seconds=arguments.encode_ms / 1000,
        shapes=shares(arguments.shapes),
        balancer=Balancer(arguments.balancer),
        batching=Batching(arguments.batching),
    )


def shares(text: str) -> tuple[float, ...]:
    """Read numbers such as `0.6,0.4`."""
    try:
        return tuple(float(share) for share in text.split(","))
    except ValueError as error:
        raise ParameterError(f"{text!r} gives no shares of shapes: write numbers, such as 0.6,0.4.") from error


def single(arguments: argparse.Namespace, service: ServiceTimes) -> Table:
    """Simulate one stack."""
    each = arguments.servers if arguments.per_gateway is None else arguments.per_gateway
    if each < 1 or arguments.servers % each:
        raise ParameterError("--servers must be a multiple of --per-gateway, and both at least 1.")
    if (arguments.rate is None) == (arguments.clients is None):
        raise ParameterError("Give either --rate or --clients.")
    simulated = stack(arguments, arguments.servers // each, each)
    images = images_for(arguments.servers) if arguments.images is None else arguments.images
    load: OpenLoop | ClosedLoop
    if arguments.rate is not None:
        load = poisson(arguments.rate, images, arguments.seed, images // WARM_UP)
    else:
        load = ClosedLoop(arguments.clients, images, images // WARM_UP)
    table = Table("gateways × servers", *COLUMNS)
    table.add_row(f"{simulated.gateways} × {each}", *cells(simulate(simulated, service, load, arguments.seed)))
    return table


def make_plan(arguments: argparse.Namespace, service: ServiceTimes) -> Table:
    """Find the fewest gateways; the table has every number that was tried."""
    if arguments.rate is None:
        raise ParameterError("Give the images per second to plan for with --rate.")
    each = 1 if arguments.per_gateway is None else arguments.per_gateway
    demand = Demand(arguments.rate, arguments.p95, arguments.refused, arguments.busy)
    found = plan(demand, stack(arguments, 1, each), service, arguments.seed)
    title = (
        f"{found.gateways} gateways with {each} server{'s' if each > 1 else ''} each answer {demand.rate:g} images/s, "
        f"95 % within {demand.p95_seconds:g} s; {found.gateways_with_one_lost} where one may be down"
    )
    table = Table("gateways × servers", *COLUMNS, "enough", title=title)
    for gateways, outcome in sorted(found.tried.items()):
        table.add_row(f"{gateways} × {each}", *cells(outcome), "yes" if demand.is_met(outcome) else "no")
    return table


def cells(outcome: Outcome) -> list[str]:
    """Return the figures of an outcome in the order of COLUMNS."""
    return [
        f"{outcome.images_per_second:.4g}",
        f"{outcome.utilisation:.1%}",
        f"{outcome.mean_seconds:.3g}",
        *(f"{outcome.percentile(percent):.3g}" for percent in (50, 95, 99)),
        f"{outcome.queue_images:.3g}",
        f"{outcome.batch_images:.3g}",
        f"{outcome.refused_share:.2%}",
    ]


if __name__ == "__main__":
    main()
