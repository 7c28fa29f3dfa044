"""The wheel, installed without PyTorch in an environment of its own, serves an image."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.server.test_serve import PHOTOGRAPH, ROOT, free_port

MEGABYTES = 500  # that an installation for serving may take


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, install it with the extra `server` alone, and return the environment's Python."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), f"{wheel}[server]"]
    subprocess.run(install, check=True, capture_output=True)
    return python


def test_it_serves_the_demo_outside_the_clone(python: Path, tmp_path: Path) -> None:
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RESNEST_", "PYTHONPATH"))}
    command = [str(python.with_name("resnest")), "serve", "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/detect?score_threshold=0.5",
                PHOTOGRAPH.read_bytes(),
                {"Content-Type": "image/jpeg"},
            )
            answer = json.load(patiently(request, process))
        finally:
            process.terminate()
            process.communicate(timeout=30)
    assert answer["model"] == "demo"
    assert {found["class"] for found in answer["detections"]} == {"motorcycle"}


def patiently(request: urllib.request.Request, process: subprocess.Popen[str]) -> urllib.request._UrlopenRet:
    """Open a request to a server that is still starting."""
    for _ in range(300):
        try:
            return urllib.request.urlopen(request, timeout=60)
        except urllib.error.URLError:
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.1)
    raise AssertionError("The server did not start.")


def test_it_is_small_and_brings_no_torch(python: Path) -> None:
    packages = python.parents[1] / "lib"
    assert not list(packages.glob("*/site-packages/torch"))
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file() and not path.is_symlink())
    assert size <= MEGABYTES * 2**20
    print(f"An installation for serving takes {size / 2**20:.0f} MiB.")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["detect", str(PHOTOGRAPH), "--url", "http://127.0.0.1:9"], "client"),
        (["download", "mask_rcnn_s50"], "export"),
        (["export", "demo", "--checkpoint", "absent.pth"], "export"),
    ],
)
def test_what_needs_another_extra_names_it(python: Path, tmp_path: Path, arguments: list[str], extra: str) -> None:
    command = [str(python.with_name("resnest")), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"pip install 'resnest-serving[{extra}]'" in done.stderr
