"""`resnest bench` on fake runtimes, in this process and behind servers."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from resnest_client import commands
from resnest_client.bench import load, photographs
from resnest_client.bench.results import read_runs
from resnest_core.drawing import encode
from resnest_core.errors import MissingExtraError, ParameterError, RuntimeUnavailableError
from resnest_core.runtimes import RUNTIMES, FakeRuntime
from resnest_core.tensors import Tensors
from tests.client.client_variants import pixels
from tests.client.fake_triton import UNAVAILABLE, Triton
from tests.client.served import Serve

FAILED = 1


def bench(*arguments: object) -> Result:
    app = typer.Typer()
    commands.register(app)
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def refused(*arguments: object) -> str:
    """Return what is said of bad usage; `resnest` maps it to exit code 2."""
    error = bench(*arguments).exception
    assert isinstance(error, ParameterError), error
    return str(error)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, size_hw in (("a", (40, 60)), ("b", (60, 40)), ("c", (50, 50))):
        (folder / f"{name}.png").write_bytes(encode(pixels(*size_hw), "image/png"))
    return folder


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one model that a fake runtime runs."""
    for name in RUNTIMES:
        monkeypatch.setitem(RUNTIMES, name, FakeRuntime)
    path = tmp_path / "repository" / "fake_network" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.setenv("RESNEST_REPOSITORY", str(tmp_path / "repository"))
    return tmp_path / "repository"


@pytest.mark.usefixtures("repository")
def test_a_file_of_runs(images: Path, tmp_path: Path) -> None:
    file, page, folder = tmp_path / "runs.json", tmp_path / "runs.md", tmp_path / "plots"
    arguments = [
        "--images",
        images,
        "--count",
        12,
        "--warm-up",
        3,
        "--concurrency",
        "1,2",
        "--rate",
        500,
        "--rounds",
        2,
    ]
    result = bench(*arguments, "--output", file, "--markdown", page, "--plots", folder)
    assert result.exit_code == 0, result.output
    runs: list[dict[str, Any]] = json.loads(file.read_text())
    assert [(run["mode"], run["concurrency"], run["rate"], run["round"]) for run in runs] == [
        (mode, concurrency, rate, number)
        for number in (1, 2)
        for mode, concurrency, rate in (("closed", 1, None), ("closed", 2, None), ("open", 2, 500))
    ]
    for run in runs:
        assert run["complete"] and run["stopped"] is None
        assert run["images"] == run["requests"] == 12 and run["errors"] == {}
        assert run["images_per_second"] == pytest.approx(12 / run["seconds"])
        times = run["latency_ms"]
        assert 0 < times["p50"] <= times["p90"] <= times["p95"] <= times["p99"] and times["mean"] > 0
        assert times["ci95"].keys() == {"p50", "p90", "p95", "p99"}
        assert times["ci95"]["p50"][0] <= times["p50"] and times["ci95"]["p99"][1] is None
        assert run["cpu_seconds_per_image"] > 0 and run["client_cpu_seconds_per_image"] is None
        assert run["peak_memory_mib"]["client"] > 10 and run["peak_memory_mib"]["server"] is None
        assert run["detections_per_image"] == 3
        assert sum(run["padded_shapes"].values()) == 12 and len(run["padded_shapes"]) == 3
        assert run["warm_up_requests"] == 3
        assert run["subject"]["runtime"] == "fake" and run["subject"]["url"] is None
        assert run["machine"].keys() == {"cpu", "cores", "memory_gib", "os", "python"}
        assert run["versions"]["resnest-serving"] and run["command"].startswith("resnest")
    assert "4 in flight" not in result.stdout and "2 in flight" in result.stdout
    assert "| 500 images/s sent |" in page.read_text()
    assert len(list(folder.iterdir())) == 4
    assert [run.model_dump(mode="json") for run in read_runs(file)] == runs


@pytest.mark.usefixtures("repository")
def test_a_run_has_bounds_of_its_own(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resnest_client.bench import options

    monkeypatch.setattr(options, "DURATION", 0.2)
    assert bench("--images", images, "--warm-up", "0.1s", "--output", tmp_path / "runs.json").exit_code == 0
    (run,) = read_runs(tmp_path / "runs.json")
    assert 0.2 <= run.seconds < 2 and run.images > 1


@pytest.mark.usefixtures("repository")
def test_turns_of_several_commands_are_rounds(images: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    for file in (one, two, one, two, one):
        assert bench("--images", images, "--count", 5, "--warm-up", 0, "--output", file, "--append").exit_code == 0
    assert [run.round for run in read_runs(one)] == [1, 2, 3]
    shown = bench("--compare", one, two)
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[2].split()[:4] == ["1", "in", "flight", "2"]


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_behind_a_server(kind: str, images: Path, tmp_path: Path, serve: Serve, fake_triton: Triton) -> None:
    runtime = FakeRuntime(before_run=lambda _: time.sleep(0.01))
    url = serve(runtime).url if kind == "http" else fake_triton(runtime).url
    file = tmp_path / "runs.json"
    arguments = ["--images", images, "--count", 20, "--warm-up", 2, "--concurrency", 3, "--rate", 40]
    result = bench("--url", url, *arguments, "--output", file, "--no-masks", "--score-threshold", 0.8)
    assert result.exit_code == 0, result.output
    for run in read_runs(file):
        assert (run.images, run.subject.url, run.masks) == (20, url, False)
        assert run.detections_per_image == 1
        assert run.latency("p50") is not None and run.latency("p50") > 10  # type: ignore[operator]
        assert run.client_cpu_seconds_per_image is not None
        if kind == "http":
            assert run.server_stages_ms is not None and run.server_stages_ms["network"] >= 10
            assert run.server_measured_by == "metrics"


def test_a_server_that_dies_leaves_what_was_measured(images: Path, tmp_path: Path, serve: Serve) -> None:
    turn = itertools.count()

    def dies_in_the_second_round(_: Tensors) -> None:
        number = next(turn)
        if number == 30:
            threading.Thread(target=served.stop).start()
        if number >= 30:
            time.sleep(0.1)  # the end comes a while after it was asked for: not after the round's last image

    served = serve(FakeRuntime(before_run=dies_in_the_second_round))

    file = tmp_path / "runs.json"
    arguments = ["--url", served.url, "--images", images, "--warm-up", 5, "--count", 20, "--rounds", 5]
    result = bench(*arguments, "--output", file, "--markdown", tmp_path / "runs.md")
    assert result.exit_code == FAILED
    first, second = read_runs(file)
    assert first.complete and first.images == 20
    assert not second.complete and second.images < 20 and "can't be reached" in str(second.stopped)
    assert "3 more were left out" in result.stderr and "can't be reached" in result.stderr
    assert "not complete" in (tmp_path / "runs.md").read_text()


def test_a_server_that_is_away(images: Path) -> None:
    error = bench("--url", "http://127.0.0.1:9", "--images", images).exception
    assert isinstance(error, RuntimeUnavailableError)
    assert "can't be reached" in str(error)


def test_nothing_answered_is_a_failure_with_a_reason(
    images: Path, tmp_path: Path, fake_triton: Triton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "PAUSE_SECONDS", 0.0)
    url = fake_triton(refuse=lambda _: UNAVAILABLE).url
    arguments = ["--url", url, "--images", images, "--count", 30, "--warm-up", 0]
    result = bench(*arguments, "--output", tmp_path / "runs.json", "--plots", tmp_path / "plots")
    assert result.exit_code == FAILED
    assert "got no answer to 30 requests: busy: Triton at" in result.stderr
    (run,) = read_runs(tmp_path / "runs.json")
    assert (run.complete, run.images, run.errors, run.latency_ms) == (True, 0, {"busy": 30}, None)
    assert run.cpu_seconds_per_image is None


def test_some_refused_are_counted_and_no_failure(images: Path, tmp_path: Path, fake_triton: Triton) -> None:
    url = fake_triton(refuse=lambda number: UNAVAILABLE if number % 5 == 0 else None).url
    result = bench("--url", url, "--images", images, "--count", 20, "--warm-up", 0, "--output", tmp_path / "runs.json")
    assert result.exit_code == 0
    (run,) = read_runs(tmp_path / "runs.json")
    assert (run.images, run.errors) == (16, {"busy": 4})
    assert "4 busy" in result.stdout


@pytest.mark.usefixtures("repository")
def test_images_that_cannot_be_used_are_left_out(images: Path, tmp_path: Path) -> None:
    (images / "broken.jpg").write_bytes(b"no image")
    (images / "cut.png").write_bytes((images / "a.png").read_bytes()[:-2000])
    (images / "notes.txt").write_text("not looked at")
    result = bench("--images", images, "--count", 9, "--warm-up", 0, "--output", tmp_path / "runs.json")
    assert result.exit_code == 0
    assert "broken.jpg is left out: This is not an image" in result.stderr and "cut.png is left out" in result.stderr
    assert read_runs(tmp_path / "runs.json")[0].errors == {}
    for name in "abc":
        (images / f"{name}.png").unlink()
    assert "No image in the folder" in refused("--images", images)


@pytest.mark.usefixtures("repository")
def test_of_many_images_some_are_taken(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "MOST", 2)
    assert "Taking 2 of the 3 images" in bench("--images", images, "--count", 1, "--warm-up", 0).stderr


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "0"], "--rate must be more than 0 images/s, not 0."),
        (["--rate", "-2"], "--rate must be more than 0"),
        (["--rate", "nan"], "--rate must be more than 0"),
        (["--rate", "fast"], "--rate is a number, or several with commas between, not fast."),
        (["--rate", "100000"], "more than the 200000 requests that a run may have"),
        (["--concurrency", "0"], "--concurrency must be from 1 to 256, not 0."),
        (["--concurrency", "1,"], "--concurrency is a number, or several"),
        (["--duration", "0"], "--duration must be more than 0"),
        (["--duration", "inf"], "--duration must be more than 0"),
        (["--count", "0"], "--count must be from 1"),
        (["--count", "5", "--duration", "5"], "--duration and --count can't both"),
        (["--warm-up", "long"], "--warm-up is a number of images"),
        (["--warm-up", "-1"], "--warm-up must be from 0"),
        (["--rounds", "0"], "--rounds must be from 1"),
        (["--threads", "0"], "--threads must be at least 1, not 0."),
        (["--threads", "2", "--url", "http://localhost"], "--threads can't be chosen with --url"),
        (["--runtime", "openvino", "--url", "http://localhost"], "--runtime can't be chosen with --url"),
        (["--score-threshold", "2"], "score_threshold must be a number from 0 to 1"),
        (["--output", "/nowhere/runs.json"], "/nowhere/runs.json can't be written"),
        (["--markdown", "/"], "/ can't be written"),
        (["--append"], "--append is for --output"),
        (["--runtimes", "openvino"], "--runtimes is for --all"),
        (["--all", "--model", "fake"], "--all measures each model"),
        (["--all", "--runtimes", "onnxruntime,other"], "There is no runtime 'other'"),
    ],
)
def test_bad_usage_is_told(arguments: list[str], said: str, images: Path) -> None:
    assert said in refused("--images", images, *arguments)


def test_without_images(tmp_path: Path) -> None:
    assert "--images is missing" in refused()
    assert "There is no folder" in refused("--images", tmp_path / "none")
    assert "holds no images" in refused("--images", tmp_path)


@pytest.mark.parametrize("content", ["no JSON", "[1]", '{"bbox": {}}', None])
def test_comparing_what_is_no_file_of_runs(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "runs.json"
    if content is not None:
        file.write_text(content)
    assert str(file) in refused("--compare", file, file)


@pytest.mark.usefixtures("repository")
def test_without_psutil_the_extra_is_named(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    error = bench("--images", images).exception
    assert isinstance(error, MissingExtraError)
    assert "resnest-serving[bench]" in str(error)


@pytest.mark.usefixtures("repository")
def test_interrupted_it_keeps_what_there_is() -> None:
    """In a process of its own: Python crashes at an interrupt once OpenVINO has converted a model in it."""
    command = (sys.executable, "-m", "pytest", "-n", "0", "-q", "-o", "python_functions=interrupted_*", __file__)
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


def interrupted_it_keeps_what_there_is(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = itertools.count()
    this_thread = threading.get_ident()

    class Interrupted(FakeRuntime):
        def run(self, inputs: Any) -> Any:
            if next(turn) == 15:
                signal.pthread_kill(this_thread, signal.SIGINT)
                time.sleep(0.5)
            return super().run(inputs)

    for name in RUNTIMES:
        monkeypatch.setitem(RUNTIMES, name, Interrupted)
    arguments = ["--images", images, "--count", 10, "--warm-up", 0, "--rounds", 3]
    result = bench(*arguments, "--output", tmp_path / "runs.json")
    assert result.exit_code == FAILED
    first, second = read_runs(tmp_path / "runs.json")
    assert first.complete and (second.complete, second.images, second.errors) == (False, 5, {})
    assert "It was interrupted." in result.stderr and "1 more were left out" in result.stderr
