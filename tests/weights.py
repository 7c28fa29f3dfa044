"""Detectors with the parity kit's reproducible weights, and checkpoints of them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import onnx
import pytest
import torch
from onnx.numpy_helper import to_array
from typer.testing import CliRunner

from resnest_core import cli
from resnest_core.repository import network_path
from resnest_export import pipeline
from resnest_export.models import ZOO, build
from resnest_export.models.detector import TwoStageDetector
from tests.data.parity.fill import fill

REPOSITORY = Path(__file__).parents[1] / "model_repository"
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


def demo_state_dict(classes: int = 80) -> dict[str, torch.Tensor]:
    """Return the demo's trained weights, from the committed file, or those of its first `classes` only.

    The file has its batch norms folded: here they move by the folded bias and change nothing else.
    """
    stored = onnx.load(network_path(REPOSITORY, "demo")).graph.initializer
    arrays = {tensor.name.removeprefix("detector."): torch.from_numpy(to_array(tensor).copy()) for tensor in stored}
    # The masks' last layer is stored in another shape, under a name of the tracer's: the one array of its size.
    by_size = {array.numel(): array for array in arrays.values() if array.dim() and len(array) == 80}
    detector = build(ZOO["demo"])
    weights = detector.state_dict()
    for key, value in weights.items():
        if key in arrays:
            weights[key] = arrays[key]
        elif "conv_logits" in key:
            weights[key] = by_size[value.numel()].view_as(value)
    for name, module in detector.named_modules():
        for (conv_name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                bias = arrays[f"{name}.{conv_name}.bias"]
                weights[f"{name}.{norm_name}.bias"] = bias
                weights[f"{name}.{norm_name}.running_var"] = torch.full_like(bias, 1 - norm.eps)
                if conv.bias is not None:
                    weights[f"{name}.{conv_name}.bias"] = torch.zeros_like(bias)
    for key in weights:
        if "fc_cls" in key:
            weights[key] = torch.cat([weights[key][:classes], weights[key][-1:]])  # the last is the background
        elif "fc_reg" in key:
            weights[key] = weights[key][: 4 * classes]
        elif "conv_logits" in key:
            weights[key] = weights[key][:classes]
    return weights


def filled(name: str) -> TwoStageDetector:
    """Build a detector with the parity kit's weights."""
    detector = build(ZOO[name])
    detector.load_state_dict(state_dict(name))
    return detector


def save_filled(name: str, path: Path) -> None:
    """Write a checkpoint with the kit's weights, as published ones are."""
    torch.save({"meta": {}, "state_dict": state_dict(name)}, path, _use_new_zipfile_serialization=False)


def export_filled(name: str, repository: Path) -> None:
    """Export a detector with the kit's weights by the command, in a process of its own."""
    with _checkpoint_of(name, repository) as checkpoint:
        script = "from resnest_core.cli import main; main()"
        options = ["--checkpoint", str(checkpoint), "--repository", str(repository)]
        subprocess.run([sys.executable, "-c", script, "export", name, *options], check=True)


def export_filled_unchecked(name: str, repository: Path) -> None:
    """Export as `export_filled` does, in this process, for tests that compare the file with more than PyTorch.

    Comparing one of the eight with PyTorch takes longer than tracing it, whatever the images' size: it is a thousand
    proposals an image that cost.
    """
    with _checkpoint_of(name, repository) as checkpoint, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "check", lambda *_, **__: iter(()))
        options = ["--checkpoint", str(checkpoint), "--repository", str(repository)]
        result = CliRunner().invoke(cli.build(), ["export", name, *options])
    assert result.exit_code == 0, result.output


@contextmanager
def _checkpoint_of(name: str, folder: Path) -> Iterator[Path]:
    path = folder / f"{name}.pth"
    save_filled(name, path)
    yield path
    path.unlink()
