"""The gateway's Prometheus metrics."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from resnest_server.engines import Engine
from resnest_server.timings import Timings

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCHES = (1, 2, 4, 8, 16, 32)
COUNTS = (0, 1, 2, 5, 10, 20, 50, 100)


class Metrics:
    """Counters, gauges and histograms of one application, in its own registry."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "resnest_requests", "Detection requests answered.", ["model", "status", "format"], registry=registry
        )
        self.stages = Histogram(
            "resnest_stage_seconds",
            "Time of a stage of an image.",
            ["model", "stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batches = Histogram(
            "resnest_batch_images", "Images that ran together.", ["model"], buckets=BATCHES, registry=registry
        )
        self.detections = Histogram(
            "resnest_detections", "Detections answered per image.", ["model"], buckets=COUNTS, registry=registry
        )
        self.decode_failures = Counter(
            "resnest_decode_failures", "Images that couldn't be used.", ["model"], registry=registry
        )
        loading = Gauge("resnest_model_load_seconds", "Time to load a model.", ["model"], registry=registry)
        in_flight = Gauge(
            "resnest_queue_places_taken",
            "Images in flight: accepted and not answered yet.",
            ["model"],
            registry=registry,
        )
        waiting = Gauge("resnest_queue_images", "Images that wait in the queue.", ["model"], registry=registry)

        for name, engine in engines.items():
            if engine.load_seconds is not None:
                loading.labels(name).set(engine.load_seconds)
            in_flight.labels(name).set_function(lambda engine=engine: engine.in_flight.count)  # type: ignore[misc]
            waiting.labels(name).set_function(lambda engine=engine: engine.waiting)  # type: ignore[misc]

    def count_image(self, model: str, timings: Timings, batch_size: int | None, detections: int) -> None:
        """Count an image that was answered."""
        for stage, milliseconds in timings.stages.items():
            self.stages.labels(model, stage).observe(milliseconds / 1000)
        if batch_size is not None:
            self.batches.labels(model).observe(batch_size)
        self.detections.labels(model).observe(detections)

    def render(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry)
