"""What is sent in place of an image is refused by what it is."""

from __future__ import annotations

import base64
import gzip
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_core.errors import NotAnImageError
from resnest_core.image_header import read_header
from tests.core.encoded_images import PICTURE, encoded

JPEG = encoded(PICTURE, "JPEG")
ZIP = io.BytesIO()
zipfile.ZipFile(ZIP, "w").writestr("a.jpg", JPEG)

FOREIGN = {
    "a JPEG XL image": [b"\xff\x0a" + b"\0" * 40, b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 40],
    "a JPEG 2000 image": [encoded(PICTURE, "JPEG2000"), encoded(PICTURE, "JPEG2000", no_jp2=True)],
    "a Photoshop document": [b"8BPS\0\1" + b"\0" * 40],
    "a PDF document": [b"%PDF-1.7\n"],
    "an SVG drawing": [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- by hand -->\n<svg width='3'>",
    ],
    "a web page": [b"<!DOCTYPE html>\n<html><body>Not found</body></html>", b"\n <HTML lang='en'>"],
    "an icon": [encoded(PICTURE.resize((32, 32)), "ICO")],
    "a portable pixmap": [encoded(PICTURE, "PPM")],
    "a QOI image": [encoded(PICTURE, "QOI")],
    "a camera's raw photograph": [
        b"FUJIFILMCCD-RAW 0201",
        b"IIU\0\x18\0\0\0",
        b"IIRO\x08\0\0\0",
        b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    ],
    "a video": [b"\0\0\0\x18ftypisom\0\0\0\0isommp42", b"\x1aE\xdf\xa3\x01\0\0\0"],
    "a sound": [b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 30],
    "a ZIP archive": [ZIP.getvalue()],
    "a file compressed by gzip": [gzip.compress(JPEG)],
    "a DICOM image": [b"\0" * 128 + b"DICM" + b"\0" * 40],
    "AppleDouble": [b"\0\5\x16\7\0\2\0\0Mac OS X        "],
    "a pointer of Git LFS": [b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"],
    "an image in base64": [base64.b64encode(encoded(PICTURE, kind)) for kind in ("JPEG", "PNG", "WEBP", "GIF")],
    "a data URL": [b"data:image/png;base64,iVBORw0KGgo"],
    "a form without its Content-Type": [b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + JPEG],
    "an image behind 1 other bytes": [b"\n" + JPEG, b"\n" + encoded(PICTURE, "WEBP")],
    "an image behind 3 other bytes": [b"\xef\xbb\xbf" + encoded(PICTURE, "PNG")],
    "This is not an image: there are no bytes": [b""],
    "This is not an image": [b"hello", b"<note/>", b"RIFF\0\0\0\0ABCD", b"--", b"P9 "],
}


@pytest.mark.parametrize("name", FOREIGN)
def test_it_is_named_and_what_to_send(name: str) -> None:
    for data in FOREIGN[name]:
        with pytest.raises(NotAnImageError) as caught:
            read_header(data)
        said = str(caught.value)
        assert name in said and said.endswith(" send a JPEG, PNG, WebP, BMP, TIFF or GIF file.") and "\n" not in said


@given(st.sampled_from([data for every in FOREIGN.values() for data in every]), st.integers(0, 60))
def test_cut_ones_are_refused(data: bytes, end: int) -> None:
    with pytest.raises(NotAnImageError):
        read_header(data[:end])
