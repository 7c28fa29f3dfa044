"""What `--ray`'s sources name: image files and Parquet files, in folders, by patterns, or one by one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from resnest_client.bulk import storage
from resnest_client.bulk.tables import check_images, choose_columns, is_table_name, open_table
from resnest_core.errors import ParameterError
from resnest_core.image_folder import is_image_name

FOOTERS_AT_ONCE = 16


class File(NamedTuple):
    """A file: its name as the user's source gives it, and its absolute path or its address in an object store."""

    name: str
    address: str


class Piece(NamedTuple):
    """Images that are read together: an image file, or rows of a Parquet file.

    `row_group` is None for an image file; `start` and `rows` are the first row in the row group, and how many.
    """

    name: str
    address: str
    row_group: int | None = None
    start: int = 0
    rows: int = 1


@dataclass
class Inputs:
    """Files of the sources, each once, in the sources' order."""

    images: list[File] = field(default_factory=list)
    tables: list[File] = field(default_factory=list)
    left_out: int = 0
    """How many files in folders and of patterns are neither."""


def find_inputs(sources: Sequence[str]) -> Inputs:
    """Return the files that the sources name.

    A folder that holds images is one of images: Parquet files in it describe them, and are left out.

    Raises:
        ParameterError: a source isn't there, or holds neither images nor Parquet files.
        UnreachableError: the object store refuses, or can't be reached.
    """
    found = Inputs()
    for source in sources:
        address = storage.checked(source)
        if storage.WILD.search(source) and not storage.exists(address):
            files = _named(source, address, storage.matching(address))
            images, tables = _by_suffix(files)
            what = "No file"
        elif storage.is_file(address):
            files = [File(source, address)]
            images, tables = ([], files) if is_table_name(address) else (files, [])
            what = ""
        else:
            files = _named(source, address, storage.files_below(address))
            if not files and not storage.exists(address):
                raise ParameterError(f"There is no file or folder {source}.")
            images, tables = _by_suffix(files)
            tables = [] if images else tables
            what = "The folder"
        if not images and not tables:
            if what == "No file":
                raise ParameterError(f"No image and no Parquet file matches {source}: check the pattern.")
            raise ParameterError(f"The folder {source} holds no images and no Parquet files: name one that does.")
        found.images += images
        found.tables += tables
        found.left_out += len(files) - len(images) - len(tables)
    found.images, found.tables = _once(found.images), _once(found.tables)
    return found


def pieces_of(
    inputs: Inputs, known: set[tuple[str, int | None]], most_rows: int, image: str | None, name: str | None
) -> Iterator[Piece]:
    """Yield the pieces of the files, but those of which `known` has the address and the row group.

    Raises:
        ParameterError: a Parquet file is damaged, or its columns hold no images.
        UnreachableError: the object store refuses, or can't be reached.
    """
    for file in inputs.images:
        if (file.address, None) not in known:
            yield Piece(*file)
    tables = iter(inputs.tables)
    for first in tables:
        with open_table(first.address) as table:
            check_images(table, choose_columns(table.schema_arrow, first.name, image, name), first.address)
            groups = [table.metadata.row_group(index).num_rows for index in range(table.num_row_groups)]
        yield from _of_groups(first, groups, known, most_rows)
        break

    def footer(file: File) -> list[int]:
        with open_table(file.address) as table:
            choose_columns(table.schema_arrow, file.name, image, name)
            return [table.metadata.row_group(index).num_rows for index in range(table.num_row_groups)]

    rest = list(tables)
    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
        for file, groups in zip(rest, pool.map(footer, rest), strict=True):
            yield from _of_groups(file, groups, known, most_rows)


def _of_groups(
    file: File, groups: Sequence[int], known: set[tuple[str, int | None]], most_rows: int
) -> Iterator[Piece]:
    for index, rows in enumerate(groups):
        if (file.address, index) not in known:
            for start in range(0, rows, most_rows):
                yield Piece(*file, index, start, min(most_rows, rows - start))


def _named(source: str, address: str, found: Iterable[str]) -> list[File]:
    """Return files with names that begin as the source is written: a relative path stays one."""
    if storage.is_remote(address) or Path(source).is_absolute():
        return [File(file, file) for file in found]
    above = os.getcwd()  # noqa: PTH109 - as text: there may be a million files
    if storage.WILD.search(source):
        return [File(os.path.relpath(file, above), file) for file in found]
    return [File(os.path.join(source, os.path.relpath(file, address)), file) for file in found]  # noqa: PTH118


def _by_suffix(files: Iterable[File]) -> tuple[list[File], list[File]]:
    images, tables = [], []
    for file in files:
        if is_table_name(file.address):
            tables.append(file)
        elif is_image_name(Path(file.address)):
            images.append(file)
    return images, tables


def _once(files: Iterable[File]) -> list[File]:
    return list({file.address: file for file in files}.values())
