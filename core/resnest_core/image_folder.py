"""Which files of a folder are images, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from resnest_core.messages import named

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
    *(".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".heic", ".heif", ".hif", ".avif"),
}
APPLE_DOUBLE = "._"  # what macOS keeps beside a file on foreign disks, under the file's name


class FolderContents(NamedTuple):
    """What is in a folder, sorted by name."""

    images: list[Path]
    left_out: list[Path]
    """Other files, and folders, also those that are named like an image."""


def folder_contents(folder: Path) -> FolderContents:
    """Tell images from what else is in a folder; folders in it aren't looked into."""
    contents = FolderContents([], [])
    for path in sorted(folder.iterdir()):
        (contents.images if is_image_name(path) and path.is_file() else contents.left_out).append(path)
    return contents


def image_files(folder: Path) -> list[Path]:
    """Return the files in a folder that are images by their names, sorted."""
    return folder_contents(folder).images


def is_image_name(path: Path) -> bool:
    """Tell whether a name is that of an image of a format that is read here."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(APPLE_DOUBLE)


def left_out_sentence(left_out: Sequence[Path]) -> str:
    """Return one sentence that says how many files and folders are no images, and names the first of them."""
    folders = {path for path in left_out if path.is_dir()}
    counts = [(len(left_out) - len(folders), "file"), (len(folders), "folder")]
    counted = " and ".join(f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts if count)
    return f"{counted} left out: {named([f'{path}/' if path in folders else path for path in left_out])}."
