"""The model repository: where models lie on disk, and how one is loaded by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from resnest_core.card import ModelCard
from resnest_core.detector import InProcessDetector
from resnest_core.errors import InvalidModelError, MissingExtraError, ModelNotFoundError, ParameterError
from resnest_core.published import PUBLISHED
from resnest_core.runtimes import RUNTIMES, TensorRtRuntime, fastest_runtime
from resnest_core.runtimes.fallback import load_tensorrt_or_less

REPOSITORY_VARIABLE = "RESNEST_REPOSITORY"
NETWORK_SUFFIX = "_network"
DEVICES = ("cpu", "cuda")


def find_repository(repository: str | Path | None = None) -> Path:
    """Return the model repository: the argument, else $RESNEST_REPOSITORY, else ./model_repository, else the demo's."""
    named = repository or os.environ.get(REPOSITORY_VARIABLE)
    if named:
        return Path(named)
    here = Path("model_repository")
    if installed_models(here):
        return here
    inside_wheel = Path(__file__).with_name("demo_repository")
    in_checkout = Path(__file__).parents[2] / "model_repository"
    return inside_wheel if inside_wheel.is_dir() else in_checkout


def network_path(repository: Path, name: str) -> Path:
    """Return where the ONNX file of the model `name` lies."""
    return repository / f"{name}{NETWORK_SUFFIX}" / "1" / "model.onnx"


def installed_models(repository: Path) -> list[str]:
    """Return the names of the models in a repository, sorted."""
    files = repository.glob(f"*{NETWORK_SUFFIX}/1/model.onnx")
    return sorted(path.parents[1].name.removesuffix(NETWORK_SUFFIX) for path in files)


def read_card(path: Path) -> ModelCard:
    """Read the card of an ONNX file without loading its network.

    Raises:
        InvalidModelError: the file is damaged, or wasn't made by `resnest export`.
        MissingExtraError: the onnx package isn't installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "server") from error
    try:
        metadata = onnx.load(path).metadata_props
    except Exception as error:  # protobuf raises a class of its own
        raise InvalidModelError(f"{path} is damaged or not an ONNX model: export it again.") from error
    return ModelCard.from_metadata({entry.key: entry.value for entry in metadata}, path)


def default_model(names: Sequence[str]) -> str:
    """Return the model that serves where none is named: the first by name."""
    return min(names)


def load_detector(
    name_or_path: str | Path,
    *,
    runtime: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    instances: int = 1,
    repository: str | Path | None = None,
    fallback: bool = False,
) -> InProcessDetector:
    """Load a detector by its name in the repository, or from an ONNX file.

    Args:
        name_or_path: such as `mask_rcnn_s50`, or a path ending in `.onnx`.
        runtime: `onnxruntime`, `openvino` or `tensorrt`; None: the fastest of those installed, but not `tensorrt`.
        device: `cpu` or `cuda`; `tensorrt` always runs on the GPU.
        threads: that a batch runs on; None: its share of the CPUs that this process may use.
        instances: batches that may run at the same time, from threads of the caller's.
        repository: see `find_repository`.
        fallback: whether ONNX Runtime is taken, and the log says why, where `tensorrt` can't run the model.

    Raises:
        ModelNotFoundError: no such model or file.
        InvalidModelError: the file is damaged, or wasn't made by `resnest export`; or there is no TensorRT engine.
        EngineMismatchError: the TensorRT engine was built for another machine.
        ParameterError: there is no such runtime or device.
        MissingExtraError: the runtime's package isn't installed.
        RuntimeUnavailableError: the device isn't there.
    """
    if device not in DEVICES:
        raise ParameterError(f"There is no device {device!r}: use one of {', '.join(DEVICES)}.")
    runtime = runtime or fastest_runtime(device).name
    if runtime not in RUNTIMES:
        raise ParameterError(f"There is no runtime {runtime!r}: use one of {', '.join(RUNTIMES)}.")
    path = Path(name_or_path)
    if path.suffix != ".onnx":
        where = find_repository(repository)
        path = network_path(where, str(name_or_path))
        if not path.is_file():
            found = ", ".join(installed_models(where)) or "none"
            remedy = f"`resnest export {name_or_path}` makes it" if name_or_path in PUBLISHED else "name one of those"
            raise ModelNotFoundError(f"There is no model {str(name_or_path)!r} in {where}, only {found}: {remedy}.")
    elif not path.is_file():
        raise ModelNotFoundError(f"There is no file {path}.")
    if runtime == TensorRtRuntime.name and fallback:
        return InProcessDetector(load_tensorrt_or_less(path, threads=threads, instances=instances))
    return InProcessDetector(RUNTIMES[runtime].load(path, device=device, threads=threads, instances=instances))
