"""The servers that are compared, each as `python -m benchmarks.gateway.servers NAME PORT`.

`empty` is uvicorn and FastAPI with a route that reads the body and answers nothing: no gateway on them can cost less.
LitServe and BentoML serve as their documentation shows, with one worker and without batching.
"""

import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.gateway.work import make_detector


def empty(port: int) -> None:
    import uvicorn
    from fastapi import FastAPI, Request, Response

    app = FastAPI()

    @app.post("/v1/detect")
    async def detect(request: Request) -> Response:
        await request.body()
        return Response(b"{}", media_type="application/json")

    uvicorn.run(app, port=port, http="httptools", loop="uvloop", access_log=False, log_level="warning")


def ours(port: int) -> None:
    from resnest_server import Settings, create_app, logs
    from resnest_server.engines import LocalEngine
    from resnest_server.uvicorn_server import make_server

    settings = Settings(port=port, log_level="warning")
    logs.configure(settings)
    server, listeners = make_server(create_app(settings, [LocalEngine(make_detector(), settings)]), settings)
    server.run(sockets=listeners)


def litserve(port: int) -> None:
    import litserve as ls

    from benchmarks.gateway.lit import Detect

    server = ls.LitServer(Detect(api_path="/v1/detect"), accelerator="cpu", workers_per_device=1)
    server.run(port=port, host="127.0.0.1", generate_client_file=False, log_level="warning")


def bentoml(port: int) -> None:
    arguments = ["serve", "benchmarks.gateway.bento:Detect", "--port", str(port), "--host", "127.0.0.1"]
    os.execv(str(Path(sys.executable).with_name("bentoml")), ["bentoml", *arguments])


SERVERS: dict[str, Any] = {"empty": empty, "ours": ours, "litserve": litserve, "bentoml": bentoml}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]))
