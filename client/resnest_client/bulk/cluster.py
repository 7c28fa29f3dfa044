"""The Ray cluster of a bulk run: one that the command starts, or one that is there; and how many workers fit."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from resnest_core.cpus import allowed_cpus
from resnest_core.errors import ParameterError, RuntimeUnavailableError, UnreachableError

LOCAL = "local"
ADDRESS = re.compile(r"local|auto|[A-Za-z0-9_.-]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5}")
STORE_BYTES = 128 * 2**20  # of the local cluster's object store: only names and counts go through it
MOST_THREADS = 4
CONNECT_SECONDS = 5


class Share(NamedTuple):
    """How a cluster is divided: workers, CPUs of each (its runtime's threads), and GPUs of each."""

    workers: int
    threads: int
    gpus: int


def check_address(address: str) -> None:
    """Refuse what is no address of a Ray cluster.

    Raises:
        ParameterError: so it is.
    """
    if not ADDRESS.fullmatch(address):
        raise ParameterError(f"--ray takes host:port or auto, not {address}; without it a local cluster is started.")


@contextmanager
def connected(address: str = LOCAL) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine and stop it afterwards; within an open connection, use that.

    Args:
        address: of a cluster, checked by `check_address`.

    Raises:
        UnreachableError: there is no cluster.
    """
    import ray
    import ray.data
    from ray.exceptions import RayError

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        yield
        return
    started: dict[str, Any] = {
        "num_cpus": allowed_cpus(),
        "object_store_memory": STORE_BYTES,
        "include_dashboard": False,
    }
    if address not in (LOCAL, "auto"):
        _knock(address)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(started if address == LOCAL else {}),
        )
    except (ConnectionError, RayError, RuntimeError, ValueError, TimeoutError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise UnreachableError(
            f"There is no connection to the Ray cluster at {address}: {reason}. Its version of Ray and its token "
            "(RAY_AUTH_TOKEN) must be the same as here."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def share(workers: int | None, threads: int | None, on_gpu: bool) -> Share:
    """Return how many workers to start, with how many CPUs.

    Args:
        workers: None: as many as the cluster has room for.
        threads: CPUs of a worker; None: up to 4, no more than the smallest node has.
        on_gpu: whether each takes a GPU.

    Raises:
        ParameterError: no node has so many CPUs.
        RuntimeUnavailableError: the cluster has no CPU or GPU.
    """
    import ray

    nodes = [
        (int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0)))
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]
    nodes = [(cpus, gpus) for cpus, gpus in nodes if cpus and (gpus or not on_gpu)]
    if not nodes:
        missing = "GPU: leave out --device, or start nodes with GPUs" if on_gpu else "CPU: start nodes with CPUs"
        raise RuntimeUnavailableError(f"The Ray cluster has no node with a free {missing}.")
    most = max(cpus for cpus, _ in nodes)
    if threads is not None and threads > most:
        raise ParameterError(f"No node of the Ray cluster has {threads} CPUs for a worker, only {most}.")
    each = threads or min(MOST_THREADS, *(cpus for cpus, _ in nodes))
    room = sum(min(cpus // each, gpus) if on_gpu else cpus // each for cpus, gpus in nodes)
    return Share(workers or max(room, 1), each, int(on_gpu))


def _knock(address: str) -> None:
    """Refuse at once what Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UnreachableError(
            f"There is no Ray cluster at {address}: start one with `ray start --head`, or leave out the address."
        ) from error
