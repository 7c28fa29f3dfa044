"""Serves, detects, measures and exports, as users do: run by `tests/test_telemetry.py` where no network is.

    python -m tests.offline_scenario FOLDER [whole]

Without `whole` the export neither traces the network nor compares it with PyTorch, which take a minute.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.export.mmdet_config.texts import text_of
from tests.export.small_detector import save_small, small_config
from tests.server.test_serve import PHOTOGRAPH, RESNEST, ROOT, serving

SECONDS = 12.0
"""How long the gateway is up at least: ONNX Runtime's first report leaves about ten seconds after its start."""


EXPORT = """
import shutil, torch.onnx, onnxscript
from resnest_core import cli
from resnest_core.repository import find_repository, network_path
from resnest_export import pipeline
demo = network_path(find_repository(), "demo")
pipeline.export_onnx = lambda detector, card, path, *, winograd: shutil.copy(demo, path)
pipeline.check = lambda *_, **__: iter(())
cli.main()
"""


def resnest(*arguments: str | Path, program: tuple[str, ...] = RESNEST) -> None:
    """Run a command, which must succeed."""
    subprocess.run([*program, *map(str, arguments)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    folder = Path(sys.argv[1])
    with serving("--runtime", "onnxruntime") as (url, _):
        end = time.monotonic() + SECONDS
        for path in ("/", "/docs", "/metrics", "/v1/models"):
            httpx.get(url + path).raise_for_status()
        resnest("detect", PHOTOGRAPH, "--url", url, "--output", folder / "answers.json")
        resnest("detect", PHOTOGRAPH, "--runtime", "openvino", "--output", folder / "drawn")
        resnest("bench", "--url", url, "--images", PHOTOGRAPH.parent, "--duration", "1", "--concurrency", "1")
        config = small_config()
        checkpoint = save_small(folder / "mine.pth", config, kept=text_of(config))
        program = RESNEST if "whole" in sys.argv else (sys.executable, "-c", EXPORT)
        repository = ("--repository", folder / "repository")
        resnest("export", "--checkpoint", checkpoint, *repository, "--to", "openvino", program=program)
        resnest("detect", PHOTOGRAPH, *repository, "--runtime", "openvino", "--output", folder / "exported.json")
        time.sleep(max(end - time.monotonic(), 0))


if __name__ == "__main__":
    main()
