"""A gateway without a network: answers httpx's requests as DESIGN's interface says, from a fake runtime."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from resnest_core.detector import InProcessDetector
from resnest_core.errors import NotAnImageError
from resnest_core.formats import native
from resnest_core.runtimes import FakeRuntime


def problem(status: int, slug: str, detail: str = "Do it otherwise.") -> httpx.Response:
    """Return an answer of RFC 9457."""
    body = {"type": f"/problems/{slug}", "title": slug, "status": status, "detail": detail}
    return httpx.Response(status, json=body, headers={"Content-Type": "application/problem+json"})


class Gateway(httpx.MockTransport):
    """Serves one model; `requests` records what came, `intercept` may answer a detection first, or return None."""

    def __init__(
        self,
        runtime: FakeRuntime | None = None,
        intercept: Callable[[httpx.Request], httpx.Response | None] | None = None,
    ) -> None:
        super().__init__(self._answer)
        self.detector = InProcessDetector(runtime or FakeRuntime())
        self.requests: list[httpx.Request] = []
        self._intercept = intercept

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        card = self.detector.card
        address = f"/v1/models/{card.name}"
        if (request.method, request.url.path) == ("GET", "/v1/models"):
            return httpx.Response(200, json={"models": [card.model_dump(mode="json")], "default": card.name})
        if (request.method, request.url.path) == ("GET", address):
            return httpx.Response(200, json=card.model_dump(mode="json"))
        if (request.method, request.url.path) != ("POST", f"{address}/detect"):
            return problem(404, "model-not-found", "There is no such model.")
        answer = (self._intercept(request) if self._intercept else None) or self._detect(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def _detect(self, request: httpx.Request) -> httpx.Response:
        masks = request.url.params["masks"]
        try:
            found = self.detector.detect(
                request.content, score_threshold=float(request.url.params["score_threshold"]), masks=masks != "none"
            )
        except NotAnImageError as error:
            return problem(400, "not-an-image", str(error))
        return httpx.Response(200, json=native(found, self.detector.card, masks=masks))
