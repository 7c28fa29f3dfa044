"""Windows of an image's file are the windows of its pixels, and a large TIFF file isn't decoded whole."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from resnest_core import large_images
from resnest_core.errors import ImageTooLargeError, MissingExtraError, NotAnImageError
from resnest_core.images import Pixels, load_image
from resnest_core.tiles import Window

WINDOWS = [Window(0, 0, 90, 60), Window(3, 5, 40, 33), Window(89, 59, 90, 60)]


def write_tiff(path: Path, bands: int = 3, dtype: str = "uint8", **options: Any) -> Path:
    y, x = np.mgrid[:60, :90]  # smooth: decoders of JPEG upsample colours differently
    pixels = np.stack([100 + 20 * band + x * (band + 1) / 4 + y / 2 for band in range(bands)]).astype(dtype)
    with rasterio.open(path, "w", "GTiff", 90, 60, bands, dtype=dtype, **options) as file:
        file.write(pixels)
    return path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("bands", "options", "by_windows"),
    [
        (3, {"photometric": "RGB"}, True),
        (3, {"photometric": "RGB", "tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}, True),
        (3, {"photometric": "RGB", "compress": "lzw", "interleave": "band"}, True),
        (3, {"photometric": "YCBCR", "compress": "jpeg", "tiled": True, "blockxsize": 32, "blockysize": 32}, True),
        (4, {"photometric": "RGB", "alpha": "yes"}, True),
        (4, {"photometric": "RGB", "alpha": "premultiplied"}, True),
        (1, {}, True),
        (2, {"alpha": "yes"}, True),
        (3, {"photometric": "RGB", "dtype": "uint16"}, False),
    ],
)
def test_windows_of_a_tiff_file(bands: int, options: dict[str, Any], by_windows: bool, tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "image.tif", bands, **options)
    whole = load_image(path)
    with large_images.open_pixels(path) as pixels:
        assert isinstance(pixels, large_images._TiffFile) == by_windows
        check_windows(pixels, whole)


def check_windows(pixels: large_images.PixelSource, whole: Pixels) -> None:
    assert pixels.size_hw == whole.shape[:2]
    for window in WINDOWS:
        read = pixels.read(window)
        expected = whole[window.top : window.bottom, window.left : window.right]
        assert read.flags.c_contiguous
        np.testing.assert_allclose(read.astype(int), expected.astype(int), atol=3)  # JPEG's decoders differ by that


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_turned_tiff_file_is_decoded_whole(orientation: int, tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8))
    picture.save(path := tmp_path / "image.tif", tiffinfo={274: orientation})
    whole = load_image(path)
    with large_images.open_pixels(path) as pixels:
        assert isinstance(pixels, large_images._TiffFile) == (orientation == 1)
        assert pixels.size_hw == whole.shape[:2]
        np.testing.assert_array_equal(pixels.read(Window(1, 2, 50, 40)), whole[2:40, 1:50])


def test_windows_of_other_images(tmp_path: Path) -> None:
    bgr = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    Image.fromarray(bgr).save(path := tmp_path / "image.png")
    for image, color in ((path, "rgb"), (path.read_bytes(), "rgb"), (bgr, "bgr")):
        with large_images.open_pixels(image, color) as pixels:  # type: ignore[arg-type]
            check_windows(pixels, load_image(image, color=color))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_large_tiff_file_is_not_decoded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_images, "MAX_PIXELS", 5000)  # less than the file's 5400
    path = write_tiff(tmp_path / "image.tif", photometric="RGB", tiled=True, blockxsize=16, blockysize=16)
    with large_images.open_pixels(path) as pixels:
        tracemalloc.start()
        pixels.read(Window(0, 0, 20, 20))
        assert tracemalloc.get_traced_memory()[1] < 60 * 90 * 3
        tracemalloc.stop()
    with pytest.raises(ImageTooLargeError), large_images.open_pixels(path.read_bytes()):
        pass
    monkeypatch.setattr(large_images, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"rasterio is not installed.*\[tiff\]"), large_images.open_pixels(path):
        pass


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_tiff_file_that_is_cut_short(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "image.tif", photometric="RGB", compress="deflate")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(NotAnImageError), large_images.open_pixels(path) as pixels:
        pixels.read(WINDOWS[0])
