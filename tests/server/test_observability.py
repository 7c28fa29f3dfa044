"""Metrics, logs, traces and timings."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from resnest_core.runtimes import FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from resnest_server import logs
from resnest_server.settings import Settings
from tests.server.conftest import Serve, picture
from tests.server.test_serve import ENVIRONMENT, PHOTOGRAPH, RESNEST, ROOT, free_port, serving

DETECT = "/v1/models/fake/detect"
JPEG = {"Content-Type": "image/jpeg"}


def samples(client: TestClient) -> dict[str, float]:
    """Return what /metrics tells: `name{label="value"}` and its number."""
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_metrics_count_what_happens(client: TestClient) -> None:
    for _ in range(3):
        client.post(DETECT, content=picture(), headers=JPEG)
    client.post(DETECT, content=picture(), headers={**JPEG, "Accept": "image/png"})
    client.post(DETECT, content=picture(), headers=JPEG, params={"format": "coco"})
    client.post(DETECT, content=picture()[:-100], headers=JPEG)
    client.post(DETECT, content=picture(), headers=JPEG, params={"masks": "paper"})
    client.post("/v1/models/absent/detect", content=picture(), headers=JPEG)
    found = samples(client)
    requests = {name: value for name, value in found.items() if name.startswith("resnest_requests_total")}
    assert requests == {
        "resnest_requests_total{format=native,model=fake,status=200}": 3,
        "resnest_requests_total{format=drawing,model=fake,status=200}": 1,
        "resnest_requests_total{format=coco,model=fake,status=200}": 1,
        "resnest_requests_total{format=native,model=fake,status=400}": 1,
        "resnest_requests_total{format=,model=fake,status=422}": 1,
        "resnest_requests_total{format=,model=,status=404}": 1,
    }
    assert found["resnest_decode_failures_total{model=fake}"] == 1
    for stage in ("decode", "resize", "queue", "network", "format"):
        assert found[f"resnest_stage_seconds_count{{model=fake,stage={stage}}}"] == 5
    assert found["resnest_batch_images_sum{model=fake}"] == found["resnest_batch_images_count{model=fake}"] == 5
    assert found["resnest_detections_sum{model=fake}"] == 15
    assert found["resnest_queue_images{model=fake}"] == found["resnest_queue_places_taken{model=fake}"] == 0
    assert found["process_resident_memory_bytes{}"] > 0


def test_unknown_models_make_no_new_series(client: TestClient) -> None:
    for number in range(20):
        client.post(f"/v1/models/name-{number}/detect", content=picture(), headers=JPEG)
    found = samples(client)
    assert found["resnest_requests_total{format=,model=,status=404}"] == 20
    assert [name for name in found if "name-" in name] == []


def test_server_timing_tells_what_the_answer_tells(client: TestClient) -> None:
    answer = client.post(DETECT, content=picture(), headers=JPEG)
    header = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["Server-Timing"]))
    timings = answer.json()["timings_ms"]
    assert set(header) == set(timings) >= {"decode", "resize", "queue", "network", "total"}
    assert all(float(header[stage]) == timings[stage] for stage in timings if stage not in ("total", "format"))
    several = client.post(DETECT, files=[("file", picture())] * 2)
    assert several.headers["Server-Timing"].startswith("total;dur=")


@pytest.mark.parametrize("name", ["mask_rcnn_s50", "fake"])
def test_a_card_tells_what_runs_it_and_what_was_published(serve: Serve, name: str) -> None:
    card = serve(FakeRuntime(FAKE_CARD.model_copy(update={"name": name}))).get(f"/v1/models/{name}").json()
    assert (card["runtime"], card["device"], card["precision"]) == ("fake", "cpu", "fp32")
    assert len(card["checkpoint_sha256"]) == 64
    assert card["published"] == ({"box_ap": 42.6, "mask_ap": 38.1} if name == "mask_rcnn_s50" else None)


@pytest.mark.parametrize(
    ("sent", "kept"), [("abc-1:2", True), ("a b", False), ("x" * 200, False), ("a\tb", False), ("", False)]
)
def test_request_ids(client: TestClient, sent: str, kept: bool) -> None:
    answer = client.get("/health/live", headers={"X-Request-ID": sent} if sent else {})
    received = answer.headers["X-Request-ID"]
    assert (received == sent) is kept
    assert re.fullmatch(r"[\w.:-]{1,128}", received)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Collect what is traced; OpenTelemetry takes one provider per process."""
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    processor = SimpleSpanProcessor(exporter)
    provider.add_span_processor(processor)
    yield exporter
    processor.shutdown()


def test_traces_go_through_gateway_and_runtime(serve: Serve, spans: InMemorySpanExporter) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    traceparent = f"00-{trace_id}-00f067aa0ba902b7-01"
    serve(FakeRuntime()).post(DETECT, content=picture(), headers={**JPEG, "traceparent": traceparent})
    finished = {span.name: span for span in spans.get_finished_spans()}
    stages = [finished[name] for name in ("decode", "network", "format")]
    root = next(span for name, span in finished.items() if "POST" in name)
    for span in (root, *stages):
        context = span.get_span_context()
        assert context is not None and trace.format_trace_id(context.trace_id) == trace_id
    assert finished["network"].attributes is not None
    assert dict(finished["network"].attributes) == {"model": "fake", "batch_size": 1}


def test_traces_are_off_unless_asked_for() -> None:
    script = "from resnest_server import create_app; from opentelemetry import trace; create_app(); "
    script += "print(type(trace.get_tracer_provider()).__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout.strip() == "ProxyTracerProvider"


def test_the_log_is_json_with_the_requests_id_and_no_key(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(log=log, RESNEST_API_KEYS="top-secret") as (url, _):
        headers = {"Authorization": "Bearer top-secret", "X-Request-ID": "mine-1"}
        assert httpx.post(f"{url}/v1/detect", content=PHOTOGRAPH.read_bytes(), headers=headers).status_code == 200
        assert httpx.get(f"{url}/v1/models?key=top-secret", headers={"X-API-Key": "wrong-key"}).status_code == 401
    text = log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert "top-secret" not in text and "wrong-key" not in text
    answered = next(line for line in lines if line["request_id"] == "mine-1")
    assert (answered["method"], answered["path"], answered["status"]) == ("POST", "/v1/detect", 200)
    assert answered["ms"] > 0 and answered["level"] == "INFO"
    assert any("was loaded in" in line["message"] for line in lines)


def test_the_log_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers, root.level, logging.raiseExceptions
    try:
        logs.configure(Settings(log_format="text", log_level="warning"))
        logging.getLogger("resnest_server").info("quiet")
        logging.getLogger("resnest_server").warning("loud")
        assert re.fullmatch(r"[\d :,-]+ WARNING loud\n", capsys.readouterr().err)
    finally:
        root.handlers, level, logging.raiseExceptions = before
        root.setLevel(level)


def as_text(level: int, message: str, *arguments: object, error: Exception | None = None) -> str:
    record = logging.LogRecord("resnest", level, __file__, 1, message, arguments, None)
    if error is not None:
        try:
            raise error
        except type(error):
            record.exc_info = sys.exc_info()
    return logs.TextFormatter(logs.TEXT).format(record)


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ("a\nb", "a\\nb"),
        ("a\r\n2026-01-01 INFO b", "a\\r\\n2026-01-01 INFO b"),
        ("\x1b[31mred\x07\0\x7f", "\\x1b[31mred\\x07\\x00\\x7f"),
        ("\x85\u2028\u2029", "\\x85\\u2028\\u2029"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
        ("\udc80", "\\udc80"),
        ("\U000e0001", "\\U000e0001"),
        ("naïve 猫 © 🐈", "naïve 猫 © 🐈"),
    ],
)
def test_control_characters_are_escaped_in_text(sent: str, written: str) -> None:
    assert re.fullmatch(rf"[\d :,-]+ WARNING it: {re.escape(written)}", as_text(logging.WARNING, "it: %s", sent))


def test_control_characters_of_a_traceback_are_escaped_in_text() -> None:
    text = as_text(logging.ERROR, "failed", error=ValueError("a\x1b[31m\n2026-01-01 00:00:00,000 INFO b"))
    first, *rest = text.split("\n")
    assert first.endswith("ERROR failed") and rest[0] == "  Traceback (most recent call last):"
    assert rest[-2:] == ["  ValueError: a\\x1b[31m", "  2026-01-01 00:00:00,000 INFO b"]
    assert all(line.startswith("  ") for line in rest)


def test_a_log_that_can_not_be_written_stops_nothing() -> None:
    port = free_port()
    command = [*RESNEST, "serve", "--port", str(port)]
    with (
        open("/dev/full", "w") as full,  # noqa: PTH123 - every write fails as on a full disk
        subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=full, stdout=full) as process,
    ):
        try:
            transport = httpx.HTTPTransport(retries=8)  # while it starts
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=transport, timeout=60) as client:
                for _ in range(3):
                    assert client.post("/v1/detect", content=PHOTOGRAPH.read_bytes()).status_code == 200
        finally:
            process.terminate()
            process.wait(timeout=30)
