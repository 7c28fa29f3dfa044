"""Where `resnest detect` draws each image to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from resnest_core.errors import ParameterError

PNG, JPEG = ".png", ".jpg"
ENCODED = {PNG, JPEG, ".jpeg", ".jpe", ".jfif"}  # names of which a drawing can have the image's


def drawing_paths(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Return a file in the folder for each image: of its name, with `.jpg` behind it if it is of another format.

    Images of the same name in different folders are drawn into folders of those names.

    Raises:
        ParameterError: a drawing would replace an image.
    """
    every = list(dict.fromkeys(files))
    parents = _parents(every)
    chosen: dict[Path, Path] = {}
    taken: set[str] = set()
    # Those that keep their names first, so that no other takes one.
    for file in sorted(every, key=lambda file: file.suffix.lower() not in ENCODED):
        name = file.name if file.suffix.lower() in ENCODED else f"{file.name}{JPEG}"
        while (path := folder / parents[file] / name).as_posix().casefold() in taken:
            name += JPEG
        taken.add(path.as_posix().casefold())
        chosen[file] = path
    sources = {file.resolve() for file in every}
    if folder.resolve() in {source.parent for source in sources}:
        raise ParameterError(f"The folder {folder} holds the images themselves: name another --output.")
    if replaced := [path for path in chosen.values() if path.resolve() in sources]:
        raise ParameterError(f"The drawing {replaced[0]} would replace an image: name another --output.")
    return chosen


def _parents(files: Sequence[Path]) -> dict[Path, Path]:
    """Return the folder that each file is drawn into: none unless different folders have files of the same name."""
    absolute = {file: Path(os.path.abspath(file)) for file in files}  # noqa: PTH100 - resolve() would follow links
    names: dict[str, Path] = {}
    same = any(names.setdefault(path.name.casefold(), path.parent) != path.parent for path in absolute.values())
    if not same:
        return dict.fromkeys(files, Path())
    parents = {path.parent for path in absolute.values()}
    try:
        common = Path(os.path.commonpath(parents))
    except ValueError:  # different drives
        return {file: Path(*path.parent.parts[1:]) for file, path in absolute.items()}
    return {file: path.parent.relative_to(common) for file, path in absolute.items()}
