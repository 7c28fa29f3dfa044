"""What the routes of one application share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from resnest_core.errors import RuntimeUnavailableError
from resnest_server.access import Access
from resnest_server.metrics import Metrics
from resnest_server.models import Models
from resnest_server.pipeline import Pipeline
from resnest_server.settings import Settings


@dataclass
class Gateway:
    """Settings, models and what runs them; `ending` once the process was told to end."""

    settings: Settings
    models: Models
    pipeline: Pipeline
    metrics: Metrics
    access: Access
    ending: bool = False

    def check_ready(self) -> None:
        """Raise RuntimeUnavailableError, with the reason, where requests are not answered."""
        if self.ending:
            raise RuntimeUnavailableError("This server is about to end: send requests to another.")
        self.pipeline.check_health()


async def _of_app(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


async def _check_access(request: Request) -> None:
    (await _of_app(request)).access.check(request)


GatewayOf = Annotated[Gateway, Depends(_of_app)]
access_checked = Depends(_check_access)
