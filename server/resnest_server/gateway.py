"""The state that the routes of one application share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from resnest_core.errors import ModelNotFoundError, RuntimeUnavailableError
from resnest_core.messages import shortened
from resnest_server.access import Access
from resnest_server.engines import Engine
from resnest_server.in_flight import BytesInFlight
from resnest_server.metrics import Metrics
from resnest_server.pipeline import Pipeline
from resnest_server.settings import Settings


@dataclass
class Gateway:
    """Settings, and the served models by name; `ending` is set once the process is shutting down."""

    settings: Settings
    engines: dict[str, Engine]
    default: str
    """The name of the model that `/v1/detect` uses."""
    pipeline: Pipeline
    metrics: Metrics
    access: Access
    bytes_in_flight: BytesInFlight
    ending: bool = False

    def engine(self, name: str) -> Engine:
        """Return the engine of the model of this name.

        Raises:
            ModelNotFoundError: it isn't served.
        """
        if name not in self.engines:
            raise ModelNotFoundError(
                f"There is no model {shortened(repr(name))} here: use one of {', '.join(self.engines)}."
            )
        return self.engines[name]

    def check_ready(self) -> None:
        """Raise RuntimeUnavailableError, with the reason, where requests are not answered."""
        if self.ending:
            raise RuntimeUnavailableError("This server is about to end: send requests to another.")
        for engine in self.engines.values():
            engine.check_health()


async def _of_app(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


async def _check_access(request: Request) -> None:
    (await _of_app(request)).access.check(request)


GatewayOf = Annotated[Gateway, Depends(_of_app)]
access_checked = Depends(_check_access)
