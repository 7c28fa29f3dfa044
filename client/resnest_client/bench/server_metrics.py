"""Measurements of a server from outside: its processes, if they run on this machine, and the metrics that it serves."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from resnest_client.detector_options import is_grpc
from resnest_core.card import NETWORK_SUFFIX, PREPROCESS_SUFFIX
from resnest_core.errors import MissingExtraError
from resnest_core.grpc_address import grpc_address
from resnest_core.triton_ensemble import CHANNEL_OPTIONS

if TYPE_CHECKING:
    import psutil
    from prometheus_client import Metric

PORTS = {"http": 80, "https": 443, "grpc": 8001}
PROXIES = {"docker-proxy", "rootlessport"}  # forward a container's port; the server is another process
METRICS_SECONDS = 5.0
STAGE_SECONDS = "resnest_stage_seconds"
CPU_SECONDS = "process_cpu_seconds_total"
MEMORY_BYTES = "process_resident_memory_bytes"

Stages = Mapping[str, tuple[float, float]]
"""Seconds and images by stage, since the server's start."""


class ServerMetrics(NamedTuple):
    """Metrics that a server reports; None: not reported."""

    stages: Stages
    cpu_seconds: float | None = None
    """Since its process started."""
    memory_bytes: float | None = None


def find_process(url: str) -> psutil.Process | None:
    """Return the process that listens at a local address; None: it can't be determined, or is this process."""
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
    """Return a process and its running descendants."""
    import psutil

    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def read_gateway_metrics(url: str, model: str) -> ServerMetrics | None:
    """Read a gateway's /metrics; None if it can't be reached."""
    import httpx

    from resnest_client.proxies import direct_mounts

    try:
        with httpx.Client(timeout=METRICS_SECONDS, mounts=direct_mounts(httpx.URL(url))) as client:
            text = client.get(f"{url.rstrip('/')}/metrics").raise_for_status().text
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    return parse_gateway_metrics(text, model)


def parse_gateway_metrics(text: str, model: str) -> ServerMetrics | None:
    """Read a model's stages, and the process' CPU time and memory, from Prometheus' text format.

    Return None if the text isn't in that format.

    Raises:
        MissingExtraError: prometheus-client isn't installed.
    """
    parse = prometheus_parser()
    seconds: dict[str, float] = {}
    counts: dict[str, float] = {}
    figures = {f"{STAGE_SECONDS}_sum": seconds, f"{STAGE_SECONDS}_count": counts}
    process: dict[str, float] = {}
    try:
        for sample in (sample for family in parse(text) for sample in family.samples):
            if sample.name in (CPU_SECONDS, MEMORY_BYTES):
                process[sample.name] = sample.value
            elif sample.name in figures and sample.labels.get("model") == model:
                figures[sample.name][sample.labels["stage"]] = sample.value
    except (ValueError, KeyError, IndexError):  # raised by the parser for other formats
        return None
    stages = {stage: (seconds.get(stage, 0.0), count) for stage, count in counts.items()}
    return ServerMetrics(stages, process.get(CPU_SECONDS), process.get(MEMORY_BYTES))


def prometheus_parser() -> Callable[[str], Iterable[Metric]]:
    """Return the parser of a gateway's metrics.

    Raises:
        MissingExtraError: prometheus-client isn't installed.
    """
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError as error:
        raise MissingExtraError("prometheus-client", "bench") from error
    return text_string_to_metric_families


def read_triton_metrics(url: str, model: str) -> ServerMetrics | None:
    """Read Triton's statistics of the models of a detector's ensemble; None if it has none."""
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    stages: dict[str, tuple[float, float]] = {}
    try:
        with InferenceServerClient(grpc_address(url), channel_args=CHANNEL_OPTIONS) as client:
            for suffix in (PREPROCESS_SUFFIX, NETWORK_SUFFIX):
                part = suffix.removeprefix("_")
                answer = client.get_inference_statistics(model + suffix, client_timeout=METRICS_SECONDS)
                for statistics in answer.model_stats:
                    for name, stage in (("queue", f"{part} queue"), ("compute_infer", part)):
                        times = getattr(statistics.inference_stats, name)
                        stages[stage] = times.ns / 1e9, float(times.count)
    except InferenceServerException:
        return None
    return ServerMetrics(stages)


def read_server_metrics(url: str, model: str) -> ServerMetrics | None:
    """Return the metrics of the server at an address; None if it reports none."""
    return read_triton_metrics(url, model) if is_grpc(url) else read_gateway_metrics(url, model)


def mean_milliseconds(before: Stages, after: Stages) -> dict[str, float]:
    """Return the mean time by stage, in milliseconds, of the images between two reports."""
    means = {}
    for stage, (seconds, count) in after.items():
        past_seconds, past_count = before.get(stage, (0.0, 0.0))
        if count > past_count:
            means[stage] = (seconds - past_seconds) / (count - past_count) * 1000
    return means


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
