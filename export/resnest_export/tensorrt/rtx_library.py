"""Makes TensorRT-RTX's shared library available under the name that its Python plugins load.

The wheel lacks a file of that name. Without it the process exits without a message when a plugin is created.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from resnest_core.errors import MissingExtraError, RuntimeUnavailableError

WANTED = "libtensorrt_rtx.so"
VARIABLE = "LD_LIBRARY_PATH"


def library() -> Path:
    """Return the path of the installed library.

    Raises:
        MissingExtraError: it isn't installed.
    """
    package = find_spec("tensorrt_rtx_libs")
    folders = package.submodule_search_locations if package else None
    found = sorted(Path(folders[0]).glob(f"{WANTED}.*")) if folders else []
    if not found:
        raise MissingExtraError("TensorRT-RTX", "rtx")
    return found[0]


@contextmanager
def findable_by_children() -> Iterator[None]:
    """Let child processes find the library; the loader of a running process doesn't reread LD_LIBRARY_PATH."""
    before = os.environ.get(VARIABLE)
    with TemporaryDirectory() as folder:
        (Path(folder) / WANTED).symlink_to(library())
        os.environ[VARIABLE] = folder if before is None else f"{folder}{os.pathsep}{before}"
        try:
            yield
        finally:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before


def make_findable() -> None:
    """Let this process find the library: create a symbolic link in its folder if the loader can't find it yet.

    Raises:
        MissingExtraError: it isn't installed.
        RuntimeUnavailableError: the link can't be made.
    """
    path = library()
    link = path.with_name(WANTED)
    if link.exists() or _is_loadable():
        return
    try:
        link.symlink_to(path.name)
    except OSError as error:
        raise RuntimeUnavailableError(
            f"TensorRT-RTX needs its library under the name {link}: run `ln -s {path.name} {link}` as its owner."
        ) from error


def _is_loadable() -> bool:
    try:
        ctypes.CDLL(WANTED)
    except OSError:
        return False
    return True
