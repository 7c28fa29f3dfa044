"""Start Triton Inference Server on a model repository, in the foreground; it is built first where it isn't there yet.

    python deploy/triton/serve.py [--repository model_repository] [--http-port 8000] [--grpc-port 8001] … [-- MORE]

SIGTERM and SIGINT let it finish what it works on. A model whose process dies is loaded again (supervise.py). What
follows `--` is for `tritonserver` itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from deploy.triton.home import SOURCE, Home, build, install_project
    from deploy.triton.supervise import supervise
except ImportError:  # as a script, it lies beside this one
    from home import SOURCE, Home, build, install_project  # type: ignore[import-not-found, no-redef]
    from supervise import supervise  # type: ignore[import-not-found, no-redef]


def command(home: Home, repository: Path, *, host: str, http_port: int, grpc_port: int, metrics_port: int) -> list[str]:
    """Return the command line of a server."""
    return [
        str(home.server),
        f"--model-repository={repository.absolute()}",
        f"--backend-directory={home.backends}",
        f"--http-address={host}",
        f"--http-port={http_port}",
        f"--grpc-address={host}",
        f"--grpc-port={grpc_port}",
        f"--metrics-address={host}",
        f"--metrics-port={metrics_port}",
        "--allow-gpu-metrics=false",
        # A model that can't be loaded is unavailable; the others serve, and the server is ready for them.
        "--exit-on-error=false",
        "--strict-readiness=false",
        # So that supervise.py may load a model again whose process died.
        "--model-control-mode=explicit",
        "--load-model=*",
        # Configurations are whole: nothing is to be guessed, and no model started to be asked.
        "--disable-auto-complete-config",
        "--exit-timeout-secs=20",
        # In milliseconds. A client that connects again resolves the server's name again, so that it finds new servers
        # and leaves those that are about to end. Requests in flight keep their connection.
        "--grpc-max-connection-age=10000",
        # Several servers on one machine must not share memory by accident.
        f"--backend-config=python,shm-region-prefix-name=resnest_{http_port}",
    ]


def extended(command: Sequence[str], more: Sequence[str]) -> list[str]:
    """Return a command with more options, which replace those of the same name."""
    names = {option.partition("=")[0] for option in more}
    return [*(option for option in command if option.partition("=")[0] not in names), *more]


def main(arguments: Sequence[str] | None = None) -> None:
    """Build what is missing, and run the server."""
    parser = argparse.ArgumentParser(description="Start a Triton Inference Server that is built from a wheel.")
    parser.add_argument("--repository", type=Path, default=SOURCE / "model_repository")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument("more", nargs="*", help="options of tritonserver itself, after --")
    parser.add_argument("--home", type=Path, help="where the server is built")
    parser.add_argument(
        "--project", type=Path, help="where this project is installed already, for the models to import"
    )
    asked = parser.parse_args(arguments)
    home = build(asked.home)
    project = asked.project or install_project(home, home.folder / "project")
    ports = {name: getattr(asked, name) for name in ("host", "http_port", "grpc_port", "metrics_port")}
    server = extended(command(home, asked.repository, **ports), asked.more)
    sys.exit(supervise(server, asked.http_port, home.environment(project)))


if __name__ == "__main__":
    main()
