"""Parquet files of images: which column holds them, and their rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from resnest_client.bulk.storage import is_remote, join, locate, readable
from resnest_core.errors import NotAnImageError, ParameterError
from resnest_core.image_header import read_header

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

SUFFIXES = (".parquet", ".pq", ".parq")
IMAGE_NAMES = ("image", "bytes", "image_bytes", "img", "data", "content")
ADDRESS_NAMES = ("path", "address", "uri", "url", "file", "image_path", "image_uri", "file_path", "file_name", "image")
NAME_NAMES = ("file_name", "filename", "name", "file", "path", "key", "id", "image_id")
SAMPLE = 16  # images that are looked at before anything runs
ROWS_AT_ONCE = 16
BUFFER_BYTES = 1 << 20  # so that a column is read as it is needed, not at once


@dataclass(frozen=True)
class Columns:
    """The columns of a Parquet file that are used.

    Attributes:
        image: encoded bytes, a struct with a field `bytes`, or addresses.
        name: of the image; None: there is none.
        is_address: whether `image` holds addresses.
    """

    image: str
    name: str | None
    is_address: bool


class TableRow(NamedTuple):
    """A row: its number in the file, from 0, the image's name, and its bytes or its address; None: it is null."""

    row: int
    name: str | None
    image: bytes | str | None


def is_table_name(address: str) -> bool:
    """Tell whether a name is that of a Parquet file."""
    return address.lower().endswith(SUFFIXES)


def choose_columns(schema: pa.Schema, address: str, image: str | None, name: str | None) -> Columns:
    """Return the columns to use: those that are named, else those that their types and names suggest.

    Raises:
        ParameterError: a named column isn't there or is of another type, or none can be chosen.
    """
    listed = ", ".join(f"{field.name} ({field.type})" for field in schema) or "none"
    for option, column in (("--image-column", image), ("--name-column", name)):
        if column is not None and column not in schema.names:
            raise ParameterError(f"{address} has no column {column}: name one of its columns, {listed}, as {option}.")
    if image is None:
        image = _only(_columns(schema, _holds_bytes), IMAGE_NAMES) or _only(_columns(schema, _is_text), ADDRESS_NAMES)
    if image is None:
        raise ParameterError(
            f"{address} has no column that is certain to hold images or addresses: name one of its columns, {listed}, "
            "as --image-column."
        )
    kind = schema.field(image).type
    if not (_holds_bytes(kind) or _is_text(kind)):
        raise ParameterError(
            f"The column {image} of {address} holds {kind}, which is neither images nor addresses: name another of its "
            f"columns, {listed}, as --image-column."
        )
    if name is None:
        names = [column for column in NAME_NAMES if column in schema.names and column != image]
        name = next((column for column in names if _is_name(schema.field(column).type)), None)
    elif not _is_name(schema.field(name).type):
        raise ParameterError(f"The column {name} of {address} holds {schema.field(name).type}, not names.")
    return Columns(image, name, _is_text(kind))


def open_table(address: str) -> ParquetFile:
    """Open a Parquet file; only its footer is read.

    Raises:
        ParameterError: it can't be read, or isn't a Parquet file.
        UnreachableError: the object store refuses, or can't be reached.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    with readable(address):
        file_system, path = locate(address)
        file = file_system.open_input_file(path)
        try:
            return ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)
        except (ArrowException, OSError) as error:
            if is_remote(address) and isinstance(error, OSError):
                raise
            raise ParameterError(
                f"{address} can't be read as a Parquet file: it is damaged, or another kind."
            ) from error


def check_images(table: ParquetFile, columns: Columns, address: str) -> None:
    """Refuse a column of bytes none of whose first values is an image.

    Raises:
        ParameterError: so it is.
    """
    if columns.is_address or not table.metadata.num_row_groups:
        return
    rows = (row for row in table_rows(table, columns, 0, 0, SAMPLE, address) if row.image is not None)
    sample = [row.image for row in islice(rows, SAMPLE) if isinstance(row.image, bytes)]
    if sample and not any(map(_is_image, sample)):
        raise ParameterError(f"The column {columns.image} of {address} holds bytes that aren't images: name another.")


def table_rows(
    table: ParquetFile, columns: Columns, row_group: int, start: int, rows: int, address: str
) -> Iterator[TableRow]:
    """Yield `rows` rows of a row group, from its row `start` on; only a few are in memory.

    Raises:
        ParameterError: the file is damaged.
        UnreachableError: the object store refuses, or can't be reached.
    """
    from pyarrow import ArrowException

    first = sum(table.metadata.row_group(group).num_rows for group in range(row_group))
    wanted = [column for column in (columns.image, columns.name) if column is not None]
    place = 0
    try:
        with readable(address):
            for batch in table.iter_batches(ROWS_AT_ONCE, row_groups=[row_group], columns=wanted, use_threads=False):
                if place + len(batch) > start:
                    for offset, image, name in zip(range(len(batch)), *_values(batch, columns), strict=True):
                        if start <= place + offset < start + rows:
                            text = None if name is None else str(name)
                            yield TableRow(first + place + offset, text, _located(image, columns, address))
                place += len(batch)
                if place >= start + rows:
                    return
    except ArrowException as error:
        raise ParameterError(f"{address} can't be read as a Parquet file: it is damaged.") from error


def _values(batch: pa.RecordBatch, columns: Columns) -> tuple[list[Any], Sequence[Any]]:
    images = [
        value.get("bytes") if isinstance(value, dict) else value for value in batch.column(columns.image).to_pylist()
    ]
    return images, [None] * len(batch) if columns.name is None else batch.column(columns.name).to_pylist()


def _located(image: Any, columns: Columns, address: str) -> bytes | str | None:
    """Return an image's bytes or address; a relative path is one from the Parquet file's folder on."""
    if not columns.is_address or image is None or "://" in image or image.startswith("/"):
        return image  # type: ignore[no-any-return]
    return join(address.rpartition("/")[0], image)


def _is_image(data: bytes) -> bool:
    try:
        read_header(data)
    except NotAnImageError:
        return False
    return True


def _columns(schema: pa.Schema, fits: Any) -> list[str]:
    return [field.name for field in schema if fits(field.type)]


def _only(columns: list[str], usual: Sequence[str]) -> str | None:
    """Return the column that is the only one, or the first by its name; None: neither."""
    if len(columns) == 1:
        return columns[0]
    return next((name for name in usual if name in columns), None)


def _holds_bytes(kind: pa.DataType) -> bool:
    from pyarrow import types

    if types.is_struct(kind):  # as Hugging Face's data sets have it
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind.fields)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_name(kind: pa.DataType) -> bool:
    from pyarrow import types

    return _is_text(kind) or bool(types.is_integer(kind))
