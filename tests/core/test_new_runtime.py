"""A runtime is one file and one row of `RUNTIMES`: settings, options and help texts follow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "tests/data/demo/images/000000000073.jpg"

# What a new runtime's file would hold, and its row.
ROW = """
from resnest_core.runtimes import RUNTIMES, FakeRuntime
from resnest_core.card import read_card

class Abacus(FakeRuntime):
    name, title, devices, device = "abacus", "Abacus", ("cpu", "npu"), "npu:0"

    @classmethod
    def load(cls, path, *, device=None, threads=None, instances=1):
        cls.checked_device(device)
        return cls(read_card(path))

RUNTIMES[Abacus.name] = Abacus
"""


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", ROW + script, *arguments]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={"COLUMNS": "200", "PATH": ""}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("command", ["serve", "detect", "bench", "eval", "repository"])
def test_help_names_it(command: str) -> None:
    shown = run("from resnest_core.cli import main; main()", command, "--help")
    assert "abacus" in shown
    if command != "repository":
        assert "npu" in shown


def test_the_command_line_runs_it() -> None:
    arguments = ("detect", str(DEMO), "--runtime", "abacus", "--device", "npu")
    shown = run("from resnest_core.cli import main; main()", *arguments)
    assert shown.count('"score"') == 3


def test_the_gateway_serves_with_it() -> None:
    script = """
from resnest_server import Settings
from resnest_server.engine_loading import load_engines
for engine in load_engines(Settings(runtime="abacus", device="npu")):
    print(engine.name, engine.runtime, engine.device)
from resnest_export.triton_repository.options import Serving
print(Serving(runtime="abacus").runtime)
"""
    assert run(script).split("\n")[:2] == ["demo abacus npu:0", "abacus"]
