"""Peak memory of decoding: one array of pixels, and what a format's decoder needs besides."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from resnest_core import images
from resnest_core.errors import NotAnImageError
from resnest_core.images import decode_image
from tests.core.test_images import ALL, ORIENTATION, PICTURE, SEVERAL, WHOLE, by_opencv, encoded

WIDTH, HEIGHT = 4000, 3000  # not square: OpenCV transposes squares in place
linux = pytest.mark.skipif(
    sys.platform != "linux", reason="Linux tells a process's peak memory, and has files in memory"
)

MEASURE = """
import json, re, sys
from pathlib import Path
from resnest_core.images import decode_image

def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

peaks = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    data = path.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = kilobytes("VmRSS")
    pixels = decode_image(data)
    peaks[path.stem] = (kilobytes("VmHWM") - before) * 1024 / pixels.size
    del pixels
print(json.dumps(peaks))
"""

# Peak memory in arrays of RGB pixels. docs/operations.md has these figures in bytes per pixel.
ONE, LITTLE_MORE = 1.0, 0.25
PEAKS = {
    "jpeg": ONE,
    "jpeg grey": ONE,
    "jpeg upside down": ONE,
    "jpeg on its side": 2,
    "jpeg CMYK": 2,
    "jpeg progressive": 2,
    "jpeg progressive, all colours": 3,
    "png": ONE,
    "png alpha": ONE,
    "png palette": ONE,
    "png 16 bits": ONE,
    "png upside down": ONE,
    "png on its side": 2,
    "webp": ONE,
    "webp alpha": 8 / 3,
    "webp lossless": 7 / 3,
    "bmp": ONE,
    "tiff": ONE,
    "tiff 16 bits": ONE,
    "tiff of one strip": 7 / 3,
    "gif": 4 / 3,
}


def large(name: str) -> bytes:
    """Return an encoded image of WIDTH × HEIGHT of a kind."""
    flat = PIL.Image.new("RGB", (WIDTH, HEIGHT), (200, 90, 30))
    striped = PIL.Image.fromarray(np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3))
    deep = PIL.Image.fromarray(np.full((HEIGHT, WIDTH), 9999, np.uint16))
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 3 if "upside" in name else 6 if "side" in name else 1
    strip_rows = {278: HEIGHT if "one strip" in name else 16}
    options: dict[str, dict[str, object]] = {
        "jpeg": {"progressive": "progressive" in name, "subsampling": 0 if "all colours" in name else 2, "exif": exif},
        "png": {"compress_level": 1, "exif": exif},
        "webp": {"lossless": "lossless" in name, "method": 0, "quality": 1},
        "tiff": {"compression": "tiff_deflate", "tiffinfo": strip_rows},
    }
    picture = flat
    if "lossless" in name:
        picture = striped
    elif "16 bits" in name:
        picture = deep
    elif "alpha" in name:
        picture = flat.convert("RGBA")
        picture.putalpha(77)
    elif mode := {"grey": "L", "CMYK": "CMYK", "palette": "P", "gif": "P"}.get(name.split()[-1]):
        picture = flat.convert(mode)
    kind = name.split()[0]
    return encoded(picture, kind.upper(), **options.get(kind, {}))


@linux
def test_peak_memory_of_every_format(tmp_path: Path) -> None:
    for name in PEAKS:
        (tmp_path / f"{name}.image").write_bytes(large(name))
    process = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True, timeout=300
    )
    peaks = json.loads(process.stdout)
    print({name: round(peak, 2) for name, peak in peaks.items()})
    over = {name: peaks[name] for name, bound in PEAKS.items() if peaks[name] > bound + LITTLE_MORE}
    assert not over


@linux
@pytest.mark.parametrize("name", WHOLE | SEVERAL)
def test_from_a_file_in_memory_come_the_same_pixels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LARGE_PIXELS", 0)
    monkeypatch.setattr(images, "BLOCK_PIXELS", 1000)
    np.testing.assert_array_equal(decode_image(ALL[name]), by_opencv(ALL[name]))


@linux
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_from_a_file_in_memory_come_upright_pixels(
    kind: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "LARGE_PIXELS", 0)
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(PICTURE, kind, exif=exif)
    np.testing.assert_array_equal(decode_image(data), by_opencv(data))


@linux
@pytest.mark.parametrize("name", WHOLE)
def test_from_a_file_in_memory_cuts_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LARGE_PIXELS", 0)
    data = WHOLE[name]
    for end in [*range(0, len(data) - 40, 997), *range(len(data) - 40, len(data), 7)]:
        with pytest.raises(NotAnImageError):
            decode_image(data[:end])


@pytest.mark.parametrize("trouble", [errno.EMFILE, errno.EPERM, None])
def test_without_files_in_memory_images_are_read_all_the_same(
    trouble: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(_: str) -> int:
        raise OSError(trouble, "refused")

    monkeypatch.setattr(images, "LARGE_PIXELS", 0)
    if trouble is None:  # as on macOS
        monkeypatch.setattr(images, "OPEN_FILES", tmp_path / "absent")
    else:
        monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    for name in ("png", "webp lossless", "bmp", "tiff LZW"):
        np.testing.assert_array_equal(decode_image(ALL[name]), by_opencv(ALL[name]))


@linux
def test_files_in_memory_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LARGE_PIXELS", 0)
    before = len([*images.OPEN_FILES.iterdir()])
    for name in ("png", "webp", "tiff"):
        decode_image(ALL[name])
        with pytest.raises(NotAnImageError):
            decode_image(ALL[name][:-60])
    assert len([*images.OPEN_FILES.iterdir()]) == before


def test_gif_is_converted_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "BLOCK_PIXELS", 1000)
    buffer = io.BytesIO()
    PICTURE.quantize(32).save(buffer, "GIF", transparency=3)
    np.testing.assert_array_equal(decode_image(buffer.getvalue()), np.asarray(PIL.Image.open(buffer).convert("RGB")))
