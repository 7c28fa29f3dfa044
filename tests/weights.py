"""Detectors with the parity kit's reproducible weights."""

import json
from pathlib import Path

import torch

from resnest_export.models import ZOO, build
from resnest_export.models.detector import TwoStageDetector
from tests.data.parity.fill import fill

DATA = Path(__file__).with_name("data")
PARITY = DATA / "parity"
DEMO = DATA / "demo"


def keys(name: str) -> dict[str, tuple[int, ...]]:
    """Return mmdetection's state-dict keys and shapes of a detector."""
    path = DEMO / "keys.json" if name == "demo" else PARITY / "keys" / f"{name}.json"
    return {key: tuple(shape) for key, shape in json.loads(path.read_text()).items()}


def state_dict(name: str) -> dict[str, torch.Tensor]:
    """Return the weights that the parity kit gives a detector."""
    return {key: torch.from_numpy(fill(name, key, shape)) for key, shape in keys(name).items()}


def filled(name: str) -> TwoStageDetector:
    """Build a detector with the parity kit's weights."""
    detector = build(ZOO[name])
    detector.load_state_dict(state_dict(name))
    return detector
