"""Commands against a gateway whose model has a name with dots, and a foreign server's odd one."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from resnest_client import commands
from resnest_client.bench import report
from resnest_client.bench.plots import plot
from resnest_client.bench.runs import Measured
from resnest_core.runtimes import FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from tests.client.bench.examples import SUBJECT, example_run
from tests.client.served import Serve
from tests.client.test_detect import detect

NAME = "fruit.v2-b"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), np.full((200, 300, 3), 9, np.uint8))
    return folder


@pytest.mark.parametrize("chosen", [[], ["--model", NAME]])
def test_detect_and_bench_show_the_name_and_the_device(
    serve: Serve, folder: Path, tmp_path: Path, chosen: list[str]
) -> None:
    url = serve(FakeRuntime(FAKE_CARD.model_copy(update={"name": NAME}))).url
    output = tmp_path / "answers.jsonl"
    for said in ("", "1 of 1 images are done already.\n"):
        assert detect(folder, "--url", url, *chosen, "--output", output).stderr == said
    assert [json.loads(line)["model"] for line in output.read_text().splitlines()] == [NAME]
    app = typer.Typer()
    commands.register(app)
    runs = tmp_path / "runs.json"
    options = ["--images", folder, "--url", url, *chosen, "--count", "3", "--warm-up", "1", "--output", runs]
    result = CliRunner().invoke(app, ["bench", *map(str, options), "--plots", str(tmp_path / "plots")])
    assert result.exit_code == 0, result.output
    (run,) = json.loads(runs.read_text())
    assert (run["subject"]["model"], run["subject"]["runtime"], run["subject"]["device"]) == (NAME, "fake", "cpu")
    assert run["server_stages_ms"]["network"] >= 0
    assert NAME in result.stdout


@pytest.mark.parametrize("name", ["../../x", "$a_$", "_hidden", "[/red]", "[bold]a", "a/b\\c"])
def test_an_odd_name_of_a_foreign_server_is_only_text(name: str, tmp_path: Path) -> None:
    subject = SUBJECT.model_copy(update={"model": name})
    run = example_run(subject=subject)
    measured = [Measured(example_run(), [1.0, 2.0]), Measured(run, [1.0, 2.0])]
    files = plot(measured, tmp_path / "plots")
    assert len(files) == 4
    assert sorted(tmp_path.rglob("*.*")) == sorted(files)
    console = Console(record=True, width=200, file=StringIO())
    report.show([run], console)
    assert name in console.export_text()
