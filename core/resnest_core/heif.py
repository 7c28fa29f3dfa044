"""HEIC and AVIF images, decoded by libheif (the package pillow-heif, of the extra `heif`) and by Pillow's libavif.

Both apply the container's rotation and mirroring. EXIF's orientation, which repeats them, is ignored, as
ISO/IEC 23008-12 demands.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps, features
from PIL.AvifImagePlugin import AvifImageFile

from resnest_core.errors import NotAnImageError

HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"}
AVIF_BRANDS = {b"avif", b"avis"}


def brands(data: bytes) -> list[bytes]:
    """Return the brands of an ISO media file, its own first; none for other bytes."""
    if data[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(data[:4], "big"), 4096)
    return [data[8:12], *(data[start : start + 4] for start in range(16, end - 3, 4))]


def heif_format(data: bytes) -> str | None:
    """Return `HEIC` or `AVIF`; None if it is neither."""
    found = brands(data)
    if not found or found[0] not in HEIC_BRANDS | AVIF_BRANDS:
        return None
    return "AVIF" if AVIF_BRANDS.intersection(found) and not HEIC_BRANDS - {b"mif1", b"msf1"} & {*found} else "HEIC"


def missing_decoder(kind: str) -> str | None:
    """Return why a format can't be decoded here, and what helps; None if it can."""
    if kind == "AVIF":
        return None if features.check("avif") else "this build of Pillow has no AVIF decoder"
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        return "pillow-heif is not installed (pip install 'resnest-serving[heif]')"
    return None


def size_hw(data: bytes, kind: str) -> tuple[int, int]:
    """Return (height, width) as the file says; nothing is decoded.

    Raises:
        NotAnImageError: the file is damaged.
    """
    try:
        width, height = _open_heic(data).size if kind == "HEIC" else AvifImageFile(io.BytesIO(data)).size
    except Exception as error:  # both libraries raise many classes
        raise NotAnImageError(f"The {kind} file is damaged or cut short: send it again, whole.") from error
    return height, width


def decode(data: bytes, kind: str) -> NDArray[np.uint8] | None:
    """Return the primary image upright, RGB (H, W, 3), without alpha; None if the file is damaged."""
    try:
        if kind == "AVIF":
            with AvifImageFile(io.BytesIO(data)) as image:
                ImageOps.exif_transpose(image, in_place=True)
                return np.array(image if image.mode == "RGB" else image.convert("RGB"))
        opened = _open_heic(data)
        height, width = opened.size[::-1]
        pixels = np.asarray(opened).reshape(height, width, -1)
    except Exception:  # both libraries raise many classes
        return None
    colours = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    return np.array(colours, np.uint8)


def _open_heic(data: bytes) -> Any:
    import pillow_heif

    return pillow_heif.open_heif(data)  # which decodes nothing yet, and makes 8 bits of more
