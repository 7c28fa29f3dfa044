"""The log: a JSON object a line, or text; on stderr."""

from __future__ import annotations

import logging
import sys
from typing import Any

from opentelemetry import trace
from pythonjsonlogger.json import JsonFormatter

from resnest_server.request_context import REQUEST_ID
from resnest_server.settings import Settings

TEXT = "%(asctime)s %(levelname)s %(message)s"


class TextFormatter(logging.Formatter):
    """Writes control characters, which a client may have sent, as escapes, so that one record can't look like two.

    Lines of a traceback are indented.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        return escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - the name is logging's
        return _indented(super().formatStack(stack_info))


def escaped(text: str) -> str:
    """Return a text with escapes such as `\\n` in place of what isn't printable."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _indented(text: str) -> str:
    return "\n".join(f"  {escaped(line)}" for line in text.split("\n"))


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
        else TextFormatter(TEXT)
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
