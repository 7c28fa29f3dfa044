"""Reads and checks the images of a benchmark before timing starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from resnest_core.buckets import Buckets, bucket_size_hw
from resnest_core.card import ModelCard
from resnest_core.errors import ImageError, ParameterError
from resnest_core.image_folder import folder_contents, left_out_sentence
from resnest_core.images import decode_image, read_file
from resnest_core.preprocess import resized_size_hw

MOST = 500  # maximum number of images in memory


@dataclass(frozen=True)
class Photograph:
    """An encoded image, and its (height, width) in pixels."""

    data: bytes
    size_hw: tuple[int, int]

    def padded_size_hw(self, card: ModelCard) -> tuple[int, int]:
        """Return the (height, width) of the network's input for this image, without buckets."""
        return bucket_size_hw(resized_size_hw(self.size_hw, card), card, Buckets.EXACT)


def read_photographs(folder: Path, seed: int, console: Console) -> list[Photograph]:
    """Read the images in a folder, or a random sample of 500; unusable ones are reported on the console.

    Raises:
        ParameterError: the folder doesn't exist, or has no usable image.
    """
    if not folder.is_dir():
        raise ParameterError(f"There is no folder {folder}: --images names one of photographs.")
    files, left_out = folder_contents(folder)
    if not files:
        raise ParameterError(f"The folder {folder} holds no images: name one that does.")
    if left_out:
        console.print(left_out_sentence(left_out), markup=False)
    if len(files) > MOST:
        chosen = np.random.default_rng(seed).choice(len(files), MOST, replace=False)
        console.print(f"Taking {MOST} of the {len(files)} images in {folder}.", markup=False)
        files = [files[index] for index in sorted(chosen)]
    photographs = []
    for file in files:
        try:
            data = read_file(file)
            height, width = decode_image(data).shape[:2]
            photographs.append(Photograph(data, (height, width)))
        except ImageError as error:
            console.print(f"{file} is left out: {error}", markup=False)
    if not photographs:
        raise ParameterError(f"No image in the folder {folder} can be used: name one with photographs.")
    return photographs


def seeded_order(count: int, seed: int) -> Iterator[int]:
    """Yield endless random permutations of 0…count-1, which depend only on the seed."""
    generator = np.random.default_rng(seed)
    while True:
        yield from generator.permutation(count).tolist()
