"""Describes the machine, package versions and command of a measurement, so that it can be reproduced."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shlex import join

import resnest_core
from resnest_client.detector_options import HIDDEN, without_user
from resnest_core.cpus import allowed_cpus

PACKAGES = ("resnest-serving", "numpy", "opencv-python-headless", "onnxruntime", "openvino", "httpx", "tritonclient")


def describe_machine() -> dict[str, str | int | float]:
    """Return this machine's processor, CPUs available to this process, memory in GiB, system and Python version."""
    import psutil

    return {
        "cpu": _cpu_model(),
        "cores": allowed_cpus(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def package_versions() -> dict[str, str]:
    """Return the versions of this project and of the installed packages that affect performance."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Return the commit of this checkout, with `-dirty` if files differ; None: this isn't a checkout."""
    root = Path(resnest_core.__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def command_line() -> str:
    """Return the command line, without keys and passwords."""
    shown, hide = ["resnest"], False
    for argument in sys.argv[1:]:
        name, equals, value = argument.partition("=")
        if hide:
            shown.append(HIDDEN)
        elif name == "--api-key" and equals:
            shown.append(f"{name}={HIDDEN}")
        elif name == "--url" and equals:
            shown.append(f"{name}={without_user(value)}")
        else:
            shown.append(without_user(argument))
        hide = argument == "--api-key"
    return join(shown)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
