"""Errors as answers of RFC 9457, `application/problem+json`: one table maps the project's errors to them."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnest_core.errors import (
    ImageTooLargeError,
    ImageTooNarrowError,
    ModelNotFoundError,
    NotAnImageError,
    ParameterError,
    RateLimitedError,
    ResNeStError,
    RuntimeUnavailableError,
    UnauthorizedError,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {"Retry-After": "1"}  # seconds after which what is unavailable is worth another try


class BodyTooLargeError(ResNeStError):
    """The request's body, or the number of images in it, is over the limit."""


class UnsupportedMediaTypeError(ResNeStError):
    """The body is of a type that isn't read here."""


class SlowBodyError(ResNeStError):
    """The client takes too long to send the body."""


# Status and the last part of `type`, which stays the same for a kind of problem whatever its words.
PROBLEMS: dict[type[ResNeStError], tuple[HTTPStatus, str]] = {
    NotAnImageError: (HTTPStatus.BAD_REQUEST, "not-an-image"),
    ModelNotFoundError: (HTTPStatus.NOT_FOUND, "model-not-found"),
    ImageTooLargeError: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "image-too-large"),
    ImageTooNarrowError: (HTTPStatus.UNPROCESSABLE_ENTITY, "image-too-narrow"),
    BodyTooLargeError: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large"),
    UnsupportedMediaTypeError: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type"),
    SlowBodyError: (HTTPStatus.REQUEST_TIMEOUT, "slow-body"),
    UnauthorizedError: (HTTPStatus.UNAUTHORIZED, "unauthorized"),
    RateLimitedError: (HTTPStatus.TOO_MANY_REQUESTS, "rate-limited"),
    ParameterError: (HTTPStatus.UNPROCESSABLE_ENTITY, "bad-parameter"),
    RuntimeUnavailableError: (HTTPStatus.SERVICE_UNAVAILABLE, "unavailable"),
}
INTERNAL = (HTTPStatus.INTERNAL_SERVER_ERROR, "internal")


def problem(error: Exception) -> tuple[HTTPStatus, dict[str, object]]:
    """Return the status and the JSON of an error; of one that isn't ours nothing is told."""
    status, slug = next((row for kind, row in PROBLEMS.items() if isinstance(error, kind)), INTERNAL)
    detail = "Something went wrong in the server: its log says more."
    return status, described(status, slug, detail if status is INTERNAL[0] else str(error))


def described(status: HTTPStatus, slug: str, detail: str) -> dict[str, object]:
    """Return the JSON of a problem."""
    return {"type": f"/problems/{slug}", "title": status.phrase, "status": status.value, "detail": detail}


def answer(status: HTTPStatus, body: dict[str, object], headers: dict[str, str] | None = None) -> Response:
    """Return a problem as an answer."""
    return Response(to_json(body), status, headers, MEDIA_TYPE)


def _headers(error: Exception) -> dict[str, str]:
    """Return the headers that an error's answer has besides."""
    if isinstance(error, RateLimitedError):
        return {"Retry-After": f"{error.retry_after:.0f}"}
    if isinstance(error, RuntimeUnavailableError):
        return RETRY_AFTER
    if isinstance(error, UnauthorizedError):
        return {"WWW-Authenticate": "Bearer"}
    return {}


class UnexpectedErrors:
    """ASGI middleware: answers an exception that nothing else handles with 500, and logs it.

    Starlette's own handler of these sits outside of all middleware: its answers have no request id, CORS headers or
    security headers. Once a response has begun it can't become a 500: the exception is raised, and the server logs it
    and closes the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_noting_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_noting_start)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            log.exception("%s %s failed.", scope["method"], scope["path"])
            status, body = problem(error)
            await answer(status, body)(scope, receive, send)


def install(app: FastAPI) -> None:
    """Answer every error of this project, and every HTTP error of the router, as a problem."""

    async def on_error(_: Request, error: Exception) -> Response:
        status, body = problem(error)
        return answer(status, body, _headers(error))

    async def on_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        slug = status.phrase.lower().replace(" ", "-")
        body = described(status, slug, f"{error.detail}: /docs lists the routes.")
        return answer(status, body, dict(error.headers or {}))

    app.add_exception_handler(ResNeStError, on_error)
    app.add_exception_handler(HTTPException, on_http)
