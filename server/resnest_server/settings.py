"""What the gateway can be told: by environment variables `RESNEST_…`, by options of `resnest serve`, or in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from resnest_core.images import MAX_PIXELS


class Settings(BaseSettings):
    """The gateway's settings; each can be given as an environment variable, in capitals after `RESNEST_`."""

    model_config = SettingsConfigDict(env_prefix="RESNEST_", frozen=True, extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")

    repository: Path | None = Field(
        default=None, description="The model repository; else ./model_repository, else the demo model's."
    )
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Names of the models to serve, separated by commas; else all in the repository."
    )
    default_model: str | None = Field(
        default=None, description="The model that /v1/detect uses; else the first of those served, by name."
    )
    runtime: Literal["onnxruntime", "openvino"] = Field(default="onnxruntime", description="What runs the networks.")
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="Where they run.")
    threads: int | None = Field(default=None, ge=1, description="Threads of a network; else one per core.")

    max_body_bytes: int = Field(default=32 * 2**20, ge=1, description="Bytes of a request's body, at most.")
    max_pixels: int = Field(default=MAX_PIXELS, ge=1, description="Width × height of an image, at most.")
    max_images: int = Field(default=16, ge=1, description="Images in one request, at most.")
    shutdown_seconds: int = Field(
        default=30, ge=0, description="How long requests in flight may take to finish at the end."
    )

    @field_validator("models", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value
