"""Which detector a command works with: one in this process, or one behind a server; the options that say so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console

from resnest_client.client_limits import GRPC_MAX_CONCURRENCY, MAX_CONCURRENCY, RETRIES
from resnest_core.detector import InProcessDetector
from resnest_core.errors import ModelNotFoundError, ParameterError
from resnest_core.repository import default_model, find_repository, installed_models, load_detector
from resnest_core.runtimes import AUTOMATIC, RUNTIMES, devices

if TYPE_CHECKING:
    from resnest_client import GrpcDetector, HttpDetector

GRPC = "grpc://"
HIDDEN = "…"

ModelOption = Annotated[
    str | None, typer.Option("--model", help="Name of the model. Default: the server's or repository's default model.")
]
RuntimeOption = Annotated[
    str | None,
    typer.Option("--runtime", help=f"{', '.join(RUNTIMES)}. Default: the first installed of {AUTOMATIC}."),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help=f"{' or '.join(devices())}. Default: the runtime's first choice.")
]
RepositoryOption = Annotated[Path | None, typer.Option("--repository", help="The model repository.")]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", help="Send images to a server: a gateway, http://localhost:8000, or Triton, grpc://localhost:8001."
    ),
]
ApiKeyOption = Annotated[
    str | None, typer.Option("--api-key", help="Key of the gateway; safer in the environment, as RESNEST_API_KEY.")
]
ConcurrencyOption = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        help="Number of concurrent requests. "
        f"Default: {MAX_CONCURRENCY} to a gateway, {GRPC_MAX_CONCURRENCY} to Triton.",
    ),
]


@dataclass(frozen=True)
class DetectorOptions:
    """A detector that options name; None: not given.

    Raises:
        ParameterError: an option would do nothing.
    """

    url: str | None = None
    model: str | None = None
    runtime: str | None = None
    device: str | None = None
    repository: Path | None = None
    api_key: str | None = None

    def __post_init__(self) -> None:
        local = {"--runtime": self.runtime, "--device": self.device, "--repository": self.repository}
        given = [name for name, value in local.items() if value is not None]
        if self.url is not None and given:
            raise ParameterError(f"{' and '.join(given)} can't be chosen with --url: the server has its own.")
        if is_grpc(self.url) and self.api_key is not None:
            raise ParameterError("--api-key is for a gateway: Triton asks for none.")

    def at_once(self, concurrency: int | None) -> int:
        """Return how many images are worked on at a time, where `--concurrency` is this.

        Raises:
            ParameterError: the option would do nothing, or isn't a number of requests.
        """
        if self.url is None:
            if concurrency is not None:
                raise ParameterError(
                    "--concurrency is for --url: in this process one image is detected after the other."
                )
            return 1
        if concurrency is not None and concurrency < 1:
            raise ParameterError(f"--concurrency must be at least 1, not {concurrency}.")
        return concurrency or (GRPC_MAX_CONCURRENCY if is_grpc(self.url) else MAX_CONCURRENCY)

    def open(
        self, console: Console, max_concurrency: int = 1, *, threads: int | None = None, retries: int = RETRIES
    ) -> InProcessDetector | GrpcDetector | HttpDetector:
        """Return the detector; the console is told which model is taken where none is named.

        Args:
            max_concurrency: requests in flight at a time, to a server.
            threads: of a runtime in this process; None: as many as this process may use CPUs.
            retries: how many times at most a request to a server is sent again.
        """
        if self.url is None:
            return _local(self.model, self.runtime, self.device, self.repository, threads, console)
        return _remote(self.url, self.model, self.api_key, max_concurrency, retries)


def is_grpc(url: str | None) -> bool:
    """Tell whether an address is one of Triton's gRPC port."""
    return url is not None and url.lower().startswith(GRPC)


def _remote(
    url: str, model: str | None, api_key: str | None, max_concurrency: int, retries: int
) -> GrpcDetector | HttpDetector:
    if is_grpc(url):
        from resnest_client import GrpcDetector

        return GrpcDetector(url, model, retries=retries, max_concurrency=max_concurrency)
    from resnest_client import HttpDetector

    return HttpDetector(url, model, api_key=api_key, retries=retries, max_concurrency=max_concurrency)


def _local(
    model: str | None,
    runtime: str | None,
    device: str | None,
    repository: Path | None,
    threads: int | None,
    console: Console,
) -> InProcessDetector:
    if model is None:
        where = find_repository(repository)
        names = installed_models(where)
        if not names:
            raise ModelNotFoundError(f"There are no models in {where}: `resnest export NAME` makes one.")
        model = default_model(names)
        if len(names) > 1:
            console.print(f"Using {model}, the first of {', '.join(names)}; --model names another.", markup=False)
    return load_detector(model, runtime=runtime, device=device, threads=threads, repository=repository)


def without_user(url: str) -> str:
    """Return an address without the user's name and password; anything else as it is."""
    if "://" not in url or "@" not in url:
        return url
    try:
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    except ValueError:
        return HIDDEN
