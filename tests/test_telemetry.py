"""Nothing reports to anybody: commands look up no name and reach no address that they weren't given."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from resnest_core import telemetry_off
from resnest_core.telemetry_off import ALLOW, SWITCHES
from tests.isolated_network import Attempts, run_isolated
from tests.server.test_serve import PHOTOGRAPH, RESNEST

ROOT = Path(__file__).parents[1]
CI = {"APPVEYOR", "BUILDKITE", "CI", "CIRCLECI", "CODEBUILD_BUILD_ID", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL"}
CI |= {"TEAMCITY_VERSION", "TF_BUILD", "TRAVIS"}
"""Variables by which some packages know that nobody's machine is used, and report nothing."""
REPORTING = {"bentoml", "gradio", "huggingface_hub", "onnxruntime", "openvino", "ray"}
FOLDERS = ("benchmarks", "client", "core", "deploy", "export", "server", "tools")
SOURCES = {path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
ALLOWED_BY_HAND = {"RAY_USAGE_STATS_ENABLED": "1"}
SOURCES -= {ROOT / "benchmarks/gateway/bento.py"}  # BentoML runs it with the environment of `servers.py`


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Return a user's environment: not of CI, without anything that turns reports off, and with an empty home."""
    left_out = {*CI, *SWITCHES}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {name: value for name, value in kept.items() if not name.startswith("RESNEST_")} | {
        "HOME": str(home),
        **variables,
    }


def isolated(command: list[str | Path], home: Path, **variables: str) -> Attempts:
    try:
        return run_isolated(command, environment(home, **variables))
    except OSError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("how", ["quick", pytest.param("whole", marks=pytest.mark.slow)])
def test_serve_detect_bench_and_export_reach_nothing(tmp_path: Path, how: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    attempts = isolated([sys.executable, "-m", "tests.offline_scenario", tmp_path, how], home)
    assert attempts.returncode == 0, attempts.output
    assert (attempts.names, attempts.unreachable) == ((), 0)
    assert "\x1b[" not in attempts.output
    assert [path for path in home.rglob("*") if path.is_file()] == []  # such as an identifier of this machine


REPORTS = """
import time, resnest_core, onnxruntime, openvino
detector = resnest_core.load_detector("demo", runtime="onnxruntime")
detector.detect("tests/data/demo/images/000000000073.jpg")
time.sleep(13)
"""


def test_the_setting_that_allows_reports_is_the_only_reason_for_silence(tmp_path: Path) -> None:
    """The same isolation sees the reports of both packages where they are allowed."""
    attempts = isolated([sys.executable, "-c", REPORTS], tmp_path, **{ALLOW: "1"})
    assert attempts.returncode == 0, attempts.output
    assert {"mobile.events.data.microsoft.com", "www.google-analytics.com"} <= set(attempts.names)


def test_no_package_writes_lines_of_its_own(tmp_path: Path) -> None:
    """ONNX Runtime's reports warn, in color, where they can't store an identifier."""
    command = [
        *RESNEST,
        "detect",
        str(PHOTOGRAPH),
        "--runtime",
        "onnxruntime",
        "--output",
        str(tmp_path / "found.json"),
    ]
    variables = environment(Path("/proc/nowhere"))
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_addresses_are_seen_too(tmp_path: Path) -> None:
    script = """
import socket
for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        assert socket.socket(family, kind).connect_ex((address, 443))
"""
    attempts = isolated([sys.executable, "-c", script], tmp_path)
    assert (attempts.returncode, attempts.names, attempts.unreachable) == (0, (), 4)


@pytest.mark.parametrize(
    ("package", "given", "left"),
    [
        ("resnest_core", {}, SWITCHES),
        ("resnest_core", {"ORT_DISABLE_TELEMETRY": ""}, SWITCHES),
        ("resnest_core", {"ORT_DISABLE_TELEMETRY": "0"}, {**SWITCHES, "ORT_DISABLE_TELEMETRY": "0"}),
        ("resnest_core", {ALLOW: "off"}, SWITCHES),
        ("resnest_core", {ALLOW: "True"}, {}),
        (
            "resnest_core",
            {ALLOW: "1", "DO_NOT_TRACK": "1", "ORT_DISABLE_TELEMETRY": "yes"},
            {"ORT_DISABLE_TELEMETRY": "yes"},
        ),
        ("resnest_server.app", {}, SWITCHES),
        ("resnest_client.commands", {}, SWITCHES),
        ("resnest_export.commands", {}, SWITCHES),
        ("benchmarks.gateway.servers", {}, SWITCHES),
    ],
)
def test_imports_set_the_switches(package: str, given: dict[str, str], left: dict[str, str], tmp_path: Path) -> None:
    script = f"import os, {package}\nprint({{name: os.environ[name] for name in {[*SWITCHES]} if name in os.environ}})"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(tmp_path, **given), capture_output=True, text=True, check=True
    )
    assert ast.literal_eval(done.stdout) == left


def test_this_process_reports_nothing() -> None:
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1" or telemetry_off.is_allowed()


def test_nothing_that_reports_is_imported_before_the_switches_are_set() -> None:
    """Outside functions, this project's packages are imported first."""
    for path in SOURCES:
        names: list[str] = []
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Import):
                names += [alias.name.partition(".")[0] for alias in statement.names]
            elif isinstance(statement, ast.ImportFrom) and statement.module:
                names.append(statement.module.partition(".")[0])
        before = takewhile(lambda name: not name.startswith("resnest_"), names)
        assert not REPORTING.intersection(before), path
