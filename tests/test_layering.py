"""Who may import whom: `core` none of ours, the others `core` only, none but `export` torch; heavy things come late."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"core": "resnest_core", "export": "resnest_export", "server": "resnest_server", "client": "resnest_client"}
OURS = set(FOLDERS.values())
TORCH = {"torch", "torchvision"}
HEAVY = TORCH | {"onnx", "onnxruntime", "onnxscript", "openvino", "httpx", "fastapi", "uvicorn"}
HEAVY |= {"tensorrt", "tensorrt_rtx", "triton", "cuda"}


def imported(path: Path) -> Iterator[str]:
    """Yield the top-level packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("folder", FOLDERS)
def test_packages_import_core_only(folder: str) -> None:
    package = FOLDERS[folder]
    allowed = {package, "resnest_core"}
    files = sorted((ROOT / folder / package).rglob("*.py"))
    assert files
    for path in files:
        found = set(imported(path))
        assert found & OURS <= allowed, f"{path.relative_to(ROOT)} imports {found & OURS - allowed}"
        if folder != "export":
            assert not found & TORCH, f"{path.relative_to(ROOT)} imports torch"


@pytest.mark.parametrize("package", [*sorted(OURS), "resnest_core.cli"])
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
