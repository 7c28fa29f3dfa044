"""A real Triton Inference Server without Docker or a GPU: built from a wheel, into a folder of its own.

    python deploy/triton/home.py [--home DIR]

The wheel `nvidia-pytriton` contains `tritonserver` with its Python backend, ensembles, HTTP, gRPC, shared memory and
metrics; of pytriton itself nothing is used. Needs nothing but Python's standard library, and pip.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "TRITONSERVER_HOME"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
SOURCE = Path(__file__).parents[2]
ALLOW_REPORTS = "RESNEST_ALLOW_TELEMETRY"
NO_REPORTS = {"ORT_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}  # as in resnest_core.telemetry_off
PYTHONS = ("3.10", "3.11", "3.12", "3.13")  # that the wheel has a backend for, and this project runs on


@dataclass(frozen=True)
class Home:
    """Where a server is: made by `build`."""

    folder: Path

    @property
    def venv(self) -> Path:
        return self.folder / "venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def packages(self) -> Path:
        return site_packages(self.venv)

    @property
    def triton(self) -> Path:
        return self.packages / "pytriton" / "tritonserver"

    @property
    def server(self) -> Path:
        return self.triton / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        return self.folder / "backends"

    def environment(self, project: Path) -> dict[str, str]:
        """Return the variables that the server runs with; `project` is where `install_project` put the project."""
        libraries = [str(self.packages / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))]
        dropped = ("PYTHON", "RESNEST_")
        return {
            **NO_REPORTS,
            **{name: os.environ[name] for name in os.environ if not name.startswith(dropped) or name == ALLOW_REPORTS},
            # The backend's interpreter reads no PYTHONPATH: it takes the environment that is first here.
            "PATH": os.pathsep.join([str(project / "bin"), os.environ.get("PATH", os.defpath)]),
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        }


def python_version() -> str:
    """Return such as `3.11`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def site_packages(environment: Path) -> Path:
    """Return where a virtual environment's packages lie."""
    return environment / "lib" / f"python{python_version()}" / "site-packages"


def default_home() -> Path:
    """Return $TRITONSERVER_HOME, else a folder in the user's cache."""
    named = os.environ.get(HOME_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "resnest-serving" / "triton"


def build(home: Path | None = None) -> Home:
    """Build a server, unless this very one is there already, and return where it is.

    Raises:
        RuntimeError: this machine or Python isn't one that the wheel is for.
        subprocess.CalledProcessError: pip couldn't install a package.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise RuntimeError("The wheel's tritonserver is for Linux on x86-64: elsewhere run the official container.")
    if python_version() not in PYTHONS:
        raise RuntimeError(f"The wheel's Python backend is for Python {', '.join(PYTHONS)}: run this with one of them.")
    folder = (home or default_home()).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # others may start tests at the same moment
        made = Home(folder / hashlib.sha256(REQUIREMENTS.read_bytes() + python_version().encode()).hexdigest()[:12])
        stamp = made.folder / "complete"
        if not stamp.exists():
            shutil.rmtree(made.folder, ignore_errors=True)
            _build(made)
            stamp.touch()
    return made


def install_project(home: Home, target: Path, source: Path = SOURCE) -> Path:
    """Install this project, from its sources or a wheel, into an environment of its own, and return that.

    The environment sees the packages of the server's; `target` is replaced.
    """
    shutil.rmtree(target, ignore_errors=True)
    venv.create(target)
    packages = site_packages(target)
    (packages / "server.pth").write_text(f"{home.packages}\n")
    _pip(home, "--no-deps", "--target", str(packages), str(source))
    return target


def _build(home: Home) -> None:
    venv.create(home.venv, with_pip=True)
    # The list is whole: pytriton would bring a client and much else that nothing here uses.
    _pip(home, "--no-deps", "-r", str(REQUIREMENTS))
    home.server.chmod(0o755)
    backend = home.backends / "python"
    shutil.copytree(home.triton / "backends" / "python", backend)
    stub = home.triton / "python_backend_stubs" / python_version() / "triton_python_backend_stub"
    shutil.copy(stub, backend)
    (backend / stub.name).chmod(0o755)


def _pip(home: Home, *arguments: str) -> None:
    command = [str(home.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


def main() -> None:
    """Build a server, and print where it is."""
    parser = argparse.ArgumentParser(description="Build a Triton Inference Server from a wheel.")
    parser.add_argument("--home", type=Path, help=f"where it goes; else ${HOME_VARIABLE}, else the user's cache")
    print(build(parser.parse_args().home).folder)


if __name__ == "__main__":
    main()
