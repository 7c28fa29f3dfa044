"""Parameters of a profile, and loading of its image and model."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from resnest_client.bench.profiling.stages import Graph, read_graph
from resnest_core.card import ModelCard, read_card
from resnest_core.errors import ImageError, InvalidModelError, MissingExtraError, ParameterError
from resnest_core.image_folder import image_files
from resnest_core.images import decode_image, read_file
from resnest_core.repository import default_model, find_model, find_repository, installed_models


class ProfileRequest(NamedTuple):
    """Parameters of a profile; None: the default."""

    images: Path
    model: str | None = None
    runtime: str | None = None
    repository: Path | None = None
    threads: int | None = None
    masks: bool = True
    score_threshold: float | None = None
    runs: int | None = None


def first_image(images: Path) -> tuple[Path, bytes]:
    """Return the image's path and bytes, or those of the first in a folder that can be used.

    Raises:
        ParameterError: there is none.
    """
    for file in image_files(images) if images.is_dir() else [images]:
        try:
            data = read_file(file)
            decode_image(data)
            return file, data
        except ImageError as error:
            if file == images:
                raise ParameterError(f"{images} can't be used: {error}") from error
    raise ParameterError(f"The folder {images} holds no image that can be used: name one with photographs.")


def read_model(request: ProfileRequest) -> tuple[Graph, ModelCard]:
    """Read the model's graph and card; the default model where none is named.

    Raises:
        MissingExtraError: the onnx package isn't installed.
        ModelNotFoundError: there is no such model.
        InvalidModelError: the file is damaged, or wasn't made by `resnest export`.
    """
    try:
        import onnx
        import onnx.inliner
    except ImportError as error:
        raise MissingExtraError("onnx", "server") from error
    where = find_repository(request.repository)
    installed = installed_models(where)
    path = find_model(request.model or (default_model(installed) if installed else ""), where)
    try:
        model: onnx.ModelProto = onnx.load(path)
    except Exception as error:  # protobuf raises a class of its own
        raise InvalidModelError(f"{path} is damaged or not an ONNX model: export it again.") from error
    return read_graph(model), read_card(path)
