"""The wheel that the sdist makes, installed without PyTorch in an environment of its own, serves an image."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path

import pytest

from tests.server.test_serve import PHOTOGRAPH, ROOT, free_port

MEGABYTES = 500  # that an installation for serving may take
OTHER_VERSIONS = ("3.10", "3.13")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sdist, and of the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("built")
    build = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel with the extra `server` alone, and return the environment's Python."""
    return install(built, sys.executable, tmp_path_factory.mktemp("wheel"))


def install(built: Path, interpreter: str, folder: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    subprocess.run([interpreter, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), f"{wheel}[server]"]
    subprocess.run(command, check=True, capture_output=True)
    return python


def interpreter(version: str) -> str:
    """Return a Python of this version, from PATH or pyenv; without one, its test is skipped."""
    for path in (shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")):
        if path and subprocess.run([path, "--version"], capture_output=True).returncode == 0:
            return str(path)
    pytest.skip(f"Python {version} isn't here: put python{version} on PATH.")


def test_the_sdist_has_the_demo_and_the_documentation(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"model_repository/demo_network/1/model.onnx", "mkdocs.yml", "docs/index.md", "examples/detect.sh"} <= names
    assert not [name for name in names if name.startswith("tests/data/")]


def test_it_serves_the_demo_outside_the_clone(python: Path, tmp_path: Path) -> None:
    check_that_it_serves(python, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("version", OTHER_VERSIONS)
def test_it_serves_the_demo_in_another_python(built: Path, tmp_path: Path, version: str) -> None:
    check_that_it_serves(install(built, interpreter(version), tmp_path), tmp_path)


def check_that_it_serves(python: Path, tmp_path: Path) -> None:
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


def test_its_packages_are_listed_in_cyclonedx(python: Path, tmp_path: Path) -> None:
    output = tmp_path / "sbom.json"
    environment = {**os.environ, "OUTPUT": str(output), "PYTHON": sys.executable}
    subprocess.run(["sh", "scripts/sbom", str(python)], cwd=ROOT, env=environment, check=True, capture_output=True)
    text = output.read_text(encoding="utf-8")
    sbom = json.loads(text)
    assert (sbom["bomFormat"], sbom["metadata"]["component"]["name"]) == ("CycloneDX", "resnest-serving")
    listed = {component["name"]: component for component in sbom["components"]}
    assert {"onnxruntime", "fastapi", "pillow", "opencv-python-headless"} <= set(listed)
    pinned = re.findall(r"^onnxruntime==([\d.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert listed["onnxruntime"]["purl"] in {f"pkg:pypi/onnxruntime@{version}" for version in pinned}
    assert listed["onnxruntime"]["licenses"]
    assert "torch" not in listed and "file://" not in text


def test_the_list_of_packages_is_of_the_extras_in_the_image() -> None:
    in_image = set(re.findall(r"extras\['(\w+)'\]", (ROOT / "deploy/gateway/Dockerfile").read_text()))
    listed = re.search(r"'\.\[([\w,]+)\]'", (ROOT / "scripts/sbom").read_text())
    assert listed and set(listed[1].split(",")) == in_image


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
