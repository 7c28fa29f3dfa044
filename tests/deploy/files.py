"""Deployment files, and helpers shared by their tests."""

from __future__ import annotations

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


def read_yaml(path: Path) -> Any:
    """Return what a file holds."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def instructions(dockerfile: Path) -> list[str]:
    """Return a Dockerfile's instructions, each on one line."""
    lines = [line for line in dockerfile.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    return [line.strip() for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]
