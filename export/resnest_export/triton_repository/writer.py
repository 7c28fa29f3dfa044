"""Writes a model's files for Triton into the repository that contains its network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnest_core import tensors
from resnest_core.card import NETWORK_SUFFIX, PREPROCESS_SUFFIX, ModelCard, read_card
from resnest_core.errors import ModelNotFoundError, ParameterError
from resnest_core.repository import installed_models, network_path
from resnest_export.triton_repository.engine_profiles import checked_profiles
from resnest_export.triton_repository.model_configs import configs, to_text, warmup_size_hw
from resnest_export.triton_repository.options import Platform, Serving

MODEL_PY = '''"""Made by `resnest repository`: the model itself is in resnest_core."""

from resnest_core.triton_models.{module} import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write_repository(repository: Path, serving: Serving, names: tuple[str, ...] = ()) -> list[str]:
    """Write Triton's files for all or the named models of a repository; return the models' names.

    Raises:
        ModelNotFoundError: the repository has no model of a given name.
        InvalidModelError: a network is damaged, or there is no engine for the platform `tensorrt`.
        EngineMismatchError: the engine was built from another network.
        ParameterError: a file can't be written, or the engine doesn't support every batch and shape.
    """
    installed = installed_models(repository)
    for name in names:
        if name not in installed:
            found = ", ".join(installed) or "none"
            raise ModelNotFoundError(f"There is no model {name!r} in {repository}, only {found}: name one of those.")
    chosen = list(names) or installed
    for name in chosen:
        card = read_card(network_path(repository, name))
        write_model(repository, card.model_copy(update={"name": name}), serving)  # Triton requires the folder's name
    return chosen


def write_model(repository: Path, card: ModelCard, serving: Serving) -> None:
    """Write the ensemble, the preprocessing and the network's configuration of one model.

    Raises:
        InvalidModelError, EngineMismatchError: there is no engine of this network for the platform `tensorrt`.
        ParameterError: a file can't be written, or the engine doesn't support every batch and shape.
    """
    profiles = 1
    if serving.platform is Platform.TENSORRT:
        profiles = len(checked_profiles(network_path(repository, card.name), card, serving))
    network_py = repository / (card.name + NETWORK_SUFFIX) / "1" / "model.py"
    try:
        for path, content in files(card, serving, profiles):
            (repository / path).parent.mkdir(parents=True, exist_ok=True)
            (repository / path).write_bytes(content)
        if serving.platform is not Platform.CPU:
            network_py.unlink(missing_ok=True)
    except OSError as error:
        raise ParameterError(f"{repository} can't be written ({error.strerror}): name another repository.") from error


def files(card: ModelCard, serving: Serving, profiles: int = 1) -> Iterator[tuple[Path, bytes]]:
    """Yield the path, relative to the repository, and the content of each generated file of a model.

    `profiles` is the number of optimization profiles of the TensorRT engine.
    """
    for config in configs(card, serving, profiles):
        yield Path(config.name) / "config.pbtxt", to_text(config).encode()
    # Triton requires a version folder for an ensemble too, and git doesn't store empty folders.
    yield Path(card.name) / "1" / "README", b"Made by `resnest repository`: an ensemble has no file of its own.\n"
    yield Path(card.name + PREPROCESS_SUFFIX) / "1" / "model.py", MODEL_PY.format(module="preprocess").encode()
    network = Path(card.name + NETWORK_SUFFIX)
    if serving.platform is Platform.CPU:
        yield network / "1" / "model.py", MODEL_PY.format(module="network").encode()
    for name, array in _warmup_tensors(card).items():
        yield network / "warmup" / name, array.tobytes()


def _warmup_tensors(card: ModelCard) -> dict[str, NDArray[Any]]:
    size_hw = np.array(warmup_size_hw(card), "<i8")
    values = {
        tensors.IMAGE_SIZES: size_hw,
        tensors.ORIGINAL_SIZES: size_hw,
        tensors.SCORE_THRESHOLDS: np.array([card.score_threshold], "<f4"),
        tensors.WANT_MASKS: np.array([True]),
    }
    return {name: values[name] for name in tensors.input_names(card.has_masks) if name in values}
