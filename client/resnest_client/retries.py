"""Retry policy: retries only safe requests, and never before the time in the server's Retry-After.

Detection has no side effects on the server, so a request is retried if its connection failed or broke (RFC 9110,
9.2.2), or if the server refused it temporarily. Time-outs aren't retried: the server may still be processing the
request. gRPC reports the first two as UNAVAILABLE, and a time-out as DEADLINE_EXCEEDED.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tenacity import RetryCallState, stop_after_attempt, stop_before_delay, wait_random_exponential

from resnest_core.errors import ParameterError

BROKEN = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,
)
LATER = (429, 502, 503, 504)
LONGEST = 30.0  # seconds; longer Retry-After values raise immediately

backoff = wait_random_exponential(multiplier=0.5, max=8)  # seconds: up to 0.5, 1, 2 …


def policy(retries: int) -> dict[str, Any]:
    """Return the arguments of `tenacity.Retrying` and `tenacity.AsyncRetrying`, which return the last response.

    Raises:
        ParameterError: there are less than 0 retries.
    """
    return {
        "stop": _attempts(retries),
        "retry": is_worth_it,
        "wait": seconds_to_wait,
        "retry_error_callback": _last,
    }


def grpc_policy(retries: int, timeout: float) -> dict[str, Any]:
    """Return the arguments of `tenacity.AsyncRetrying` for calls limited to `timeout` seconds over all attempts.

    Raises:
        ParameterError: there are less than 0 retries.
    """
    return {
        "stop": _attempts(retries) | stop_before_delay(timeout),
        "retry": is_unavailable,
        "wait": backoff,
        "retry_error_callback": _last,
    }


def is_unavailable(state: RetryCallState) -> bool:
    """Return whether a gRPC call failed because Triton was unreachable, disconnected or temporarily refusing."""
    assert state.outcome is not None
    status = getattr(state.outcome.exception(), "status", None)  # of tritonclient's InferenceServerException
    return status is not None and str(status()) == "StatusCode.UNAVAILABLE"


def is_worth_it(state: RetryCallState) -> bool:
    """Return whether the request may be retried."""
    assert state.outcome is not None
    if state.outcome.failed:
        return isinstance(state.outcome.exception(), BROKEN)
    response: httpx.Response = state.outcome.result()
    return response.status_code in LATER and (retry_after(response) or 0) <= LONGEST


def seconds_to_wait(state: RetryCallState) -> float:
    """Return the server's Retry-After plus a random time, so that clients don't all retry at once."""
    assert state.outcome is not None
    asked = None if state.outcome.failed else retry_after(state.outcome.result())
    return (asked or 0) + backoff(state)


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds of a Retry-After header (seconds or date); None if it is missing or invalid."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _attempts(retries: int) -> stop_after_attempt:
    if retries < 0:
        raise ParameterError(f"retries must be at least 0, not {retries}.")
    return stop_after_attempt(1 + retries)


def _last(state: RetryCallState) -> Any:
    """Return what the last attempt returned, or raise what it raised."""
    assert state.outcome is not None
    return state.outcome.result()
