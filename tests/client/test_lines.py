"""`resnest detect --output FILE.jsonl`: incremental output, and resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from resnest_core.errors import ModelNotFoundError, ParameterError, RuntimeUnavailableError
from resnest_core.runtimes import FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from tests.client.fake_triton import UNAVAILABLE, FakeTriton, Refusal, Triton
from tests.client.grpc_variants import PATIENCE, once, until
from tests.client.served import Serve
from tests.client.test_detect import RESNEST, detect, without_times

COUNT = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(COUNT):
        cv2.imwrite(str(folder / f"{number:02}.png"), np.full((20 + number, 30, 3), 9, np.uint8))
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "new" / "answers.jsonl"


def rows(output: Path) -> list[dict[str, Any]]:
    assert output.read_bytes().endswith(b"\n")
    return [json.loads(line) for line in output.read_text().splitlines()]


def heights(output: Path) -> list[int]:
    return [row["image"]["height"] for row in rows(output)]


def test_a_line_is_what_the_list_has(fake_triton: Triton, folder: Path, output: Path) -> None:
    server = fake_triton()
    result = detect(folder, "--url", server.url, "--output", output)
    assert (result.exit_code, result.output) == (0, "")
    listed = detect(folder, "--url", server.url)
    assert without_times(rows(output)) == without_times(json.loads(listed.stdout))
    assert output.read_bytes().startswith(b'{"file": ')


def test_lines_are_written_as_they_come(fake_triton: Triton, folder: Path, output: Path) -> None:
    written: list[int] = []

    def look(number: int) -> None:
        if number > 2:
            until(lambda: output.exists() and output.read_bytes().count(b"\n") >= number - 2)
            written.append(number)

    assert (
        detect(folder, "--url", fake_triton(refuse=look).url, "--concurrency", "1", "--output", output).exit_code == 0
    )
    assert len(written) == COUNT - 2


@pytest.mark.parametrize("kind", ["grpc", "http", "in process"])
def test_a_second_run_does_the_rest(
    kind: str, fake_triton: Triton, serve: Serve, folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = FakeRuntime()
    monkeypatch.setattr("resnest_client.detector_options._local", lambda *_: fresh(runtime))
    arguments: list[str | Path] = [folder, "--output", output]
    if kind != "in process":
        arguments += ["--url", fake_triton(runtime).url if kind == "grpc" else serve(runtime).url]
    held_back = [folder / f"{number:02}.png" for number in (3, 7)]
    for file in held_back:
        file.rename(file.with_suffix(".later"))
    assert detect(*arguments).exit_code == 0
    assert len(rows(output)) == COUNT - 2
    for file in held_back:
        file.with_suffix(".later").rename(file)
    runtime.calls.clear()
    result = detect(*arguments)
    assert (result.exit_code, result.stderr) == (0, "10 of 12 images are done already.\n")
    assert sum(len(call["images"]) for call in runtime.calls) == 2
    assert heights(output)[-2:] == [23, 27]
    assert len({row["file"] for row in rows(output)}) == COUNT
    runtime.calls.clear()
    result = detect(*arguments)
    assert (result.exit_code, result.stderr) == (0, "12 of 12 images are done already.\n")
    assert runtime.calls == []


def fresh(runtime: FakeRuntime) -> Any:
    from resnest_core.detector import InProcessDetector

    return InProcessDetector(runtime)


def test_all_is_done_and_nobody_is_there(fake_triton: Triton, folder: Path, output: Path) -> None:
    server = fake_triton()
    arguments: list[str | Path] = [folder, "--url", server.url, "--output", output]
    detect(*arguments)
    server.stop()
    assert detect(*arguments).exit_code == 0


def test_a_file_named_twice_is_done_once(fake_triton: Triton, folder: Path, output: Path) -> None:
    result = detect(folder, folder / "00.png", "--url", fake_triton().url, "--output", output)
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(rows(output)) == COUNT


@pytest.mark.parametrize("left", range(0, 40, 3))
def test_a_torn_line_is_dropped_and_done_again(fake_triton: Triton, folder: Path, output: Path, left: int) -> None:
    server = fake_triton()
    arguments: list[str | Path] = [folder, "--url", server.url, "--output", output]
    detect(*arguments)
    lines = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join(lines[:5]) + lines[5][:left])
    assert detect(*arguments).exit_code == 0
    assert heights(output) == list(range(20, 20 + COUNT))
    assert output.read_bytes().splitlines(keepends=True)[:5] == lines[:5]


def test_a_run_killed_in_the_middle(fake_triton: Triton, folder: Path, output: Path) -> None:
    server = fake_triton(FakeRuntime(before_run=lambda _: time.sleep(0.1)))
    command = [sys.executable, "-c", RESNEST, "detect", folder, "--url", server.url, "--concurrency", "1"]
    command += ["--output", output]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([*map(str, command)], env=environment, stderr=subprocess.DEVNULL) as process:
        until(lambda: output.exists() and output.read_bytes().count(b"\n") >= 3)
        process.kill()
    done = output.read_bytes().count(b"\n")
    assert 3 <= done < COUNT
    before = server.asked
    result = detect(folder, "--url", server.url, "--output", output)
    assert result.exit_code == 0
    assert f"{done} of 12 images are done already." in result.stderr
    assert server.asked - before == COUNT - done
    assert heights(output) == list(range(20, 20 + COUNT))


def test_an_interrupted_run_does_not_wait(fake_triton: Triton, folder: Path, output: Path) -> None:
    release = threading.Event()
    server = fake_triton(refuse=lambda number: release.wait(PATIENCE) and None if number > 3 else None)
    command = [
        sys.executable,
        "-c",
        RESNEST,
        "detect",
        folder,
        "--url",
        server.url,
        "--output",
        output,
        "--concurrency",
        COUNT,
    ]
    with subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL) as process:
        until(lambda: server.asked == COUNT and server.in_flight == COUNT - 3)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        assert process.wait(PATIENCE) == 130
        assert time.monotonic() - start < PATIENCE / 2
    release.set()
    assert output.read_bytes().count(b"\n") <= 3


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_a_bad_file_has_no_line_and_is_tried_again(
    kind: str, fake_triton: Triton, serve: Serve, folder: Path, output: Path
) -> None:
    data = (folder / "05.png").read_bytes()
    (folder / "05.png").write_bytes(data[:50])
    url = fake_triton().url if kind == "grpc" else serve(FakeRuntime()).url
    arguments: list[str | Path] = [folder, "--url", url, "--output", output]
    result = detect(*arguments)
    assert result.exit_code == 2
    first, last = result.stderr.splitlines()
    assert first.startswith(f"{folder / '05.png'}: The ")
    assert last == "1 of 12 images couldn't be used."
    assert heights(output) == [*range(20, 25), *range(26, 32)]
    result = detect(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("11 of 12 images are done already.\n")
    (folder / "05.png").write_bytes(data)
    assert detect(*arguments).exit_code == 0
    assert sorted(heights(output)) == list(range(20, 32))


def test_a_server_that_goes_away(fake_triton: Triton, folder: Path, output: Path, slept: list[float]) -> None:
    def away(number: int) -> Refusal | None:
        return UNAVAILABLE if number > 6 else None

    result = detect(folder, "--url", fake_triton(refuse=away).url, "--concurrency", "1", "--output", output)
    assert isinstance(result.exception, RuntimeUnavailableError)
    assert str(result.exception).endswith(
        f"try again later. What was done is in {output}: run the command again for the rest."
    )
    assert heights(output) == list(range(20, 26))
    assert len(slept) == 2
    server = fake_triton()
    assert detect(folder, "--url", server.url, "--output", output).exit_code == 0
    assert server.asked == 6
    assert heights(output) == list(range(20, 32))


def test_a_short_absence_is_waited_for(fake_triton: Triton, folder: Path, output: Path, slept: list[float]) -> None:
    result = detect(folder, "--url", fake_triton(refuse=once(*[UNAVAILABLE] * 2)).url, "--output", output)
    assert (result.exit_code, result.output) == (0, "")
    assert len(slept) == 2
    assert len(rows(output)) == COUNT


def test_answers_of_two_models_are_not_mixed(fake_triton: Triton, folder: Path, output: Path) -> None:
    detect(folder / "00.png", "--url", fake_triton().url, "--output", output)
    before = output.read_bytes()
    other = FakeTriton(FakeRuntime(FAKE_CARD.model_copy(update={"name": "other"})))
    result = detect(folder, "--url", other.url, "--output", output)
    other.stop()
    assert isinstance(result.exception, ParameterError)
    assert str(result.exception) == f"{output} has answers of fake: name another --output."
    assert output.read_bytes() == before


@pytest.mark.parametrize("change", [{"checkpoint_sha256": "1" * 64}, {"precision": "int8"}])
def test_answers_of_two_checkpoints_of_the_same_name_are_not_mixed(
    fake_triton: Triton, folder: Path, output: Path, change: dict[str, str]
) -> None:
    detect(folder / "00.png", "--url", fake_triton().url, "--output", output)
    before = output.read_bytes()
    other = FakeTriton(FakeRuntime(FAKE_CARD.model_copy(update=change)))
    result = detect(folder, "--url", other.url, "--output", output)
    assert isinstance(result.exception, ParameterError)
    assert "another checkpoint, precision or format of fake: name another --output." in str(result.exception)
    assert output.read_bytes() == before
    output.unlink()
    assert detect(folder, "--url", other.url, "--output", output).exit_code == 0, "a new file is of the new weights"
    other.stop()
    assert len(rows(output)) == COUNT


def test_lines_without_their_source_are_resumed(fake_triton: Triton, folder: Path, output: Path) -> None:
    server = fake_triton()
    detect(folder / "00.png", "--url", server.url, "--output", output)
    output.with_name("answers.jsonl.source.json").unlink()
    assert detect(folder, "--url", server.url, "--output", output).exit_code == 0
    assert len(rows(output)) == COUNT


@pytest.mark.parametrize(
    "content", [b"notes", b"notes\n", b'{"a": 1}\n', b"[1]\n", b'{"file": 1}\n', b'{"file": "a", "model": "b"}\n\nx\n']
)
def test_a_file_of_something_else_is_left_alone(
    fake_triton: Triton, folder: Path, output: Path, content: bytes
) -> None:
    output.parent.mkdir()
    output.write_bytes(content)
    result = detect(folder, "--url", fake_triton().url, "--output", output)
    assert isinstance(result.exception, ParameterError)
    assert "is no answer of this command: name another --output." in str(result.exception)
    assert output.read_bytes() == content


def test_nothing_is_written_where_the_model_is_not_there(fake_triton: Triton, folder: Path, output: Path) -> None:
    result = detect(folder, "--url", fake_triton().url, "--model", "absent", "--output", output)
    assert isinstance(result.exception, ModelNotFoundError)
    assert not output.exists()


def test_lines_that_can_not_be_written(fake_triton: Triton, folder: Path, output: Path) -> None:
    output.mkdir(parents=True)
    url = fake_triton().url
    assert "Is a directory" in str(detect(folder, "--url", url, "--output", output).exception)
    below = folder / "00.png" / "answers.jsonl"
    assert "can't be made" in str(detect(folder, "--url", url, "--output", below).exception)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk(fake_triton: Triton, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    result = detect(folder, "--url", fake_triton().url, "--output", tmp_path / "full.jsonl")
    assert isinstance(result.exception, ParameterError)
    assert "can't be written" in str(result.exception)


def test_coco_is_no_lines(folder: Path, output: Path) -> None:
    result = detect(folder, "--format", "coco", "--output", output)
    assert isinstance(result.exception, ParameterError)
    assert str(result.exception).startswith("Answers in the format coco are one list, not lines: name a FILE.json")


@pytest.mark.parametrize("concurrency", [None, 1, 3])
def test_requests_in_flight(fake_triton: Triton, folder: Path, concurrency: int | None) -> None:
    server = fake_triton(FakeRuntime(before_run=lambda _: time.sleep(0.1)))
    options = [] if concurrency is None else ["--concurrency", str(concurrency)]
    files = [*folder.iterdir()] * 2
    assert detect(*files, "--url", server.url, *options).exit_code == 0
    assert server.most == (concurrency or 8)
