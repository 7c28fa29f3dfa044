"""`resnest eval` through Triton gives the figures of the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.test_eval import DEMO, evaluate, read
from tests.triton.server import REPOSITORY, TritonServer
from tests.triton.test_clients import address

pytestmark = pytest.mark.triton

DATA = ["--annotations", DEMO / "instances.json", "--images", DEMO / "images", "--model", "demo"]


def test_triton_gives_the_figures_of_the_process(triton: TritonServer, tmp_path: Path) -> None:
    answers = []
    for options in (["--repository", REPOSITORY], ["--url", address(triton)]):
        result = evaluate(*DATA, "--output", tmp_path / "figures.json", *options)
        assert (result.exit_code, result.stderr) == (0, "")
        answers.append(read(tmp_path / "figures.json"))
    ours, theirs = answers
    assert ours["bbox"]["AP"] == pytest.approx(0.661, abs=0.001)
    for iou_type in ("bbox", "segm"):
        assert theirs[iou_type] == pytest.approx(ours[iou_type], abs=1e-6)
    assert ours["model"] == theirs["model"]
