"""The folder that a bulk run writes to: its manifest, the plan of its parts, and which of them are done.

    DIR/manifest.json              what the run is: model, options, sources
    DIR/plan/00000.jsonl.gz        a part of the work per line; a later run adds a file, if there are more images
    DIR/results/part-00000.parquet the results of a part, or .jsonl
    DIR/errors/part-00000.jsonl    images of a part that couldn't be used, if there are some

A part is a fixed list of images, so computing it again gives the same file. It is done once its results are there.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from resnest_client.bulk import storage
from resnest_client.bulk.sources import Piece
from resnest_core.errors import ParameterError

MANIFEST = "manifest.json"
PROGRAM = "resnest detect --ray"
LAYOUT = 1  # version of the folder's layout
PART = re.compile(r"part-(\d+)\.(?:parquet|jsonl)")
NOT_COMPARED = ("project_version",)


class Part(NamedTuple):
    """A part of the work: its number, and the images that it is made of."""

    number: int
    pieces: list[Piece]

    @property
    def rows(self) -> int:
        """How many images these are."""
        return sum(piece.rows for piece in self.pieces)


class OutputFolder:
    """An output folder; results are in files with the suffix `suffix`."""

    def __init__(self, address: str, suffix: str) -> None:
        self.address = address
        self._suffix = suffix

    def result_path(self, part: int) -> str:
        return storage.join(self.address, "results", f"part-{part:05}{self._suffix}")

    def errors_path(self, part: int) -> str:
        return storage.join(self.address, "errors", f"part-{part:05}.jsonl")

    @property
    def manifest_path(self) -> str:
        return storage.join(self.address, MANIFEST)

    def begin(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, or compare it with the one that is there.

        Raises:
            ParameterError: the folder is one of another run, or of something else.
            UnreachableError: the object store refuses, or can't be reached.
        """
        manifest = {"program": PROGRAM, "layout": LAYOUT, **manifest}
        before = self._manifest()
        if before is None:
            storage.write(self.manifest_path, json.dumps(manifest, indent=2).encode())
            return
        keys = dict.fromkeys((*manifest, *before))
        others = [key for key in keys if key not in NOT_COMPARED and before.get(key) != manifest.get(key)]
        if others:
            named = ", ".join(others).replace("_", " ")
            raise ParameterError(
                f"{self.address} has the results of another run, which differs in {named}: name another --output."
            )

    def planned(self) -> Iterator[Part]:
        """Yield the parts of the plan.

        Raises:
            ParameterError: it is damaged.
        """
        for address in storage.files_below(storage.join(self.address, "plan")):
            if not address.endswith(".jsonl.gz"):
                continue
            try:
                with storage.readable(address):
                    data = storage.read(address)
                for line in gzip.decompress(data).splitlines():
                    number, pieces = json.loads(line)
                    yield Part(number, [Piece(*piece) for piece in pieces])
            except (EOFError, ValueError, TypeError, gzip.BadGzipFile) as error:
                raise ParameterError(f"{address}, the plan of the run, is damaged: name another --output.") from error

    def add_to_plan(self, parts: Sequence[Part]) -> None:
        """Write further parts; they are in the plan all at once."""
        lines = "".join(json.dumps([part.number, part.pieces]) + "\n" for part in parts)
        path = storage.join(self.address, "plan", f"{parts[0].number:05}.jsonl.gz")
        storage.write(path, gzip.compress(lines.encode(), mtime=0))

    def done(self) -> set[int]:
        """Return the numbers of the parts whose results are there; what killed runs left half-written is deleted."""
        found = set()
        for address in storage.files_below(storage.join(self.address, "results")):
            name = address.rpartition("/")[2]
            if match := PART.fullmatch(name):
                found.add(int(match[1]))
            elif not storage.is_remote(address) and name.startswith(".part-") and name.endswith(storage.PARTIAL):
                storage.delete(address)
        return found

    def _manifest(self) -> dict[str, Any] | None:
        """Return the manifest that is there; None: the folder is new or empty.

        Raises:
            ParameterError: the folder holds something else.
        """
        if not storage.exists(self.manifest_path):
            if storage.is_file(self.address):
                raise ParameterError(f"{self.address} is a file: --output names a folder with --ray.")
            if _holds_anything(self.address):
                raise ParameterError(
                    f"{self.address} isn't empty, and no output of `{PROGRAM}`: name another --output, or an empty "
                    "folder."
                )
            return None
        with storage.readable(self.manifest_path):
            data = storage.read(self.manifest_path)
        try:
            manifest = json.loads(data)
            if manifest["program"] == PROGRAM:
                return dict(manifest)
        except (ValueError, KeyError, TypeError):
            pass
        raise ParameterError(f"{self.manifest_path} is none of `{PROGRAM}`: name another --output.")


def in_parts(pieces: Iterable[Piece], size: int, first: int) -> Iterator[Part]:
    """Group pieces, in order, to parts of up to `size` images, or of a single larger piece, numbered from `first`."""
    group: list[Piece] = []
    rows = 0
    for piece in pieces:
        if group and rows + piece.rows > size:
            yield Part(first, group)
            group, rows, first = [], 0, first + 1
        group.append(piece)
        rows += piece.rows
    if group:
        yield Part(first, group)


def _holds_anything(address: str) -> bool:
    if storage.is_remote(address):
        return bool(storage.files_below(address))
    folder = Path(address)
    return folder.is_dir() and any(folder.iterdir())
