"""The clients over gRPC against a real tritonserver: alone, many at once, and from the command line."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import pytest

from deploy.triton.home import Home
from resnest_client import AsyncGrpcDetector, GrpcDetector
from resnest_core import InProcessDetector
from resnest_core.detections import Detections
from resnest_core.errors import (
    InvalidModelError,
    ModelNotFoundError,
    NotAnImageError,
    RemoteError,
    RuntimeUnavailableError,
)
from resnest_core.images import Image, load_image
from tests.client.test_detect import PHOTOGRAPHS
from tests.client.test_detect import detect as command
from tests.triton.agreement import assert_same, detect
from tests.triton.server import REPOSITORY, TritonServer

pytestmark = pytest.mark.triton

FILES = sorted(PHOTOGRAPHS.glob("*.jpg"))
PATIENCE = 60  # seconds


def address(server: TritonServer) -> str:
    return f"grpc://{server.grpc}"


def waits(url: str, images: Iterable[Image], model: str | None = None, **wishes: Any) -> list[Detections]:
    with GrpcDetector(url, model) as detector:
        return list(detector.detect_many(images, **wishes))


def awaits(url: str, images: Iterable[Image], model: str | None = None, **wishes: Any) -> list[Detections]:
    async def run() -> list[Detections]:
        async with AsyncGrpcDetector(url, model) as detector:
            return [found async for found in detector.detect_many(images, **wishes)]

    return asyncio.run(run())


both = pytest.mark.parametrize("ask", [waits, awaits])
Ask = Callable[..., list[Detections]]


@both
@pytest.mark.parametrize("wishes", [{}, {"masks": False}, {"score_threshold": 0.5}], ids=str)
def test_as_in_the_process(ask: Ask, triton: TritonServer, local: InProcessDetector, wishes: dict[str, Any]) -> None:
    found = ask(address(triton), [FILES[0], FILES[1].read_bytes(), load_image(FILES[2])], **wishes)
    for ours, file in zip(found, FILES[:3], strict=True):
        assert len(ours) >= 1
        assert_same(ours, detect(local, file.read_bytes(), **wishes))


@both
def test_many_of_different_shapes_in_order(ask: Ask, triton: TritonServer) -> None:
    pixels = load_image(FILES[0])
    sizes = [(60 + 20 * index % 140, 200) for index in range(24)]
    images = [cv2.imencode(".png", cv2.resize(pixels, size_hw[::-1]))[1].tobytes() for size_hw in sizes]
    assert [found.image_size_hw for found in ask(address(triton), images)] == sizes


def test_the_first_model_that_is_ready(triton: TritonServer, local: InProcessDetector) -> None:
    """`broken` comes before `demo`, but isn't ready."""
    with GrpcDetector(address(triton)) as detector:
        assert detector.card == local.card


@pytest.mark.parametrize(
    ("model", "error"),
    [("absent", ModelNotFoundError), ("demo_network", InvalidModelError), ("broken", ModelNotFoundError)],
)
def test_models_that_are_none(triton: TritonServer, model: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=model):
        GrpcDetector(address(triton), model)


def test_images_that_are_none(triton: TritonServer) -> None:
    with GrpcDetector(address(triton)) as detector:
        for image in (b"", b"no image", FILES[0].read_bytes()[:9000], "absent.jpg"):
            with pytest.raises(NotAnImageError, match=r"^(This is not an|The image's header|absent.jpg can't)"):
                detector.detect(image)
        assert len(detector.detect(FILES[0])) >= 1


def test_the_port_of_http(triton: TritonServer) -> None:
    with pytest.raises((RuntimeUnavailableError, RemoteError), match="name the address of its gRPC port"):
        GrpcDetector(f"grpc://{triton.http}", retries=0)


def test_the_command_line(triton: TritonServer, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(FILES[0].read_bytes()[:9000])
    arguments: list[str | Path] = [tmp_path / "broken.jpg", *FILES, "--score-threshold", "0.3"]
    remote = command(*arguments, "--url", address(triton))
    local = command(*arguments, "--model", "demo", "--repository", REPOSITORY)
    assert remote.exit_code == local.exit_code == 2
    assert remote.stderr == local.stderr
    ours, expected = (json.loads(result.stdout) for result in (remote, local))
    assert [row["file"] for row in ours] == [row["file"] for row in expected] == list(map(str, FILES))
    assert min(len(row["detections"]) for row in expected) >= 1
    for one, other in zip(ours, expected, strict=True):
        assert [found["class"] for found in one["detections"]] == [found["class"] for found in other["detections"]]


def test_triton_killed_in_a_run_and_started_again(triton_home: Home, triton_project: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    images = tmp_path / "images"
    images.mkdir()
    for number in range(60):
        (images / f"{number:02}.jpg").write_bytes(FILES[number % len(FILES)].read_bytes())
    repository = tmp_path / "repository"
    for path in REPOSITORY.glob("demo*"):
        shutil.copytree(path, repository / path.name, ignore=shutil.ignore_patterns("__pycache__"))
    with TritonServer(triton_home, triton_project, repository, tmp_path / "log").start() as server:
        arguments: list[str | Path] = [images, "--url", address(server), "--output", output]
        killer = threading.Thread(target=kill_after, args=(server, output, 5))
        killer.start()
        result = command(*arguments)
        killer.join()
        assert isinstance(result.exception, RuntimeUnavailableError)
        assert str(result.exception).endswith("run the command again for the rest.")
        done = output.read_bytes()
        count = done.count(b"\n")
        assert 5 <= count < 60
        server.start()
        result = command(*arguments)
        assert result.exit_code == 0, result.output
    assert f"{count} of 60 images are done already." in result.stderr
    assert output.read_bytes().startswith(done)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [Path(row["file"]).stem for row in rows] == [f"{number:02}" for number in range(60)]


def kill_after(server: TritonServer, output: Path, lines: int) -> None:
    end = time.monotonic() + PATIENCE
    while not (output.exists() and output.read_bytes().count(b"\n") >= lines):
        assert time.monotonic() < end
        time.sleep(0.01)
    server.kill()
