"""Hand-written example runs."""

from __future__ import annotations

from typing import Any

from resnest_client.bench.results import Latency, Memory, Run, Subject

SUBJECT = Subject(model="demo", precision="fp32", checkpoint_sha256="0" * 64, runtime="onnxruntime", device="cpu")
PERCENTILES = ("p50", "p90", "p95", "p99")


def latency(p50: float, p99: float) -> Latency:
    ends: dict[str, tuple[float | None, float | None]] = dict.fromkeys(PERCENTILES, (p50, None))
    return Latency(p50=p50, p90=p50, p95=p50, p99=p99, mean=p50, ci95=ends)


def example_run(
    *,
    concurrency: int | None = 1,
    rate: float | None = None,
    number: int = 1,
    p50: float = 10,
    p99: float = 20,
    **more: Any,
) -> Run:
    fields: dict[str, Any] = {
        "subject": SUBJECT,
        "mode": "closed" if rate is None else "open",
        "concurrency": concurrency,
        "rate": rate,
        "round": number,
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 10.0,
        "complete": True,
        "stopped": None,
        "requests": 100,
        "images": 100,
        "images_per_second": 10.0,
        "latency_ms": latency(p50, p99),
        "errors": {},
        "error_examples": {},
        "cpu_seconds_per_image": 0.1,
        "client_cpu_seconds_per_image": None,
        "server_measured_by": None,
        "peak_memory_mib": Memory(client=100.0),
        "gpu": None,
        "server_stages_ms": None,
        "detections_per_image": 3.0,
        "padded_shapes": {"320×448": 100},
        "masks": True,
        "score_threshold": None,
        "seed": 0,
        "warm_up_requests": 5,
        "machine": {"cpu": "a CPU", "cores": 2, "memory_gib": 8.0, "os": "Linux", "python": "3.11"},
        "versions": {"numpy": "2"},
        "git_commit": None,
        "command": "resnest bench",
    }
    return Run(**fields | more)
