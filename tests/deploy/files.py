"""Deployment files, and helpers shared by their tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped, unused-ignore]

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboards/resnest.json"
PROMETHEUS = ROOT / "deploy/prometheus"
GATEWAY, TRITON, TRITON_GPU = (
    ROOT / "deploy" / path for path in ("gateway/Dockerfile", "triton/Dockerfile", "triton/gpu.Dockerfile")
)


def argument(dockerfile: Path, name: str) -> str:
    """Return the default of a Dockerfile's build argument."""
    [value] = re.findall(rf"^ARG {name}=(.+)$", dockerfile.read_text(encoding="utf-8"), re.MULTILINE)
    return str(value)


# The Triton release of the GPU image, and its TensorRT: written there, and compared with what else names them.
TRITON_RELEASE = argument(TRITON_GPU, "TRITON").rpartition(":")[2].removesuffix("-py3")
TENSORRT = argument(TRITON_GPU, "TENSORRT")


def read_yaml(path: Path) -> Any:
    """Return what a file holds."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def instructions(dockerfile: Path) -> list[str]:
    """Return a Dockerfile's instructions, each on one line."""
    lines = [line for line in dockerfile.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    return [line.strip() for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]
