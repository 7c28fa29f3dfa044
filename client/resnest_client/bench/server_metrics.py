"""What can be known of a server from outside: its processes, where they run on this machine, and what it tells."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from resnest_client.detector_options import GRPC
from resnest_core.triton_ensemble import CHANNEL_OPTIONS

if TYPE_CHECKING:
    import psutil

PORTS = {"http": 80, "https": 443, "grpc": 8001}
PROXIES = {"docker-proxy", "rootlessport"}  # listen for a container: the work isn't theirs
METRICS_SECONDS = 5.0
SAMPLE = re.compile(r'^resnest_stage_seconds_(sum|count)\{model="(.*)",stage="(.*)"\} (\S+)$', re.MULTILINE)

Stages = Mapping[str, tuple[float, float]]
"""By stage: seconds, and images, since the server started."""


class ServerMetrics(NamedTuple):
    """What a server tells of itself; None where it doesn't."""

    stages: Stages
    cpu_seconds: float | None = None
    """Since its process started."""
    memory_bytes: float | None = None


def find_process(url: str) -> psutil.Process | None:
    """Return the process that listens at an address of this machine; None: it can't be told, or is this one itself."""
    import psutil

    parts = urlsplit(url)
    if not _is_loopback(parts.hostname or ""):
        return None
    port = parts.port or PORTS.get(parts.scheme)
    try:
        connections = psutil.net_connections("tcp")
        listening = {
            each.pid
            for each in connections
            if each.pid and each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port
        }
        roots = [
            process for process in map(psutil.Process, listening) if not listening & {p.pid for p in process.parents()}
        ]
        if len(roots) != 1 or roots[0].name() in PROXIES:
            return None
        return None if os.getpid() in {process.pid for process in tree(roots[0])} else roots[0]
    except psutil.Error:
        return None


def tree(root: psutil.Process) -> list[psutil.Process]:
    """Return a process and those that it started, as far as they still run."""
    import psutil

    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def read_gateway_metrics(url: str, model: str) -> ServerMetrics | None:
    """Read a gateway's /metrics; None where that can't be reached."""
    import httpx

    try:
        text = httpx.get(f"{url.rstrip('/')}/metrics", timeout=METRICS_SECONDS).raise_for_status().text
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    found: dict[str, dict[str, float]] = {}
    for what, its_model, stage, value in SAMPLE.findall(text):
        if its_model == model:
            found.setdefault(stage, {})[what] = float(value)
    return ServerMetrics(
        {stage: (both.get("sum", 0.0), both.get("count", 0.0)) for stage, both in found.items()},
        _value(text, "process_cpu_seconds_total"),
        _value(text, "process_resident_memory_bytes"),
    )


def read_triton_metrics(url: str, model: str) -> ServerMetrics | None:
    """Read Triton's statistics of the models that a detector's ensemble is made of; None where it has none."""
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    from resnest_client.async_grpc_detector import address

    stages: dict[str, tuple[float, float]] = {}
    try:
        with InferenceServerClient(address(url), channel_args=CHANNEL_OPTIONS) as client:
            for part in ("preprocess", "network"):
                answer = client.get_inference_statistics(f"{model}_{part}", client_timeout=METRICS_SECONDS)
                for statistics in answer.model_stats:
                    for name, stage in (("queue", f"{part} queue"), ("compute_infer", part)):
                        times = getattr(statistics.inference_stats, name)
                        stages[stage] = times.ns / 1e9, float(times.count)
    except InferenceServerException:
        return None
    return ServerMetrics(stages)


def read_server_metrics(url: str, model: str) -> ServerMetrics | None:
    """Return what the server at an address tells; None where it tells nothing."""
    return read_triton_metrics(url, model) if url.startswith(GRPC) else read_gateway_metrics(url, model)


def mean_milliseconds(before: Stages, after: Stages) -> dict[str, float]:
    """Return the mean time by stage of the images between two looks, in milliseconds."""
    means = {}
    for stage, (seconds, count) in after.items():
        past_seconds, past_count = before.get(stage, (0.0, 0.0))
        if count > past_count:
            means[stage] = (seconds - past_seconds) / (count - past_count) * 1000
    return means


def _value(text: str, name: str) -> float | None:
    match = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(match[1]) if match else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
