"""A detector behind the HTTP gateway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import ValidationError

from resnest_core.card import ModelCard
from resnest_core.closing import Closing
from resnest_core.detections import Detections
from resnest_core.detector import checked_threshold
from resnest_core.drawing import encode
from resnest_core.errors import (
    ImageTooLargeError,
    MissingExtraError,
    ModelNotFoundError,
    NotAnImageError,
    ParameterError,
    RemoteError,
    ResNeStError,
    RuntimeUnavailableError,
)
from resnest_core.formats import from_native
from resnest_core.images import Image, load_image, read_file, read_header

if TYPE_CHECKING:
    import httpx

TIMEOUT = 60.0  # seconds; a large model on a busy CPU takes its time

# The gateway's problem types, as the errors that the same fault raises in the process.
PROBLEMS: dict[str, type[ResNeStError]] = {
    "not-an-image": NotAnImageError,
    "unsupported-media-type": NotAnImageError,
    "image-too-large": ImageTooLargeError,
    "body-too-large": ImageTooLargeError,
    "model-not-found": ModelNotFoundError,
    "bad-parameter": ParameterError,
    "unavailable": RuntimeUnavailableError,
}
UNAVAILABLE = (429, 502, 503, 504)  # whoever answers them, the gateway or a proxy before it: later may be better


class HttpDetector(Closing):
    """Detects objects through the gateway at `url`; a context manager, for use from several threads.

    Args:
        url: such as `http://localhost:8000`.
        model: None: the server's default one.
        timeout: seconds for one request.
        transport: httpx's, for tests.

    Raises:
        ParameterError: the address isn't one of HTTP.
        ModelNotFoundError: the server has no such model.
        RuntimeUnavailableError: the server can't be reached.
        RemoteError: what answers there isn't the gateway.
        MissingExtraError: httpx isn't installed.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        timeout: float = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingExtraError("httpx", "client") from error
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ParameterError(f"{url} is not an address: use one such as http://localhost:8000.") from error
        if address.scheme not in ("http", "https") or not address.host:
            raise ParameterError(f"{url} is not an address of HTTP: use one such as http://localhost:8000.")
        self._client = httpx.Client(base_url=address, timeout=timeout, transport=transport)
        self._connection_error = httpx.HTTPError
        try:
            self.card = self._fetch_card(model)
        except BaseException:
            self.close()
            raise

    def detect(self, image: Image, *, score_threshold: float | None = None, masks: bool = True) -> Detections:
        """See `resnest_core.detector.Detector.detect`; encoded images are sent as they are, pixels as PNG.

        Raises, besides what is said there:
            RuntimeUnavailableError: the server can't be reached, or is full.
            RemoteError: the server's answer makes no sense.
        """
        data = _encoded(image)
        wanted = masks and self.card.has_masks
        answer = self._request(
            "POST",
            f"{self._address(self.card.name)}/detect",
            content=data,
            headers={"Content-Type": f"image/{read_header(data).format.lower()}"},
            params={
                "score_threshold": checked_threshold(score_threshold, self.card),
                "max_detections": self.card.max_detections,
                "masks": "raw" if wanted else "none",
                "format": "native",
            },
        )
        return from_native(answer, self.card.mask_size if wanted else None)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _fetch_card(self, model: str | None) -> ModelCard:
        try:
            name = model if model is not None else self._request("GET", "/v1/models")["default"]
            return ModelCard.model_validate(self._request("GET", self._address(name)))
        except (KeyError, TypeError, ValidationError) as error:
            raise self._not_ours() from error

    def _address(self, model: str) -> str:
        return f"/v1/models/{quote(model, safe='')}"

    def _request(self, method: str, path: str, **arguments: Any) -> Any:
        """Return the JSON of an answer, or raise what its problem stands for."""
        try:
            response = self._client.request(method, path, **arguments)
        except self._connection_error as error:
            reason = str(error) or type(error).__name__
            raise RuntimeUnavailableError(f"{self._client.base_url} can't be reached: {reason}.") from error
        if response.is_error:
            raise _problem(response)
        try:
            return response.json()
        except ValueError as error:
            raise self._not_ours() from error

    def _not_ours(self) -> RemoteError:
        return RemoteError(f"{self._client.base_url} is not a gateway of this project: check the address.")


def _encoded(image: Image) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return read_file(image)
    return encode(load_image(image), "image/png")


def _problem(response: httpx.Response) -> ResNeStError:
    """Return the error that an answer stands for: the gateway's are problem+json (RFC 9457)."""
    otherwise = RuntimeUnavailableError if response.status_code in UNAVAILABLE else RemoteError
    try:
        problem = response.json()
        kind, detail = str(problem["type"]).rpartition("/")[2], str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return otherwise(f"{response.url} answered {response.status_code} {response.reason_phrase}: check the address.")
    return PROBLEMS.get(kind, otherwise)(detail)
