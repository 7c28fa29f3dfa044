"""The log: a JSON object a line, or text; on stderr."""

from __future__ import annotations

import logging
import sys

from opentelemetry import trace
from pythonjsonlogger.json import JsonFormatter

from resnest_server.request_context import REQUEST_ID
from resnest_server.settings import Settings

TEXT = "%(asctime)s %(levelname)s %(message)s"


def configure(settings: Settings) -> None:
    """Log to stderr, in the format of the settings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_ids)
    handler.setFormatter(
        JsonFormatter(
            "{asctime}{levelname}{name}{message}{request_id}{trace_id}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
        if settings.log_format == "json"
        else logging.Formatter(TEXT)
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    logging.raiseExceptions = False  # a log that can't be written, to a full disk say, is no reason to stop
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # this package's own lines say more
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of what clients are told


def _add_ids(record: logging.LogRecord) -> bool:
    """Add the ids of the request and the trace to every record."""
    record.request_id = REQUEST_ID.get()
    span = trace.get_current_span().get_span_context()
    record.trace_id = trace.format_trace_id(span.trace_id) if span.is_valid else None
    return True
