"""Sound images in unusual containers: their pixels are those that OpenCV sees, and nothing is written to stderr."""

from __future__ import annotations

import os
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms, TiffImagePlugin

from resnest_core.errors import NotAnImageError
from resnest_core.images import Pixels, decode_image
from tests.core.encoded_images import PICTURE, chunk, encoded, jpeg_of, jpeg_with, png_with, segment

GREY, CMYK = PICTURE.convert("L"), PICTURE.convert("CMYK")
TURNED = PICTURE.rotate(180)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MEGABYTES = b"<x/>" * 500_000
PRIVATE = TiffImagePlugin.ImageFileDirectory_v2()
PRIVATE[65000], PRIVATE.tagtype[65000] = "private", 2
EXIF = PIL.Image.Exif()
EXIF[0x0112], EXIF[0x010E] = 6, "a description"

PNGS = {
    "animated": encoded(PICTURE, "PNG", save_all=True, append_images=[TURNED]),
    "animated, other still": encoded(PICTURE, "PNG", save_all=True, append_images=[TURNED], default_image=True),
    "ICC of 1.5 MB": png_with(chunk(b"iCCP", b"icc\0\0" + zlib.compress(os.urandom(10) + b"\0" * 1_500_000))),
    "ICC damaged": png_with(chunk(b"iCCP", b"icc\0\0garbage")),
    "ICC and sRGB": png_with(chunk(b"sRGB", b"\0"), chunk(b"iCCP", b"icc\0\0" + zlib.compress(PROFILE))),
    "XMP of 2 MB": png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(MEGABYTES))),
    "XMP of 2 MB, old": png_with(chunk(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(MEGABYTES))),
    "text of 2 MB": png_with(chunk(b"tEXt", b"Comment\0" + b"x" * 2_000_000)),
    "70 texts of 1 MB": png_with(*[chunk(b"zTXt", b"c\0\0" + zlib.compress(b"y" * 1_000_000))] * 70),
    "text damaged": png_with(chunk(b"tEXt", b"a\0b", checksum=b"abcd")),
    "gamma of 0": png_with(chunk(b"gAMA", b"\0\0\0\0")),
    "bits of 9": png_with(chunk(b"sBIT", b"\x09\x09\x09")),
    "two resolutions": png_with(*[chunk(b"pHYs", b"\0\0\0\1\0\0\0\1\0")] * 2),
    "time of 0": png_with(chunk(b"tIME", b"\0" * 7)),
    "EXIF": encoded(PICTURE, "PNG", exif=EXIF),
    "EXIF damaged": png_with(chunk(b"eXIf", b"abc")),
    "EXIF with a wrong checksum": png_with(chunk(b"eXIf", b"II*\0\x08\0\0\0\0\0\0\0\0\0", checksum=b"abcd")),
    "suggested palette": png_with(chunk(b"PLTE", b"\1\2\3")),
    "transparent colour": png_with(chunk(b"tRNS", b"\0\1\0\2\0\3")),
    "transparent palette": encoded(PICTURE.quantize(16), "PNG", transparency=3),
    "transparent grey": encoded(GREY, "PNG", transparency=5),
    "bytes at the end": encoded(PICTURE, "PNG") + b"junk" * 100,
    "chunks at the end": encoded(PICTURE, "PNG") + chunk(b"acTL", b"abc"),
}
EXIF_START = b"Exif\0\0MM\0*\0\0\0\x08\0\1"
JPEGS = {
    "APP1 empty": jpeg_with(segment(0xE1, b"")),
    "ICC without numbers": jpeg_with(segment(0xE2, b"ICC_PROFILE\0")),
    "ICC part 1 of 0": jpeg_with(segment(0xE2, b"ICC_PROFILE\0\1\0abc")),
    "ICC part 2 of 3 only": jpeg_with(segment(0xE2, b"ICC_PROFILE\0\2\3abc")),
    "ICC in 70 parts": jpeg_with(
        b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([n, 70]) + b"x" * 60_000) for n in range(70))
    ),
    "Photoshop cut": jpeg_with(segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\xff\xff")),
    "Adobe short": jpeg_with(segment(0xEE, b"Adobe\0")),
    "Adobe of an unknown transform": jpeg_with(segment(0xEE, b"Adobe\0\x64\0\0\0\0\7")),
    "MPF damaged": jpeg_with(segment(0xE2, b"MPF\0garbage")),
    "EXIF beyond the end": jpeg_with(segment(0xE1, EXIF_START + struct.pack(">HHII", 0x8769, 4, 1, 0xFFFFFF))),
    "EXIF loop": jpeg_with(segment(0xE1, EXIF_START + struct.pack(">HHII", 0x8769, 4, 1, 8))),
    "60 maker notes": jpeg_with(segment(0xE1, b"Exif\0\0" + b"\0" * 65_000) * 60),
    "fill bytes": jpeg_with(b"\xff\xff\xff"),
    "bytes between segments": jpeg_with(b"\0\1\2"),
    "bytes between segments, EXIF": jpeg_with(b"\0\1\2" + segment(0xE1, b"Exif\0\0" + EXIF.tobytes()[6:])),
    "bytes before the scan": jpeg_of().replace(b"\xff\xda", b"\x11\x22\xff\xda", 1),
    "bytes before the end": jpeg_of()[:-2] + b"\0\0garbage" + jpeg_of()[-2:],
    "no JFIF": jpeg_of()[:2] + jpeg_of()[20:],
    "JFIF of version 2": jpeg_of()[:11] + b"\2\x09" + jpeg_of()[13:],
    "two images": jpeg_of() * 2,
    "grey, bytes between segments": jpeg_with(b"\0\1\2", GREY),
    "CMYK, bytes between segments": jpeg_with(b"\0\1\2", CMYK),
    "progressive, bytes between segments": encoded(PICTURE, "JPEG", progressive=True).replace(
        b"\xff\xc4", b"\0\xff\xc4", 1
    ),
}
OTHERS = {
    "TIFF of private tags": encoded(PICTURE, "TIFF", tiffinfo=PRIVATE),
    "TIFF with EXIF": encoded(PICTURE, "TIFF", exif=EXIF),
    "TIFF with ICC": encoded(PICTURE, "TIFF", icc_profile=PROFILE),
    "TIFF of JPEG": encoded(PICTURE, "TIFF", compression="jpeg"),
    "TIFF of packed bits": encoded(PICTURE, "TIFF", compression="packbits"),
    "TIFF of a fax": encoded(PICTURE.convert("1"), "TIFF", compression="group4"),
    "TIFF of CMYK": encoded(CMYK, "TIFF"),
    "TIFF of Lab": encoded(PICTURE.convert("LAB"), "TIFF"),
    "TIFF of grey and alpha": encoded(PICTURE.convert("LA"), "TIFF"),
    "WebP with ICC and EXIF": encoded(PICTURE, "WEBP", icc_profile=PROFILE, exif=EXIF),
    "WebP animated": encoded(PICTURE, "WEBP", save_all=True, append_images=[TURNED]),
    "BMP": encoded(PICTURE, "BMP"),
    "GIF animated": encoded(PICTURE.quantize(16), "GIF", save_all=True, append_images=[TURNED.quantize(16)]),
    "MPO": encoded(PICTURE, "MPO", save_all=True, append_images=[TURNED]),
}
SOUND = {
    **{f"PNG {name}": data for name, data in PNGS.items()},
    **{f"JPEG {name}": data for name, data in JPEGS.items()},
    **OTHERS,
}


def by_opencv(data: bytes) -> Pixels:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return np.asarray(pixels[..., ::-1], np.uint8)


@pytest.mark.parametrize("name", SOUND)
def test_sound_image_is_read_as_opencv_does_and_quietly(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = decode_image(SOUND[name])
    written = capfd.readouterr()
    assert (written.out, written.err) == ("", "")
    if name != "GIF animated":  # which OpenCV 4 doesn't read
        np.testing.assert_array_equal(pixels, by_opencv(SOUND[name]))


def test_orientation_stands_behind_bytes_between_segments() -> None:
    assert decode_image(JPEGS["bytes between segments, EXIF"]).shape == (96, 64, 3)
    assert decode_image(PNGS["EXIF"]).shape == (96, 64, 3)


@pytest.mark.parametrize("name", [name for name in JPEGS if "two images" not in name])
def test_odd_segments_hide_no_cut(name: str) -> None:
    data = JPEGS[name]
    for end in (len(data) - 1, len(data) - 2, len(data) - 900):
        with pytest.raises(NotAnImageError, match="cut short"):
            decode_image(data[:end])


def test_very_many_chunks_are_refused() -> None:
    with pytest.raises(NotAnImageError, match="damaged"):
        decode_image(png_with(chunk(b"tEXt", b"") * 200_000))


def test_png_of_xcode_is_refused_by_name() -> None:
    data = encoded(PICTURE, "PNG")
    with pytest.raises(NotAnImageError, match="Xcode"):
        decode_image(data[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + data[8:])
