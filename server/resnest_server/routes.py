"""Models, health and metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from resnest_core.published import PUBLISHED
from resnest_server import openapi
from resnest_server.engines import Engine
from resnest_server.gateway import GatewayOf, access_checked
from resnest_server.metrics import CONTENT_TYPE_LATEST

models = APIRouter(prefix="/v1/models", dependencies=[access_checked])
operations = APIRouter()


@models.get("", responses=openapi.LISTED)
async def list_models(gateway: GatewayOf) -> dict[str, Any]:
    """List the models, and the name of the default one."""
    return {"models": [_shown(engine) for engine in gateway.engines.values()], "default": gateway.default}


@models.get("/{model}", responses=openapi.CARD)
async def show_model(model: str, gateway: GatewayOf) -> dict[str, Any]:
    """Show a model's card: classes, test scale, thresholds, checkpoint, runtime and device."""
    return _shown(gateway.engine(model))


def _shown(engine: Engine) -> dict[str, Any]:
    """Return a model's card, runtime and device, and the published accuracy of the detector of its name."""
    row = PUBLISHED.get(engine.name)
    return {
        **engine.card.model_dump(mode="json"),
        "runtime": engine.runtime,
        "device": engine.device,
        "published": {"box_ap": row.box_ap, "mask_ap": row.mask_ap} if row else None,
    }


@operations.get("/health/live")
async def live() -> dict[str, str]:
    """Liveness: the process answers."""
    return {"status": "live"}


@operations.get("/health/ready", responses=openapi.UNAVAILABLE)
async def ready(gateway: GatewayOf) -> dict[str, str]:
    """Readiness: 503 with the reason while requests aren't answered."""
    gateway.check_ready()
    return {"status": "ready"}


@operations.get("/metrics", response_class=PlainTextResponse)
async def metrics(gateway: GatewayOf) -> Response:
    """Prometheus metrics."""
    return Response(gateway.metrics.render(), media_type=CONTENT_TYPE_LATEST)
