"""The model repository: where models are on disk, and how one is loaded by name.

A model's name is its folder's: `<name>_network/1/model.onnx`. The repository is read when a process starts.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from resnest_core.card import NETWORK_SUFFIX, check_model_name
from resnest_core.detector import InProcessDetector
from resnest_core.errors import ModelNotFoundError, ParameterError
from resnest_core.hashing import sha256
from resnest_core.published import PUBLISHED
from resnest_core.runtimes import RUNTIMES, devices, preferred_runtime
from resnest_core.runtimes.fallback import load_or_fall_back

REPOSITORY_VARIABLE = "RESNEST_REPOSITORY"


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
    """Return the path of the model's ONNX file."""
    return repository / f"{name}{NETWORK_SUFFIX}" / "1" / "model.onnx"


def installed_models(repository: Path) -> list[str]:
    """Return the names of the models in a repository, sorted; folders that can't be models are left out."""
    return sorted(name for name, folder in _network_folders(repository) if folder_problem(folder) is None)


def folder_problem(folder: Path) -> str | None:
    """Return why a folder `<name>_network` isn't a model, as a sentence that says what to do; None: it is one."""
    name = folder.name.removesuffix(NETWORK_SUFFIX)
    try:
        check_model_name(name)
    except ParameterError as error:
        return f"The folder {folder} is left out: {error}"
    if not network_path(folder.parent, name).is_file():
        return f"The folder {folder} is left out, since it holds no 1/model.onnx: export the model again, or delete it."
    return None


def repository_problems(repository: Path) -> Iterator[str]:
    """Yield a sentence for each folder that looks like a model and isn't one, and for models that are the same file."""
    same_size: dict[int, list[str]] = defaultdict(list)
    for name, folder in sorted(_network_folders(repository)):
        problem = folder_problem(folder)
        if problem is None:
            same_size[network_path(repository, name).stat().st_size].append(name)
        else:
            yield problem
    for names in same_size.values():
        by_content: dict[str, list[str]] = defaultdict(list)
        for name in names if len(names) > 1 else ():
            by_content[sha256(network_path(repository, name))].append(name)
        for group in by_content.values():
            if len(group) > 1:
                yield f"The models {' and '.join(group)} in {repository} are the same file: they answer alike."


def _network_folders(repository: Path) -> Iterator[tuple[str, Path]]:
    for folder in repository.glob(f"*{NETWORK_SUFFIX}"):
        if folder.is_dir():
            yield folder.name.removesuffix(NETWORK_SUFFIX), folder


def default_model(names: Sequence[str]) -> str:
    """Return the model that serves where none is named: the first by name."""
    return min(names)


def load_detector(
    name_or_path: str | Path,
    *,
    runtime: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    instances: int = 1,
    repository: str | Path | None = None,
    fallback: bool = False,
) -> InProcessDetector:
    """Load a detector by its name in the repository, or from an ONNX file.

    Args:
        name_or_path: such as `mask_rcnn_s50`, or a path ending in `.onnx`.
        runtime: a name in `resnest_core.runtimes.RUNTIMES`; None: see `preferred_runtime`.
        device: `cpu` or `cuda`; None: the runtime's own, which is the CPU for all but `tensorrt`.
        threads: threads of a batch; None: its share of the CPUs that this process may use.
        instances: batches that may run at the same time, from threads of the caller's.
        repository: see `find_repository`.
        fallback: whether the runtime's fallbacks are tried where it can't run the model; the log then says why.

    Returns:
        A detector whose `card.name` is the model's name in the repository.

    Raises:
        ModelNotFoundError: no such model or file.
        InvalidModelError: the file is damaged, or wasn't made by `resnest export`; or there is no TensorRT engine.
        EngineMismatchError: the TensorRT engine was built for another machine.
        ParameterError: there is no such runtime or device.
        MissingExtraError: the runtime's package isn't installed.
        RuntimeUnavailableError: the device isn't there, or the runtime doesn't run on it.
    """
    if device is not None and device not in devices():
        raise ParameterError(f"There is no device {device!r}: use one of {', '.join(devices())}.")
    runtime = runtime or preferred_runtime(device).name
    if runtime not in RUNTIMES:
        raise ParameterError(f"There is no runtime {runtime!r}: use one of {', '.join(RUNTIMES)}.")
    path = Path(name_or_path)
    if path.suffix != ".onnx":
        path = find_model(str(name_or_path), find_repository(repository))
    elif not path.is_file():
        raise ModelNotFoundError(f"There is no file {path}.")
    if fallback:
        return InProcessDetector(
            load_or_fall_back(RUNTIMES[runtime], path, device=device, threads=threads, instances=instances)
        )
    return InProcessDetector(RUNTIMES[runtime].load(path, device=device, threads=threads, instances=instances))


def find_model(name: str, repository: Path) -> Path:
    """Return the path of the ONNX file of the model `name`.

    Raises:
        ModelNotFoundError: it isn't in the repository, or its folder isn't a model.
    """
    path = network_path(repository, name)
    problem = folder_problem(path.parents[1])
    if problem is None:
        return path
    if name and path.parents[1].is_dir():
        raise ModelNotFoundError(problem)
    found = ", ".join(installed_models(repository)) or "none"
    remedy = f"`resnest export {name}` makes it" if name in PUBLISHED else "name one of those"
    raise ModelNotFoundError(f"There is no model {name!r} in {repository}, only {found}: {remedy}.")
