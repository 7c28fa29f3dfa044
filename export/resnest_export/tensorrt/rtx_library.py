"""TensorRT-RTX's shared library under the name that its plugins in Python look for, which its wheel leaves out.

Without it the process ends, with no word why, as soon as a plugin is made.
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
    """Return the library as it is installed.

    Raises:
        MissingExtraError: it isn't.
    """
    package = find_spec("tensorrt_rtx_libs")
    folders = package.submodule_search_locations if package else None
    found = sorted(Path(folders[0]).glob(f"{WANTED}.*")) if folders else []
    if not found:
        raise MissingExtraError("TensorRT-RTX", "rtx")
    return found[0]


@contextmanager
def findable_by_children() -> Iterator[None]:
    """Let processes that are started meanwhile find the library; this one can't any more."""
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
    """Let this process find the library, by a link beside it where none is on the way already.

    Raises:
        MissingExtraError: it isn't installed.
        RuntimeUnavailableError: the link can't be made.
    """
    path = library()
    link = path.with_name(WANTED)
    if link.exists() or _is_on_the_way():
        return
    try:
        link.symlink_to(path.name)
    except OSError as error:
        raise RuntimeUnavailableError(
            f"TensorRT-RTX finds its own library only as {link}: run `ln -s {path.name} {link}` as its owner."
        ) from error


def _is_on_the_way() -> bool:
    try:
        ctypes.CDLL(WANTED)
    except OSError:
        return False
    return True
