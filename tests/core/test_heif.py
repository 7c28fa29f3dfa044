"""HEIC and AVIF: pixels, rotation once, limits, damage, and where there is no decoder."""

from __future__ import annotations

import builtins
import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import features

from resnest_core.errors import ImageTooLargeError, NotAnImageError
from resnest_core.image_header import media_type, read_header
from resnest_core.images import Pixels, decode_image
from tests.core.encoded_images import PICTURE, encoded
from tests.core.examples import check_decoding

TURNS = {
    1: PICTURE,
    2: PICTURE.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT),
    3: PICTURE.transpose(PIL.Image.Transpose.ROTATE_180),
    4: PICTURE.transpose(PIL.Image.Transpose.FLIP_TOP_BOTTOM),
    5: PICTURE.transpose(PIL.Image.Transpose.TRANSPOSE),
    6: PICTURE.transpose(PIL.Image.Transpose.ROTATE_270),
    7: PICTURE.transpose(PIL.Image.Transpose.TRANSVERSE),
    8: PICTURE.transpose(PIL.Image.Transpose.ROTATE_90),
}


def heic(picture: PIL.Image.Image = PICTURE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, quality=95, chroma=444, **options)
    return buffer.getvalue()


def avif(picture: PIL.Image.Image = PICTURE, **options: Any) -> bytes:
    return encoded(picture, "AVIF", quality=95, subsampling="4:4:4", **options)


def turned(orientation: int) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


MAKERS: dict[str, Callable[..., bytes]] = {"HEIC": heic, "AVIF": avif}
kinds = pytest.mark.parametrize("kind", MAKERS)


def assert_like(pixels: Pixels, picture: PIL.Image.Image) -> None:
    expected = np.asarray(picture.convert("RGB"), np.int64)
    assert pixels.dtype == np.uint8 and pixels.shape == expected.shape and pixels.flags.writeable
    assert np.abs(pixels - expected).mean() < 4


@kinds
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_pixels(kind: str, mode: str, capfd: pytest.CaptureFixture[str]) -> None:
    picture = PICTURE.convert(mode)
    data = MAKERS[kind](picture)
    assert read_header(data) == (kind, (64, 96), 1, 0, 0, None)
    assert_like(decode_image(data), picture)
    assert media_type(data) == f"image/{kind.lower()}"
    assert capfd.readouterr().err == ""


@kinds
@pytest.mark.parametrize("orientation", TURNS)
def test_rotation_is_applied_once(kind: str, orientation: int) -> None:
    """Encoders write EXIF's orientation as the container's own rotation, as iPhones do; theirs keep both."""
    assert_like(decode_image(MAKERS[kind](exif=turned(orientation))), TURNS[orientation])


def test_exif_beside_a_rotation_is_not_applied_again() -> None:
    data = heic(exif=turned(6))
    upright = decode_image(data)
    assert b"irot" in data and upright.shape == (96, 64, 3)
    exif = data.index(b"Exif\0\0MM\0*")
    entry = data.index(struct.pack(">HHI", 0x0112, 3, 1), exif)
    repeated = data[: entry + 8] + struct.pack(">HH", 6, 0) + data[entry + 12 :]
    np.testing.assert_array_equal(decode_image(repeated), upright)


def test_ten_bits_become_eight() -> None:
    deep = np.asarray(PICTURE, np.uint16) << 8
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (96, 64), deep.tobytes()).save(buffer, quality=95, chroma=444)
    assert_like(decode_image(buffer.getvalue()), PICTURE)


def test_the_primary_image_of_several_is_read() -> None:
    file = pillow_heif.from_pillow(PICTURE.rotate(180))
    file.add_from_pillow(PICTURE)
    buffer = io.BytesIO()
    file.save(buffer, quality=95, chroma=444, primary_index=1)
    assert_like(decode_image(buffer.getvalue()), PICTURE)


@kinds
def test_too_many_pixels_are_refused_before_decoding(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = MAKERS[kind]()
    monkeypatch.setattr("resnest_core.heif.decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageTooLargeError, match="96×64 pixels, more than the 6,143 allowed"):
        decode_image(data, max_pixels=96 * 64 - 1)


@pytest.mark.parametrize("size", [(10, 10), (96, 65), (8000, 8000), (0, 0)])
def test_heic_whose_header_lies_is_refused(size: tuple[int, int]) -> None:
    data = heic()
    place = data.index(b"ispe") + 8
    with pytest.raises(NotAnImageError, match="The HEIC file is damaged"):
        decode_image(data[:place] + struct.pack(">II", *size) + data[place + 8 :])


@kinds
def test_cut_anywhere_is_refused(kind: str) -> None:
    data = MAKERS[kind]()
    for end in [*range(0, len(data) - 40, 97), *range(len(data) - 40, len(data))]:
        with pytest.raises(NotAnImageError):
            decode_image(data[:end])


def test_heic_without_its_package_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "pillow_heif":
            raise ImportError(name)
        return load(name, *arguments, **options)

    data = heic()
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(NotAnImageError) as caught:
        decode_image(data)
    assert str(caught.value) == (
        "This is a HEIC image, and pillow-heif is not installed (pip install 'resnest-serving[heif]'): "
        "send a JPEG, PNG, WebP, BMP, TIFF or GIF file."
    )
    assert media_type(data) == "image/heic"  # which a gateway may read


def test_avif_without_a_decoder_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda _: False)
    with pytest.raises(
        NotAnImageError, match="This is an AVIF image, and this build of Pillow has no AVIF decoder: send"
    ):
        decode_image(avif())


@pytest.mark.parametrize(
    ("brands", "name"),
    [
        (b"heic\0\0\0\0mif1heic", "HEIC"),
        (b"mif1\0\0\0\0mif1heic", "HEIC"),
        (b"msf1\0\0\0\0hevcmsf1", "HEIC"),
        (b"mif1\0\0\0\0mif1avif", "AVIF"),
        (b"avis\0\0\0\0avifmsf1", "AVIF"),
        (b"crx \0\0\0\1crx isom", "a camera's raw photograph"),
        (b"isom\0\0\0\0isommp42", "a video or sound"),
        (b"qt  \0\0\0\0qt  qt  ", "a video or sound"),
    ],
)
def test_brands(brands: bytes, name: str) -> None:
    box = struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands
    with pytest.raises(NotAnImageError, match=name):
        decode_image(box + b"\0" * 100)


FILES = [heic(), heic(PICTURE.convert("RGBA"), exif=turned(6)), avif(), avif(PICTURE.convert("L"))]


def check_damaged(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.one_of(st.integers(0, 600), st.integers(0, len(damaged) - 1)))
        change = data.draw(st.binary(max_size=4))
        damaged[place : place + data.draw(st.sampled_from([0, len(change)]))] = change
    check_decoding(bytes(damaged))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_an_image_error(data: st.DataObject) -> None:
    check_damaged(data)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None)
@given(st.data())
def test_much_damage(data: st.DataObject) -> None:
    check_damaged(data)
