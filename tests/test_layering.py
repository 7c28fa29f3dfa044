"""Imports at run time: heavy packages come late. Which module may import which is import-linter's: pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("resnest_client", "resnest_core", "resnest_export", "resnest_server")
HEAVY = {"torch", "torchvision", "onnx", "onnxruntime", "onnxscript", "openvino", "httpx", "fastapi", "uvicorn"}
HEAVY |= {"tensorrt", "tensorrt_rtx", "triton", "cuda"}


@pytest.mark.parametrize("package", [*OURS, "resnest_core.cli"])
def test_a_bare_import_brings_nothing_heavy(package: str) -> None:
    script = f"import sys, {package}\nprint(*sorted({HEAVY!r} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


@pytest.mark.parametrize("module", ["resnest_client.commands", "resnest_core.runtimes", "resnest_core.drawing"])
def test_no_torch_at_run_time(module: str) -> None:
    script = (
        f"import sys, {module}\nfrom resnest_core import load_detector\n"
        "for runtime in ('onnxruntime', 'openvino'):\n    load_detector('demo', runtime=runtime).close()\n"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False"]
