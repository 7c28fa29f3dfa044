"""`tools/gpu_check.sh`: what its processes say becomes a table; the parts that need no GPU run here."""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from resnest_core.errors import ParameterError
from resnest_core.published import PUBLISHED
from tools.gpu_check import __main__ as gpu_check
from tools.gpu_check.__main__ import Check
from tools.gpu_check.machine import gpu
from tools.gpu_check.outcome import Outcome, State
from tools.gpu_check.table.command import TableOptions

ROOT = Path(__file__).parents[2]
OUTCOME = "from tools.gpu_check.outcome import failed, not_run, passed\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("passed('a', '1 ms')\nprint('noise')\nnot_run('b', 'no GPU')", [("a", "passed"), ("b", "not run")]),
        ("failed('a', 'differs')", [("a", "failed")]),
        ("", [("written x", "failed")]),
        ("passed('a', '')\nraise SystemExit('bad')", [("a", "passed"), ("written x", "failed")]),
        ("import os\npassed('a', '')\nos.abort()", [("a", "passed"), ("written x", "failed")]),
        ("import time\npassed('a', '')\ntime.sleep(60)", [("a", "passed"), ("written x", "failed")]),
    ],
    ids=["says", "failed", "silent", "ends badly", "crashes", "hangs"],
)
def test_whatever_becomes_of_a_check_there_is_a_row(tmp_path: Path, code: str, expected: list[tuple[str, str]]) -> None:
    (tmp_path / "written.py").write_text(OUTCOME + code)
    check = Check("written", ("x",), 2 if "sleep" in code else 20, {"PYTHONPATH": str(tmp_path)})
    outcomes = list(check.run())
    assert [(outcome.check, outcome.state.value) for outcome in outcomes] == expected


def test_a_table_shows_what_was_said() -> None:
    text = StringIO()
    Console(file=text, width=100).print(gpu_check.table([Outcome("kernel [x]", State.FAILED, "off [by] 1")]))
    assert text.getvalue().split() == ["check", "kernel", "[x]", "failed", "off", "[by]", "1"]


@pytest.mark.parametrize(
    ("states", "arguments", "code"),
    [
        ([State.PASSED], [], 0),
        ([State.PASSED, State.NOT_RUN], [], 0),
        ([State.PASSED, State.FAILED], [], 1),
        ([State.PASSED, State.NOT_RUN], ["--strict"], 1),
        ([State.PASSED], ["--strict"], 0),
    ],
)
def test_the_exit_code_says_whether_something_failed(
    monkeypatch: pytest.MonkeyPatch, states: list[State], arguments: list[str], code: int
) -> None:
    check = SimpleNamespace(title="a check", run=lambda: [Outcome("a row", state, "") for state in states])
    monkeypatch.setattr(gpu_check, "describe", lambda: Outcome("GPU", State.PASSED, ""))
    monkeypatch.setattr(gpu_check, "checks", lambda *_: [check])
    monkeypatch.setattr(sys, "argv", ["gpu_check", *arguments])
    assert gpu_check.main() == code


def test_each_build_has_a_process_and_a_limit_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a_network/1").mkdir(parents=True)
    (tmp_path / "a_network/1/model.plan").touch()
    found = gpu_check.checks(Path("/engines"), tmp_path, 5, "localhost:8001")
    builds = [check for check in found if check.arguments[:1] == ("tensorrt",)]
    assert [check.arguments for check in builds] == [("tensorrt", "/engines", each) for each in ("fp32", "fp16")]
    assert {check.seconds for check in builds} == {gpu_check.BUILD_SECONDS}
    assert [check.title for check in builds] == ["engine tensorrt fp32", "engine tensorrt fp16"]
    speed, triton = found[-2:]
    assert speed.seconds == 3 * 65 and triton.arguments == ("localhost:8001", str(tmp_path))
    assert len(gpu_check.checks(Path("/engines"), None, 5)) == len(found) - 1


def test_a_triton_without_its_repository_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--triton", "localhost:8001"])
    with pytest.raises(SystemExit):
        gpu_check.main()
    assert "--triton needs --repository" in capsys.readouterr().err


def test_the_table_takes_the_place_of_the_checks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[TableOptions] = []

    def run(options: TableOptions) -> int:
        asked.append(options)
        if options.models == ("none",):
            raise ParameterError("There is no 'none' to measure.")
        return 0

    monkeypatch.setattr(gpu_check, "run", run)
    for arguments, code in ((["--precisions", "fp16", "bf16", "--seconds", "2"], 0), (["--models", "none"], 1)):
        monkeypatch.setattr(sys, "argv", ["gpu_check", "--table", str(tmp_path / "x.json"), *arguments])
        assert gpu_check.main() == code
    assert asked[0] == TableOptions(tmp_path / "x.json", tuple(PUBLISHED), ("fp16", "bf16"), None, 2)
    assert "There is no 'none' to measure." in capsys.readouterr().err


@pytest.mark.rtx
def test_without_a_gpu_the_parts_that_need_none_pass() -> None:
    """The whole script, as somebody runs it; on a machine with a GPU the other parts have to pass too."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = ["sh", str(ROOT / "tools" / "gpu_check.sh")]
    result = subprocess.run(script, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path})
    assert result.returncode == 0, result.stdout + result.stderr

    def states(beginning: str) -> set[str]:
        rows = [row for row in result.stdout.splitlines() if row.startswith(beginning)]
        assert rows, f"no row begins with {beginning!r}:\n{result.stdout}"
        return {state.value for row in rows for state in State if f" {state.value} " in row}

    needing_none = ("interpreter: RoIAlign", "interpreter: NMS", "PTX  ", "PTX assembled for sm_120")
    for beginning in (*needing_none, "engine of demo, TensorRT-RTX"):
        assert states(beginning) == {"passed"}
    needing_one = ("GPU", "PTX through the driver", "Triton on the GPU", "detectors in PyTorch", "images per second")
    for beginning in needing_one:
        assert gpu() or states(beginning) == {"not run"}
