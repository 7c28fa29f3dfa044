"""One Triton release and its TensorRT: what `pip install` builds engines with is what the GPU image runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.deploy.files import COMPOSE, ROOT, TENSORRT, TRITON_GPU, TRITON_RELEASE, read_yaml
from tests.export.tensorrt.bindings import VERSIONS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
GENERATIONS = {"tensorrt": 13, "tensorrt-cu12": 12}  # of CUDA, by extra


def pins() -> dict[str, set[str]]:
    """Return the versions in constraints.txt by name; several where they depend on the Python version."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            pin = Requirement(line)
            found.setdefault(pin.name, set()).add(str(pin.specifier).removeprefix("=="))
    return found


def test_constraints_pin_the_images_tensorrt_for_both_generations_of_cuda() -> None:
    for generation in GENERATIONS.values():
        for part in ("", "-bindings", "-libs"):
            assert pins()[f"tensorrt-cu{generation}{part}"] == {TENSORRT}


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_extra_can_be_installed_with_the_constraints(extra: str) -> None:
    for line in EXTRAS[extra]:
        wanted = Requirement(line)
        assert all(wanted.specifier.contains(version) for version in pins().get(wanted.name, ())), line


@pytest.mark.parametrize(("extra", "generation"), GENERATIONS.items())
def test_an_extra_holds_packages_of_one_generation_of_cuda(extra: str, generation: int) -> None:
    wanted = {each.name: each.specifier for each in map(Requirement, EXTRAS[extra])}
    assert wanted[f"tensorrt-cu{generation}"].contains(TENSORRT)
    assert not wanted[f"tensorrt-cu{generation}"].contains("10.8.0.43")  # without ahead-of-time plugins
    bindings = wanted["cuda-bindings"]
    assert [major for major in (11, 12, 13, 14) if bindings.contains(f"{major}.9.0")] == [generation]
    assert wanted.keys() == {f"tensorrt-cu{generation}", "cuda-bindings", "onnx", "triton"}


def test_the_extras_differ_in_nothing_but_cuda() -> None:
    rest = [{each.name for each in map(Requirement, EXTRAS[extra]) if "cu1" not in each.name} for extra in GENERATIONS]
    assert rest[0] == rest[1]


def test_versions_that_the_plugins_are_tested_with_include_the_images() -> None:
    assert TENSORRT in VERSIONS and list(VERSIONS) == sorted(VERSIONS, key=Version)


def test_the_image_is_checked_and_the_export_builds_with_its_library() -> None:
    text = TRITON_GPU.read_text()
    assert len(re.findall(r"tritonserver:", text)) == 1
    assert text.index("getInferLibVersion") < text.index("AS export")  # in the base of both images
    export = text[text.index("AS export") : text.index("\nFROM base\n")]
    assert re.findall(r"tensorrt-cu13[\w-]*==([^\"]+)", export) == ["${TENSORRT}"] * 2
    assert "libs" not in export  # those of Triton


def number(version: str) -> int:
    major, minor, patch, _ = map(int, version.split("."))
    return 10000 * major + 100 * minor + patch


def test_the_images_check_refuses_another_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python in the Dockerfile, run with a substitute for the library."""
    import ctypes

    [code] = re.findall(r'RUN python3 -c "(.*?)"\n', TRITON_GPU.read_text(), re.DOTALL)
    code = code.replace("\\\n", "").replace("${TENSORRT}", TENSORRT)
    loaded: list[str] = []

    class Library:
        here = number(TENSORRT)

        def __init__(self, name: str) -> None:
            loaded.append(name)

        def getInferLibVersion(self) -> int:  # noqa: N802 - TensorRT's name
            return self.here

    monkeypatch.setattr(ctypes, "CDLL", Library)
    exec(code)
    assert loaded == ["libnvinfer.so.10"]
    Library.here = number("10.9.0.34")
    with pytest.raises(AssertionError, match="this Triton has TensorRT 100900: set TENSORRT"):
        exec(code)


def test_compose_builds_both_images_from_that_file() -> None:
    services: dict[str, Any] = read_yaml(COMPOSE)["services"]
    for name, target in (("triton-gpu", None), ("export", "export")):
        build = services[name]["build"]
        assert ROOT / build["dockerfile"] == TRITON_GPU and build.get("target") == target and "args" not in build
        [device] = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
    assert services["export"]["entrypoint"][1:] == ["export", "--repository", "/models", "--to", "tensorrt"]
    written, read = (services[name]["volumes"][0] for name in ("export", "triton-gpu"))
    assert f"{written}:ro" == read  # the same folder


@pytest.mark.parametrize("name", ["tensorrt.md", "docker.md"])
def test_docs_name_the_same_versions(name: str) -> None:
    text = Path(ROOT / "docs" / name).read_text()
    assert TRITON_RELEASE in text and TENSORRT in text
    others = set(re.findall(r"(?:Triton|release|tritonserver:) ?(2\d\.\d\d)\b", text)) - {TRITON_RELEASE}
    assert not others
