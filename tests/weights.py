"""Detectors with the parity kit's reproducible weights, and checkpoints of them."""

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import onnx
import torch
from onnx.numpy_helper import to_array

from resnest_core.repository import network_path
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


def export_filled(name: str, repository: Path) -> str:
    """Export a detector with the kit's weights, from a checkpoint as published ones are; return what the command told.

    It runs in a process of its own, whose time and peak memory are printed: `pytest -s` shows them.
    """
    checkpoint = repository / f"{name}.pth"
    repository.mkdir(parents=True, exist_ok=True)
    torch.save({"meta": {}, "state_dict": state_dict(name)}, checkpoint, _use_new_zipfile_serialization=False)
    script = "import typer; from resnest_export.commands import export; typer.run(export)"
    options = ["--checkpoint", str(checkpoint), "--repository", str(repository)]
    start = time.monotonic()
    with (repository / "told").open("w+") as told:
        command = [sys.executable, "-c", script, name, *options]
        process = subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        lines = told.read()
    checkpoint.unlink()
    assert process.returncode == 0, lines
    seconds, cpu = time.monotonic() - start, usage.ru_utime + usage.ru_stime
    size = network_path(repository, name).stat().st_size / 2**20
    print(f"{name}: {seconds:.0f} s, {cpu:.0f} CPU s, peak {usage.ru_maxrss / 2**20:.1f} GiB, file {size:.0f} MiB")
    return lines
