"""The Dockerfiles by hadolint, which also checks the shell in them."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.deploy.files import GATEWAY, ROOT, TRITON, TRITON_GPU

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the wheel of hadolint is for Linux")
DOCKERFILES = {"gateway": GATEWAY, "triton": TRITON, "triton-gpu": TRITON_GPU}
FAULTS = {
    "DL3006": "FROM debian\n",
    "DL3013": "FROM debian:12\nRUN pip install numpy\n",
    "DL3003": "FROM debian:12\nRUN cd /tmp && ls\n",
    "SC2086": "FROM debian:12\nRUN ls $HOME\n",
}


def hadolint(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    """Check a Dockerfile; no rule is ignored, neither by a configuration nor by a comment in the file."""
    tool = Path(sysconfig.get_path("scripts")) / "hadolint"
    command = [
        str(tool),
        "--no-color",
        "--config",
        "/dev/null",
        "--disable-ignore-pragma",
        "--failure-threshold",
        "info",
    ]
    return subprocess.run([*command, str(dockerfile)], capture_output=True, text=True, check=False)


def test_every_dockerfile_is_checked() -> None:
    assert set((ROOT / "deploy").rglob("*Dockerfile*")) == set(DOCKERFILES.values())


@pytest.mark.parametrize("dockerfile", DOCKERFILES.values(), ids=DOCKERFILES)
def test_hadolint_finds_no_fault(dockerfile: Path) -> None:
    checked = hadolint(dockerfile)
    assert checked.returncode == 0 and not checked.stdout, checked.stdout


@pytest.mark.parametrize(("rule", "text"), FAULTS.items(), ids=FAULTS)
def test_hadolint_would_find_one(rule: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(text)
    checked = hadolint(tmp_path / "Dockerfile")
    assert checked.returncode != 0 and rule in checked.stdout
