"""The gateway's settings: environment variables `RESNEST_…`, options of `resnest serve`, or arguments in Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import limits
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from typing_extensions import Self

from resnest_core.errors import ParameterError
from resnest_core.grpc_address import grpc_address
from resnest_core.images import MAX_PIXELS
from resnest_core.runtimes import AUTOMATIC, RUNTIMES, devices
from resnest_server.cors import checked_origin
from resnest_server.environment import PREFIX, without_links

Names = Annotated[tuple[str, ...], NoDecode]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode]


MEGAPIXEL = 1_000_000
TRITON = "triton"  # the runtime of models that Triton Inference Server runs


class Settings(BaseSettings):
    """The gateway's settings; each can be given as an environment variable, in capitals after `RESNEST_`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address to listen on; :: is every address of IPv6 and IPv4.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")

    repository: Path | None = Field(
        default=None, description="Model repository; else ./model_repository, else the repository of the demo model."
    )
    models: Names = Field(default=(), description="Models to serve, separated by commas; else all in the repository.")
    default_model: str | None = Field(
        default=None, description="The model that /v1/detect uses; else the first of those served, by name."
    )
    runtime: str | None = Field(
        default=None,
        description=f"What runs the networks: {', '.join(RUNTIMES)} or {TRITON}; "
        f"else the first installed of {AUTOMATIC}.",
    )
    fallback: bool = Field(
        default=True,
        description="Whether ONNX Runtime runs a model whose TensorRT engine can't; else nothing starts.",
    )
    device: str | None = Field(
        default=None, description=f"Where they run: {' or '.join(devices())}; else the runtime's own first choice."
    )
    optimize: Literal["latency", "throughput"] = Field(
        default="latency",
        description="What the CPUs are divided for: a single image's time, or images per second with many clients.",
    )
    threads: int | None = Field(
        default=None, ge=1, description="Threads of a batch; else its share of the CPUs that this process may use."
    )

    triton_url: str = Field(
        default="localhost:8001",
        description="Triton's gRPC address, such as grpc://localhost:8001; those of several as dns:///triton:8001 or "
        "ipv4:10.0.0.1:8001,10.0.0.2:8001.",
    )
    triton_wait_seconds: float = Field(
        default=60, ge=0, description="Time limit for Triton to become ready at startup."
    )

    instances: int | None = Field(
        default=None, ge=1, description="Batches of a model that run concurrently; else as RESNEST_OPTIMIZE chooses."
    )
    max_batch: int = Field(default=1, ge=1, description="Maximum images of one padded shape in a batch.")
    max_wait_ms: float = Field(default=0, ge=0, description="Maximum wait of an image for a batch to fill.")
    max_queue: int = Field(default=64, ge=1, description="Maximum images of a model in flight; more are refused (503).")
    request_seconds: float = Field(
        default=60, gt=0, description="Time limit for a response, from the end of the body (503)."
    )
    body_seconds: float = Field(default=30, gt=0, description="Time limit for a client to send a request's body (408).")
    header_seconds: float = Field(default=10, gt=0, description="Time limit for a client to send its headers (408).")
    send_seconds: float = Field(
        default=30,
        gt=0,
        description="Time limit for a client to read 64 KiB of an answer; else it is cut off.",
    )
    idle_seconds: int = Field(
        default=75,
        ge=1,
        description="Time after which an idle connection is closed; more than a proxy before it keeps one.",
    )
    shutdown_seconds: int = Field(default=30, ge=0, description="Time limit for requests in flight after SIGTERM.")

    max_header_bytes: int = Field(
        default=64 * 1024, ge=1024, description="Maximum size of a request's line and headers (431)."
    )
    max_headers: int = Field(default=100, ge=16, description="Maximum number of a request's headers (431).")
    max_connections: int = Field(
        default=1000,
        ge=1,
        description="Maximum open connections; one more closes the one that has been waited for longest (503).",
    )
    max_connections_per_address: int | None = Field(
        default=None, ge=1, description="Maximum open connections of one address, likewise; not for use behind a proxy."
    )
    max_bytes_in_flight: int = Field(
        default=512 * 2**20, ge=1, description="Maximum size of all bodies being received or answered, together (503)."
    )
    max_body_bytes: int = Field(default=32 * 2**20, ge=1, description="Maximum size of a request's body (413).")
    max_pixels: int = Field(default=MAX_PIXELS, ge=1, description="Maximum width × height of an image (413).")
    max_decoding_pixels: int = Field(
        default=2 * MAX_PIXELS,
        ge=1,
        description="Maximum pixels of the images that are worked on at a time, with Triton of a model's images there; "
        "others wait, in an order that is fair between clients.",
    )
    max_images: int = Field(default=16, ge=1, description="Maximum images in one request (413).")

    api_keys: Secrets = Field(default=(), description="Keys that clients may use, separated by commas.")
    api_keys_file: Path | None = Field(
        default=None,
        description="File with one key per line, read again when it changes. Lines that begin with `#` are comments.",
    )
    insecure: bool = Field(default=False, description="Serve without keys on an address that other machines can reach.")
    rate_limit: str | None = Field(
        default=None, description="Maximum requests per key, or per address without keys, such as 100/minute (429)."
    )
    pixel_rate_limit: str | None = Field(
        default=None,
        description="Maximum megapixels per key, or per address without keys, such as 500/minute (429).",
    )
    cors_origins: Names = Field(
        default=(), description="Origins of web pages that may use this gateway, separated by commas; * allows any."
    )

    log_format: Literal["json", "text"] = Field(default="json", description="Format of the log on stderr.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Minimum level logged.")
    otlp_endpoint: str | None = Field(
        default=None,
        description="Endpoint for traces by OTLP over HTTP, such as http://localhost:4318; else no traces.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take arguments, then the environment without the variables of Kubernetes' Services."""
        assert isinstance(env_settings, EnvSettingsSource)
        env_settings.env_vars = without_links(env_settings.env_vars, cls.model_fields)
        return init_settings, env_settings

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, value: str) -> str:
        return value[1:-1] if value.startswith("[") and value.endswith("]") else value

    @field_validator("triton_url")
    @classmethod
    def _is_of_grpc(cls, value: str) -> str:
        try:
            return grpc_address(value)
        except ParameterError as error:
            raise ValueError(f"{error}".removesuffix(".")) from error

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            checked_origin(origin)
        return value

    @field_validator("models", "cors_origins", "api_keys", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("runtime")
    @classmethod
    def _is_runtime(cls, value: str | None) -> str | None:
        return _one_of(value, (*RUNTIMES, TRITON))

    @field_validator("device")
    @classmethod
    def _is_device(cls, value: str | None) -> str | None:
        return _one_of(value, devices())

    @field_validator("rate_limit", "pixel_rate_limit")
    @classmethod
    def _parses(cls, value: str | None) -> str | None:
        if value is not None:
            limits.parse(value)
        return value

    @model_validator(mode="after")
    def _a_request_fits(self) -> Self:
        if self.max_images > self.max_queue:
            raise ValueError(f"max_images ({self.max_images}) can't be more than max_queue ({self.max_queue})")
        if self.max_body_bytes > self.max_bytes_in_flight:
            raise ValueError(
                f"max_body_bytes ({self.max_body_bytes}) can't be more than max_bytes_in_flight "
                f"({self.max_bytes_in_flight})"
            )
        return self

    @model_validator(mode="after")
    def _an_image_fits_the_rate_limit(self) -> Self:
        if self.pixel_rate_limit and limits.parse(self.pixel_rate_limit).amount * MEGAPIXEL < self.max_pixels:
            raise ValueError(
                f"pixel_rate_limit ({self.pixel_rate_limit} megapixels) can't be less than max_pixels "
                f"({self.max_pixels:,}): an image of that size would never be accepted"
            )
        return self


def _one_of(value: str | None, allowed: Sequence[str]) -> str | None:
    if value is not None and value not in allowed:
        raise ValueError(f"use one of {', '.join(allowed)}")
    return value
