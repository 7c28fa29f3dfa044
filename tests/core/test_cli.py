"""`resnest` itself, and `resnest models`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from resnest_core import cli, commands
from resnest_core.card import ModelCard
from resnest_core.errors import ModelNotFoundError
from resnest_core.published import PUBLISHED
from resnest_core.repository import network_path
from resnest_core.runtimes.fake import FAKE_CARD
from tests.core.networks import REPOSITORY, write_network

ROOT = Path(__file__).parents[2]


def install(repository: Path, card: ModelCard) -> None:
    write_network(network_path(repository, card.name), card)


def lines(repository: Path, columns: int = 80) -> dict[str, str]:
    """Return what `resnest models` prints, by first word."""
    app = typer.Typer()
    commands.register(app)
    result = CliRunner().invoke(app, ["--repository", str(repository)], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0, result.output
    return {line.split()[0]: line for line in result.stdout.splitlines()}


def test_the_published_are_listed_whatever_is_installed(tmp_path: Path) -> None:
    found = lines(tmp_path)
    for row in PUBLISHED.values():
        assert row.family in found[row.name]
        assert f" {row.box_ap} " in found[row.name]
        assert (f" {row.mask_ap} " in found[row.name]) == (row.mask_ap is not None)
        assert "classes" not in found[row.name]
    assert "demo" not in found


def test_the_demo_is_listed_without_an_accuracy() -> None:
    demo = lines(REPOSITORY)["demo"]
    assert "Mask R-CNN" in demo
    assert re.search(r" 80 classes, \d+ MiB", demo)


def test_installed_models_tell_of_themselves(tmp_path: Path) -> None:
    install(tmp_path, FAKE_CARD)
    install(tmp_path, FAKE_CARD.model_copy(update={"name": "mask_rcnn_s50", "box_ap": 42.6}))
    install(tmp_path, FAKE_CARD.model_copy(update={"name": "mask_rcnn_s101"}))
    found = lines(tmp_path)
    assert found["fake"].split() == ["fake", "Mask", "R-CNN", "none", "3", "classes,", "0", "MiB"]
    assert found["mask_rcnn_s50"].rstrip().endswith("38.1     3 classes, 0 MiB")
    assert found["mask_rcnn_s101"].rstrip().endswith("3 classes, 0 MiB, own weights")
    assert str(tmp_path) in found["AP"]


def test_a_row_is_a_line_however_narrow_the_terminal() -> None:
    assert lines(REPOSITORY, columns=30) == lines(REPOSITORY, columns=80)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08"])
def test_a_damaged_model_is_told_and_the_others_are_listed(tmp_path: Path, content: bytes) -> None:
    path = network_path(tmp_path, "broken")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    install(tmp_path, FAKE_CARD)
    found = lines(tmp_path)
    assert "damaged: export it again" in found["broken"]
    assert "3 classes" in found["fake"]


def test_the_list_needs_no_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, FAKE_CARD)
    monkeypatch.setitem(sys.modules, "onnx", None)
    found = lines(tmp_path)
    assert "3 classes" in found["fake"]
    assert "45.2" in found["mask_rcnn_s101"]


def test_every_package_registers_its_commands() -> None:
    names = {command.callback.__name__ for command in cli.build().registered_commands if command.callback}
    assert names >= {"models", "detect", "download", "export"}


def test_an_error_of_ours_is_one_sentence_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise ModelNotFoundError("There is no model [bold]x[/bold] " + "in a very long folder " * 9)

    monkeypatch.setattr(cli, "build", lambda: app)
    monkeypatch.setattr(sys, "argv", ["resnest"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "resnest: There is no model [bold]x[/bold] " + "in a very long folder " * 9 + "\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["detect", "absent.jpg"], "resnest: There is no file or folder absent.jpg.\n"),
        (["download", "yolo"], "resnest: No checkpoint of 'yolo' is published, only of "),
        (["dance"], "No such command 'dance'"),
    ],
)
def test_exit_codes(arguments: list[str], said: str) -> None:
    command = [sys.executable, "-c", "from resnest_core.cli import main; main()", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom resnest_core import cli\ncli.build()\n"
        "print(*sorted({'torch', 'onnx', 'onnxruntime', 'openvino', 'httpx', 'fastapi'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
