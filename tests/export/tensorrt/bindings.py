"""NVIDIA's `tensorrt.plugin` of several versions, from the wheels of TensorRT's bindings (1.2 MB each), in a cache.

Only one version can be installed, and these files are all Python: they are unpacked and not installed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from tests.deploy.files import TENSORRT

VERSIONS = ("10.9.0.34", TENSORRT, "11.4.0.106")
"""The oldest that has ahead-of-time plugins, that of the GPU image, and one that needs no care with NumPy."""
CACHE = Path.home() / ".cache" / "resnest-serving" / "tensorrt-bindings"


def bindings(version: str) -> Path:
    """Return the folder of TensorRT's Python module in a version, which contains `plugin`."""
    folder = CACHE / version
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=CACHE) as temporary:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            command += ["--platform", "manylinux_2_28_x86_64", "--dest", temporary]
            subprocess.run([*command, f"tensorrt-cu12-bindings=={version}"], check=True)
            [wheel] = Path(temporary).glob("*.whl")
            with ZipFile(wheel) as archive:
                names = [name for name in archive.namelist() if "/plugin/" in name and name.endswith(".py")]
                archive.extractall(temporary, names)
            [module] = Path(temporary).glob("tensorrt*bindings")
            try:
                module.rename(folder)
            except OSError:  # another process was faster
                assert folder.is_dir()
    return folder
