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


@pytest.mark.parametrize("module", ["preprocess", "network"])
def test_tritons_models_import_only_what_their_environment_has(module: str) -> None:
    listed = (ROOT / "deploy/triton/requirements.txt").read_text().replace("-", "_").splitlines()
    installed = {line.partition("==")[0].lower() for line in listed if "==" in line}
    installed |= {"cv2", "pil", "ml_dtypes"} | {name.lower() for name in (*OURS, *sys.stdlib_module_names)}
    script = (
        "import sys, types\nsys.modules['triton_python_backend_utils'] = types.ModuleType('stub')\n"
        f"before = set(sys.modules)\nimport resnest_core.triton_models.{module}\n"
        "print(*{name.partition('.')[0] for name in sys.modules.keys() - before})"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names = {name for name in result.stdout.split() if not name.lower().startswith("_")}
    others = {"google", "cython_runtime", "openvino_telemetry"}  # parts of packages, and what OpenVINO does without
    assert {name for name in names if name.lower() not in installed} <= others
