"""Image bytes to RGB pixels: those that mmdetection's loader, OpenCV, would see."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import PIL.Image
import simplejpeg
from numpy.typing import NDArray
from PIL import ImageOps
from PIL.GifImagePlugin import GifImageFile

from resnest_core import heif, jpeg_segments, png_chunks, tiff
from resnest_core.errors import ImageTooLargeError, NotAnImageError, ParameterError
from resnest_core.image_header import CMYK_COMPONENTS, ImageHeader, read_header

Pixels: TypeAlias = NDArray[np.uint8]
"""RGB, uint8 (H, W, 3)."""
Image: TypeAlias = bytes | bytearray | memoryview | str | Path | Pixels | PIL.Image.Image
"""Encoded bytes, a path to them, pixels as uint8 (H, W, 3), or an image of Pillow."""
Color: TypeAlias = Literal["rgb", "bgr"]
"""The order of the channels in an array of pixels."""

MAX_PIXELS = 64_000_000
TRANSPOSED = (5, 6, 7, 8)  # EXIF's orientations whose rows are stored as columns
LARGE_PIXELS = 2**22  # from here a second array of pixels counts
OPEN_FILES = Path("/proc/self/fd")  # Linux: the process's open files, by their numbers
BLOCK_PIXELS = 2**18  # converted at a time
MIRRORED = {2: 1, 6: 1, 4: 0, 8: 0, 3: -1, 7: -1}  # orientation: cv2's code, for left and right 1, top and bottom 0

# Damage raises an error here; OpenCV would also write to stderr. The function moved between OpenCV 4 and 5.
(getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel)(0)


def check_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Return the header of an encoded image that is of a readable format and not too large; nothing is decoded.

    Raises:
        NotAnImageError: the bytes aren't an image of a format that is read here, or the header is damaged.
        ImageTooLargeError: the image has more than `max_pixels`.
    """
    header = read_header(data)
    height, width = header.size_hw
    if height * width > max_pixels:
        raise ImageTooLargeError(
            f"The image has {width}×{height} pixels, more than the {max_pixels:,} allowed: send a smaller one."
        )
    return header


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode an image as mmdetection's loader does (OpenCV's IMREAD_COLOR), but refuse damaged or truncated files.

    EXIF's orientation is applied, alpha dropped, grey and palette turned into three channels, 16 bits into 8; of an
    animation the first frame is taken.

    Raises:
        NotAnImageError: the bytes aren't an image of a format that is read here, or are damaged.
        ImageTooLargeError: the image has more than `max_pixels`; nothing was decoded.
    """
    header = check_image(data, max_pixels=max_pixels)
    pixels = DECODERS.get(header.format, _decode_with_opencv)(data, header)
    if pixels is None and header.kind:
        raise NotAnImageError(f"This is {header.kind}.")
    if pixels is None:
        raise NotAnImageError(f"The {header.format} file is damaged or cut short: send it again, whole.")
    return pixels


def load_image(image: Image, *, color: Color = "rgb", max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return the RGB pixels of encoded bytes, of a file, of an image of Pillow, or the given pixels themselves.

    `color` is the order of the channels in an array; everything else has an order of its own.

    Raises:
        NotAnImageError: the file can't be read, or isn't an image; or an array isn't uint8 (H, W, 3).
        ImageTooLargeError: the image has more than `max_pixels`.
        ParameterError: there is no such order of channels.
    """
    if color not in ("rgb", "bgr"):
        raise ParameterError(f"color must be rgb or bgr, not {color!r}.")
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise NotAnImageError(f"Pixels must be uint8 (height, width, 3), not {image.dtype} {image.shape}.")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False) if color == "bgr" else image
    if isinstance(image, PIL.Image.Image):
        return _from_pillow(image, max_pixels)
    return decode_image(read_image(image), max_pixels=max_pixels)


def read_image(image: bytes | bytearray | memoryview | str | Path) -> bytes:
    """Return the bytes of an encoded image, given as they are or as a path.

    Raises:
        NotAnImageError: the file can't be read, or this is something else.
    """
    if isinstance(image, str | Path):
        return read_file(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    kinds = "bytes, a path, an array of pixels or an image of Pillow"
    raise NotAnImageError(f"An image is {kinds}, not {type(image).__name__}.")


def _from_pillow(image: PIL.Image.Image, max_pixels: int) -> Pixels:
    """Return the RGB pixels of an image of Pillow, like those of its file: upright, without alpha."""
    if image.width * image.height > max_pixels or not image.width * image.height:
        error = ImageTooLargeError if image.width else NotAnImageError
        raise error(f"The image has {image.width}×{image.height} pixels, but 1 to {max_pixels:,} are allowed.")
    if image.mode in ("I", "F"):
        raise NotAnImageError(f"An image of Pillow's mode {image.mode} has no known range: convert it to RGB first.")
    try:
        if image.mode.startswith("I;16"):
            image = PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow reads a file's pixels only now
        raise NotAnImageError(f"Pillow can't read the image's pixels: {error}.") from error


def read_file(path: str | Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        NotAnImageError: it can't be read, or is an address: nothing is fetched from a network here.
    """
    if str(path).startswith(("http://", "https://")):
        raise NotAnImageError(f"{path} is an address: pass what resnest_client.fetch_image returns for it.")
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise NotAnImageError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}.") from error


def _decode_jpeg(data: bytes, header: ImageHeader) -> Pixels | None:
    """Decode with libjpeg-turbo itself, faster than through OpenCV and to the same pixels; CMYK with OpenCV."""
    if header.components == CMYK_COMPONENTS:
        return _decode_with_opencv(jpeg_segments.only_pixels(data), header)
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError as error:  # cut short, or a blemish that OpenCV reads over, and reports on stderr
        if "Premature end" in str(error) or not jpeg_segments.is_whole(data):
            raise NotAnImageError("The JPEG file is cut short: send it again, whole.") from None
        try:
            pixels = simplejpeg.decode_jpeg(jpeg_segments.only_pixels(data), "RGB", strict=False)
        except ValueError:
            return _decode_with_opencv(data, header)
    return _orient(pixels, header.orientation)


def _decode_tiff(data: bytes, header: ImageHeader) -> Pixels | None:
    pixels = _decode_with_opencv(tiff.starting_at(data, header.directory) if header.directory else data, header)
    return None if pixels is None else _orient(pixels, header.orientation)


def _decode_png(data: bytes, header: ImageHeader) -> Pixels | None:
    try:
        return _decode_with_opencv(png_chunks.only_pixels(data), header)
    except ValueError:
        return None


def _decode_heif(data: bytes, header: ImageHeader) -> Pixels | None:
    pixels = heif.decode(data, header.format)
    height, width = header.size_hw
    return pixels if pixels is None or pixels.size == 3 * height * width else None  # else the header lied


def _decode_with_opencv(data: bytes, header: ImageHeader) -> Pixels | None:
    try:
        pixels = _by_opencv(data, header)
    except cv2.error:
        return None
    return None if pixels is None else _swap_red_and_blue(pixels.astype(np.uint8, copy=False))


def _by_opencv(data: bytes, header: ImageHeader) -> NDArray[Any] | None:
    """Return BGR pixels, with memory for one array of them where possible.

    `imdecode` returns a copy of what it decoded, while `imread` decodes into the array that it returns: it is given a
    file in memory, where there are such (Linux). Not for small images, where the copy costs less than the file; and not
    for JPEG: from a file OpenCV fills up what is cut short with grey.
    """
    is_large = header.size_hw[0] * header.size_hw[1] >= LARGE_PIXELS
    if is_large and header.format != "JPEG" and OPEN_FILES.exists():
        try:
            with os.fdopen(os.memfd_create("image"), "wb") as file:
                file.write(data)
                file.flush()
                pixels = cv2.imread(str(OPEN_FILES / str(file.fileno())), None, cv2.IMREAD_COLOR)
            if pixels is not None or header.format != "TIFF":  # a TIFF that it transposes it can't read that way
                return pixels
        except OSError:  # too many open files, or not allowed
            pass
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def _swap_red_and_blue(pixels: Pixels) -> Pixels:
    """Turn BGR into RGB within the array. Block by block: OpenCV copies what is converted into itself."""
    rows = max(BLOCK_PIXELS // pixels.shape[1], 1)
    for start in range(0, len(pixels), rows):
        block = pixels[start : start + rows]
        block[:] = cv2.cvtColor(block, cv2.COLOR_BGR2RGB)
    return pixels


def _decode_gif(data: bytes, header: ImageHeader) -> Pixels | None:  # noqa: ARG001 - as every decoder
    """Decode a GIF with Pillow: packages of OpenCV 4 are built without GIF."""
    try:
        with GifImageFile(io.BytesIO(data)) as image:
            image.load()
            width, height = image.size
            pixels = np.empty((height, width, 3), np.uint8)
            # Block by block: Pillow keeps RGB in 4 bytes, and NumPy copies them.
            rows = max(BLOCK_PIXELS // width, 1)
            for start in range(0, height, rows):
                end = min(start + rows, height)
                pixels[start:end] = np.asarray(image.crop((0, start, width, end)).convert("RGB"))
            return pixels
    except Exception:  # Pillow's reader raises many classes
        return None


def _orient(pixels: Pixels, orientation: int) -> Pixels:
    """Turn the pixels upright: EXIF's orientations 5…8 are transposed, some of all eight mirrored, within the array."""
    turned: NDArray[Any] = cv2.transpose(pixels) if orientation in TRANSPOSED else pixels
    if orientation in MIRRORED:
        cv2.flip(turned, MIRRORED[orientation], dst=turned)
    return turned.astype(np.uint8, copy=False)


DECODERS: dict[str, Callable[[bytes, ImageHeader], Pixels | None]] = {
    "JPEG": _decode_jpeg,
    "PNG": _decode_png,
    "TIFF": _decode_tiff,
    "GIF": _decode_gif,
    "HEIC": _decode_heif,
    "AVIF": _decode_heif,
}
"""Decoders by format; OpenCV decodes the others. None: the file is damaged."""
