"""Reads windows of an image: of a TIFF file without the rest of its pixels, of others out of all of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from resnest_core.errors import ImageTooLargeError, MissingExtraError, NotAnImageError
from resnest_core.images import Color, Image, Pixels, load_image
from resnest_core.tiles import Window

if TYPE_CHECKING:
    from rasterio import DatasetReader

MAX_PIXELS = 512_000_000
"""Of an image that is decoded whole: 1.5 GB."""
SUBFILE_TYPE, ORIENTATION, EXTRA_SAMPLES = 254, 274, 338  # tags
ASSOCIATED_ALPHA = 1  # colours are multiplied with it already
COLOURS = [("red", "green", "blue"), ("red", "green", "blue", "alpha"), ("gray",), ("gray", "alpha")]


class PixelSource(Protocol):
    """An image that is read window by window."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) of the image."""

    def read(self, window: Window) -> Pixels:
        """Return the RGB pixels (h, w, 3) of a window inside the image.

        Raises:
            NotAnImageError: they are damaged.
        """
        ...


@contextmanager
def open_pixels(image: Image, color: Color = "rgb") -> Iterator[PixelSource]:
    """Open an image: a path to a TIFF file with rasterio, which decodes only what a window needs.

    Everything else is decoded whole: other formats, bytes, and TIFF files that rasterio shows in another way than
    `load_image` does (not upright, with a palette, of another colour space, of more than 8 bits).

    Raises:
        ImageError: the image can't be used, or has more pixels than are decoded whole.
        MissingExtraError: the file is a TIFF with more pixels than that, and rasterio isn't installed.
    """
    if isinstance(image, str | Path) and find_spec("rasterio"):
        source = _opened_tiff(Path(image))
        if source is not None:
            with source.dataset:
                yield source
            return
    try:
        pixels = load_image(image, color=color, max_pixels=MAX_PIXELS)
    except ImageTooLargeError as error:
        if isinstance(image, str | Path) and _tags_of_upright_tiff(Path(image)) and not find_spec("rasterio"):
            raise MissingExtraError("rasterio", "tiff") from error
        raise
    yield _DecodedImage(pixels)


@dataclass(frozen=True)
class _DecodedImage:
    pixels: Pixels

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]

    def read(self, window: Window) -> Pixels:
        # A copy: whoever keeps a window shall not keep the whole image.
        return self.pixels[window.top : window.bottom, window.left : window.right].copy()


@dataclass(frozen=True)
class _TiffFile:
    dataset: DatasetReader
    multiplies_alpha: bool

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.dataset.height, self.dataset.width

    def read(self, window: Window) -> Pixels:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window as Part

        colours = [1, 2, 3] if self.dataset.count >= 3 else [1, 1, 1]
        part = Part(window.left, window.top, window.right - window.left, window.bottom - window.top)
        try:
            pixels = self.dataset.read(colours, window=part)
            if self.multiplies_alpha:  # as OpenCV does
                alpha = self.dataset.read(self.dataset.count, window=part).astype(np.uint16)
                pixels = ((pixels * alpha + 127) // 255).astype(np.uint8)
        except RasterioError as error:
            raise NotAnImageError(f"{self.dataset.name} is damaged or cut short: {error}.") from error
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _opened_tiff(path: Path) -> _TiffFile | None:
    """Return the file if it is a TIFF that rasterio shows as `load_image` does."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    tags = _tags_of_upright_tiff(path)
    if tags is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path, driver="GTiff")
    except RasterioError:
        return None  # `load_image` says what is wrong with it
    colours = tuple(colour.name for colour in dataset.colorinterp)
    if colours in COLOURS and set(dataset.dtypes) == {"uint8"} and dataset.nodata is None:
        multiplies_alpha = len(colours) == 4 and tags.get(EXTRA_SAMPLES, (0,))[0] != ASSOCIATED_ALPHA
        return _TiffFile(dataset, multiplies_alpha)
    dataset.close()
    return None


def _tags_of_upright_tiff(path: Path) -> dict[int, Any] | None:
    """Return a TIFF file's tags; None where its first image is turned, or a smaller copy of another."""
    try:
        with path.open("rb") as file, TiffImageFile(file) as image:
            tags = dict(image.tag_v2)
    except Exception:  # Pillow's reader raises many classes; what isn't a TIFF is decoded whole
        return None
    return tags if tags.get(ORIENTATION, 1) == 1 and not tags.get(SUBFILE_TYPE, 0) else None
