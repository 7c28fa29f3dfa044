"""OpenTelemetry's traces, where the settings say where they go: FastAPI and the pipeline make the spans."""

from __future__ import annotations

from resnest_core.errors import MissingExtraError


def send_traces(endpoint: str) -> None:
    """Send spans to `endpoint` by OTLP over HTTP from now on.

    Raises:
        MissingExtraError: the packages aren't installed.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtraError("opentelemetry-sdk", "telemetry") from error
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: "resnest-serving"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
    trace.set_tracer_provider(provider)
