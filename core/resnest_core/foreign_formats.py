"""Names of what is sent in place of an image that is read here, so that a refusal says what it is."""

from __future__ import annotations

import re

from resnest_core.heif import brands

READABLE = "JPEG, PNG, WebP, BMP, TIFF or GIF"
START_BYTES = 1024  # of a file, in which an SVG's or a page's first element is looked for

STARTS: dict[bytes, str] = {
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"II\xbc": "a JPEG XR image",
    b"8BPS": "a Photoshop document",
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"\0\0\1\0": "an icon (ICO)",
    b"\0\0\2\0": "a cursor (CUR)",
    b"icns": "an icon (ICNS)",
    b"v/1\x01": "an OpenEXR image",
    b"#?RADIANCE": "a Radiance HDR image",
    b"qoif": "a QOI image",
    b"DDS ": "a DDS texture",
    b"SIMPLE  =": "a FITS image",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"IIRO": "a camera's raw photograph (ORF)",
    b"IIRS": "a camera's raw photograph (ORF)",
    b"IIU\0": "a camera's raw photograph (RW2)",
    b"FUJIFILMCCD-RAW": "a camera's raw photograph (RAF)",
    b"\0MRM": "a camera's raw photograph (MRW)",
    b"FOVb": "a camera's raw photograph (X3F)",
    b"\x1aE\xdf\xa3": "a video (Matroska or WebM)",
    b"\x1f\x8b": "a file compressed by gzip",
    b"PK\x03\x04": "a ZIP archive",
    b"\0\x05\x16\x07": "the metadata that macOS keeps beside a file (AppleDouble), not the file itself",
    b"version https://git-lfs": "a pointer of Git LFS in place of the file (git lfs pull fetches it)",
    b"/9j/": "an image in base64, not its bytes",
    b"iVBORw0KGgo": "an image in base64, not its bytes",
    b"UklGR": "an image in base64, not its bytes",
    b"R0lGOD": "an image in base64, not its bytes",
    b"data:image/": "a data URL, not an image's bytes",
}
RIFF_KINDS = {b"WAVE": "a sound (WAV)", b"AVI ": "a video (AVI)"}
ELEMENTS = {
    re.compile(rb"<svg[\s>]", re.IGNORECASE): "an SVG drawing",
    re.compile(rb"<(!doctype )?html[\s>]", re.IGNORECASE): "a web page",
}
FORM = re.compile(rb"--[^\r\n]{1,70}\r?\nContent-", re.IGNORECASE)
PORTABLE = re.compile(rb"P[1-7][\s#]")
IMAGE_STARTS = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|GIF8[79]a", re.DOTALL)
JUNK_BYTES = 16  # before an image: a line break, a byte-order mark


def name_of(data: bytes) -> str | None:
    """Return what the bytes are, with its article; None if they aren't known."""
    if found := brands(data):
        if found[0] == b"crx ":
            return "a camera's raw photograph (CR3)"
        return "a video or sound (MP4, MOV)"
    if data.startswith(b"RIFF"):
        return RIFF_KINDS.get(data[8:12])
    if data[128:132] == b"DICM":
        return "a DICOM image"
    if PORTABLE.match(data):
        return "a portable pixmap (PPM, PGM, PBM, PFM)"
    if FORM.match(data):
        return "a form without its Content-Type, multipart/form-data"
    if name := next((name for start, name in STARTS.items() if data.startswith(start)), None):
        return name
    if junk := IMAGE_STARTS.search(data, 0, JUNK_BYTES + 12):
        return f"an image behind {junk.start()} other bytes, such as a line break or a byte-order mark"
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return next((name for element, name in ELEMENTS.items() if element.search(data, 0, START_BYTES)), None)
    return None


def refusal(data: bytes) -> str:
    """Return the sentence that says what the bytes are, and what to send."""
    if not data:
        return f"This is not an image: there are no bytes, send a {READABLE} file."
    name = name_of(data)
    return f"This is {name}: send a {READABLE} file." if name else f"This is not an image: send a {READABLE} file."
