"""Sans-I/O core shared by the synchronous and asynchronous HTTP clients: it builds requests and reads responses.

A client sends a `GatewayRequest` over its own connections; `GatewayRequest.read` turns the response into the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from resnest_client.client_limits import CONNECT_TIMEOUT, check_bounds
from resnest_client.image_bytes import encoded
from resnest_client.proxies import direct_mounts
from resnest_client.retries import retry_after
from resnest_client.served_model import ServedModel, read_served_model
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import checked_threshold
from resnest_core.errors import (
    ForbiddenError,
    ImageTooLargeError,
    ImageTooNarrowError,
    ModelNotFoundError,
    NotAnImageError,
    OverloadedError,
    ParameterError,
    RateLimitedError,
    RemoteError,
    ResNeStError,
    RuntimeUnavailableError,
    TimedOutError,
    UnauthorizedError,
    UnreachableError,
)
from resnest_core.formats import from_native
from resnest_core.image_header import media_type
from resnest_core.images import Color, Image

API_KEY = "RESNEST_API_KEY"  # the environment variable
KEEP_ALIVE = 4.0  # seconds for idle connections: less than any usual server's, so that none is closed while in use

# The gateway's problem types, as the errors that the same fault raises in the process.
PROBLEMS: dict[str, type[ResNeStError]] = {
    "not-an-image": NotAnImageError,
    "unsupported-media-type": NotAnImageError,
    "image-too-large": ImageTooLargeError,
    "image-too-narrow": ImageTooNarrowError,
    "body-too-large": ImageTooLargeError,
    "model-not-found": ModelNotFoundError,
    "bad-parameter": ParameterError,
    "unauthorized": UnauthorizedError,
    "rate-limited": RateLimitedError,
    "slow-body": TimedOutError,
    "unavailable": OverloadedError,
}
# Errors by status, for responses without a problem type: a proxy's, for instance.
STATUSES: dict[int, type[ResNeStError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    408: TimedOutError,
    413: ImageTooLargeError,
    429: RateLimitedError,
    502: UnreachableError,
    503: OverloadedError,
    504: TimedOutError,
}

T = TypeVar("T")


@dataclass(frozen=True)
class GatewayRequest(Generic[T]):
    """A request, and how to read its response."""

    method: str
    path: str
    read: Callable[[httpx.Response], T] = field(repr=False)
    """Raises the error that the response stands for, if it does."""
    content: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of `httpx.Client.request`."""
        return {
            "method": self.method,
            "url": self.path,
            "content": self.content,
            "headers": self.headers,
            "params": self.params,
        }


class GatewayProtocol:
    """Makes requests for the gateway at `url`, and reads its responses; it does no I/O except for reading images.

    Raises:
        ParameterError: the address isn't one of HTTP, or the key can't be one.
    """

    def __init__(self, url: str, api_key: str | None) -> None:
        self._url = _address(url)
        self._key = _checked_key(os.environ.get(API_KEY) if api_key is None else api_key)
        self._shown = _without_user(self._url)

    def client_options(self, timeout: float, max_concurrency: int) -> dict[str, Any]:
        """Return the arguments of `httpx.Client` and of `httpx.AsyncClient`.

        Raises:
            ParameterError: one is outside what it may be.
        """
        check_bounds(timeout, max_concurrency)
        return {
            "base_url": self._url,
            "headers": {"Authorization": f"Bearer {self._key}"} if self._key else {},
            "timeout": httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
            "mounts": direct_mounts(self._url),
            "limits": httpx.Limits(max_keepalive_connections=max_concurrency, keepalive_expiry=KEEP_ALIVE),
        }

    def served_model(self, model: str | None) -> GatewayRequest[ServedModel]:
        """Return the request for a model's description; for that of the default model where it is None.

        Raises:
            ModelNotFoundError: no model can have this name.
        """

        def read(response: httpx.Response) -> ServedModel:
            answer = self._json(response)
            try:
                if model is None:
                    answer = next(card for card in answer["models"] if card["name"] == answer["default"])
                return read_served_model(answer)
            except (KeyError, TypeError, StopIteration, ValidationError) as error:
                raise self._not_ours() from error

        return GatewayRequest("GET", "/v1/models" if model is None else _path(model), read)

    def detections(
        self, image: Image, card: ModelCard, score_threshold: float | None, masks: bool, color: Color = "rgb"
    ) -> GatewayRequest[Detections]:
        """Return the request for an image's detections: encoded images are sent as they are, pixels as PNG.

        Raises:
            ImageError: the image can't be used.
            ParameterError: the threshold isn't in 0…1.
        """
        threshold = checked_threshold(score_threshold, card)
        data = encoded(image, color)
        mask_size = card.mask_size if masks else None
        return GatewayRequest(
            "POST",
            f"{_path(card.name)}/detect",
            lambda response: from_native(self._json(response), mask_size),
            content=data,
            headers={"Content-Type": media_type(data)},
            params={
                "score_threshold": threshold,
                "max_detections": card.max_detections,
                "masks": "none" if mask_size is None else "raw",
                "format": "native",
            },
        )

    def unreachable(self, error: httpx.HTTPError) -> RuntimeUnavailableError:
        """Return the error for a request that got no complete response."""
        if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
            return TimedOutError(f"{self._shown} didn't answer in time: raise `timeout`, or ask it less at once.")
        return UnreachableError(f"{self._shown} can't be reached: {str(error) or type(error).__name__}.")

    def _json(self, response: httpx.Response) -> Any:
        """Return the JSON of a response, or raise the error that its problem stands for."""
        if response.is_error:
            raise _problem(response)
        try:
            return response.json()
        except ValueError as error:
            raise self._not_ours() from error

    def _not_ours(self) -> RemoteError:
        return RemoteError(f"{self._shown} is not a gateway of this project: check the address.")


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ParameterError(f"{url} is not an address: use one such as http://localhost:8000.") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise ParameterError(f"{url} is not an address of HTTP: use one such as http://localhost:8000.")
    return address


def _without_user(url: httpx.URL) -> httpx.URL:
    """Return an address that can be shown: no user's name and password."""
    return url.copy_with(username="", password="")


def _checked_key(key: str | None) -> str | None:
    """Return a key that a header can hold, or None where it is empty. It is in no message."""
    if not key:
        return None
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ParameterError("The API key may have printable ASCII characters only, and no spaces.")
    return key


def _path(model: str) -> str:
    """Return a model's path. A segment of dots would be resolved to another path, which may answer something else."""
    if model in ("", ".", ".."):
        raise ModelNotFoundError(f"There can be no model {model!r}: /v1/models lists what the server has.")
    return f"/v1/models/{quote(model, safe='')}"


def _problem(response: httpx.Response) -> ResNeStError:
    """Return the error that a response stands for: the gateway's are problem+json (RFC 9457)."""
    otherwise = STATUSES.get(response.status_code, RemoteError)
    try:
        problem = response.json()
        kind, detail = str(problem["type"]).rpartition("/")[2], str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        address = _without_user(response.url)
        kind, detail = "", f"{address} answered {response.status_code} {response.reason_phrase}: check the address."
    error = PROBLEMS.get(kind, otherwise)(detail)
    if isinstance(error, RateLimitedError | OverloadedError):
        error.retry_after = retry_after(response)
    return error
