"""Images per second of every detector that has a TensorRT engine: `resnest bench`, one image at a time."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from resnest_client.bench.results import read_runs
from resnest_core.repository import installed_models, network_path
from resnest_core.runtimes.tensorrt.manifest import PLAN, EngineManifest, manifest_path
from tools.gpu_check.comparison import PHOTOGRAPHS
from tools.gpu_check.machine import NO_GPU, gpu
from tools.gpu_check.outcome import failed, not_run, passed

TITLE = "images per second"
SCRIPT = "from resnest_core.cli import main; main()"


def main(seconds: float, repositories: list[Path]) -> None:
    """Time each engine of the repositories for so many seconds."""
    if gpu() is None:
        return not_run(TITLE, NO_GPU)
    engines = [
        (repository, model)
        for repository in repositories
        for model in installed_models(repository)
        if network_path(repository, model).with_name(PLAN).is_file()
    ]
    if not engines:
        return not_run(TITLE, "there is no engine: run `resnest export NAME --to tensorrt`.")
    for repository, model in engines:
        time_engine(repository, model, seconds)
    return None


def time_engine(repository: Path, model: str, seconds: float, runtime: str = "tensorrt", device: str = "cuda") -> None:
    """Say how many images per second an engine answers, or the file beside it in another runtime."""
    manifest = EngineManifest.read(manifest_path(network_path(repository, model).with_name(PLAN)))
    name = f"{TITLE}: {model}, {manifest.precision}"
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "runs.json"
        options = ["--model", model, "--runtime", runtime, "--device", device, "--repository", str(repository)]
        options += ["--images", str(PHOTOGRAPHS), "--duration", str(seconds), "--output", str(output)]
        ended = subprocess.run(
            [sys.executable, "-c", SCRIPT, "bench", *options], capture_output=True, text=True, check=False
        )
        if ended.returncode:
            return failed(name, ended.stderr.strip().splitlines()[-1])
        [run] = read_runs(output)
    latency = f", p50 {run.latency_ms.p50:.1f} ms" if run.latency_ms else ""
    return passed(name, f"{run.images_per_second:.1f}{latency}, one at a time, with decoding")


if __name__ == "__main__":
    main(float(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
