"""`resnest inspect`: what it tells of checkpoints, configurations and models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from resnest_core.errors import CheckpointError, InvalidModelError, ParameterError, ResNeStError
from resnest_core.repository import network_path
from resnest_export import commands
from tests.export.mmdet_config.texts import CONFIGS, text_of
from tests.export.small_detector import CLASSES, save_small, small_config
from tests.weights import REPOSITORY

DEMO = network_path(REPOSITORY, "demo")


def inspect(*arguments: object) -> str:
    app = typer.Typer()
    commands.register(app)
    result = CliRunner().invoke(app, ["inspect", *map(str, arguments)])
    if isinstance(result.exception, ResNeStError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def inspect_json(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(inspect(*arguments, "--json"))
    return found


def test_a_configuration() -> None:
    found = inspect_json(CONFIGS / "two_fc_soft" / "config.py")
    assert (found["kind"], found["detector"]) == ("configuration", "Faster R-CNN")
    rows = {row["setting"]: row["here"] for row in found["differences"]}
    assert rows["test_rcnn.nms.type"] == "soft_nms"
    assert "differences: " in inspect(CONFIGS / "two_fc_soft" / "config.py")


def test_a_checkpoint_with_its_configuration(tmp_path: Path) -> None:
    config = small_config()
    path = save_small(tmp_path / "mine.pth", config, kept=text_of(config))
    found = inspect_json(path)
    assert (found["kind"], found["detector"], found["nearest"]) == ("checkpoint", "Mask R-CNN", "mask_rcnn_s50")
    assert (found["classes"], found["num_classes"], found["configuration"]) == (list(CLASSES), 3, "3.x")
    assert "refused" not in found and len(found["sha256"]) == 64
    text = inspect(path)
    assert "classes: screw, nut, washer" in text and "preprocessing.scale: (1024, 640) instead of (1333, 800)" in text


def test_what_is_refused_is_listed(tmp_path: Path) -> None:
    bad = text_of(small_config(("model.backbone.dcn", {"type": "DCN"}), ("model.neck.type", "PAFPN")))
    file = tmp_path / "bad.py"
    file.write_text(bad)
    path = save_small(tmp_path / "mine.pth", small_config(), kept=bad)
    for found in (inspect_json(file), inspect_json(path)):
        assert len(found["refused"]) == 2 and "model.backbone.dcn" in " ".join(found["refused"])
    assert inspect(file).count("refused: ") == 2


def test_a_checkpoint_without_a_configuration_and_with_a_file(tmp_path: Path) -> None:
    config = small_config()
    path = save_small(tmp_path / "mine.pth", config)
    [refused] = inspect_json(path)["refused"]
    assert "holds no configuration: pass it with --config" in refused
    file = tmp_path / "config.py"
    file.write_text(text_of(config))
    assert inspect_json(path, "--config", file)["settings_from"] == str(file)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    kept = text_of(small_config(("model.rpn_head.anchor_generator.ratios", [1.0])))
    [refused] = inspect_json(save_small(tmp_path / "mine.pth", small_config(), kept=kept))["refused"]
    assert "rpn_head.rpn_cls.weight" in refused and "scales and ratios of the anchors" in refused


def test_a_model_needs_no_torch() -> None:
    found = inspect_json(DEMO)
    assert (found["kind"], found["card"]["name"]) == ("exported model", "demo")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from resnest_export.inspection import describe\n"
        f"print(describe(Path({str(DEMO)!r}))['card']['family'])\n"
        f"print(describe(Path({str(CONFIGS / 'small_parts' / 'config.py')!r}))['detector'])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.stdout.split("\n")[:2], result.stderr) == (["Mask R-CNN", "Mask R-CNN"], "")


def test_files_that_are_none_of_the_three(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="There is no file"):
        inspect(tmp_path / "none.pth")
    junk = tmp_path / "junk"
    junk.write_bytes(b"junk")
    with pytest.raises(CheckpointError):
        inspect(junk)
    junk.rename(tmp_path / "junk.onnx")
    with pytest.raises(InvalidModelError):
        inspect(tmp_path / "junk.onnx")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError):
        inspect(tmp_path / "list.pth")
