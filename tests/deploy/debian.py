"""Tools of Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

CACHE = Path.home() / ".cache" / "resnest-serving"
SYSTEM = "/usr/sbin"  # not on every user's PATH


def tool(path: str, package: str) -> str:
    """Return a tool: that of this machine, else that of Debian's package, unpacked into a cache beside nothing else.

    Args:
        path: where the package has it, such as `usr/bin/promtool`.
        package: the package's name.
    """
    if found := shutil.which(Path(path).name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), SYSTEM])):
        return found
    unpacked = CACHE / package
    if not (unpacked / path).exists():
        try:
            _unpack(package, unpacked)
        except (OSError, subprocess.CalledProcessError) as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"{Path(path).name} is neither here nor to be had: {error}")
    return str(unpacked / path)


def _unpack(package: str, folder: Path) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        if subprocess.run(["apt-get", "download", package], cwd=temporary, capture_output=True).returncode:
            subprocess.run(["apt-get", "update"], check=True, capture_output=True)
            subprocess.run(["apt-get", "download", package], cwd=temporary, check=True, capture_output=True)
        (archive,) = Path(temporary).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
