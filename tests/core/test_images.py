import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnest_core.errors import ImageError, ImageTooLargeError, NotAnImageError, ParameterError
from resnest_core.image_header import READERS, read_header
from resnest_core.images import Pixels, decode_image, load_image
from tests.core.examples import DATA

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged files

PARITY = DATA / "parity" / "images"
PHOTOGRAPHS = sorted(DATA.glob("*/images/*.jpg"))
PICTURE = PIL.Image.open(PARITY / "311303_small.jpg").convert("RGB")
GREY = PICTURE.convert("L")
DEEP = np.asarray(GREY).astype(np.uint16) * 257 + 100  # 16 bits whose low byte says something else
ORIENTATION = 0x0112


def encoded(picture: PIL.Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.copy().save(buffer, kind, **options)  # the copy, because a picture remembers how it was saved
    return buffer.getvalue()


def two(picture: PIL.Image.Image, kind: str) -> bytes:
    """Return a file of two images, the picture first."""
    return encoded(picture, kind, save_all=True, append_images=[picture.rotate(180)])


def by_opencv(data: bytes) -> Pixels:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return np.asarray(pixels[..., ::-1], np.uint8)


# Every cut of these is refused.
WHOLE = {
    "jpeg": encoded(PICTURE, "JPEG"),
    "jpeg progressive": encoded(PICTURE, "JPEG", progressive=True),
    "jpeg restarting": encoded(PICTURE, "JPEG", restart_marker_rows=1),
    "jpeg grey": encoded(GREY, "JPEG"),
    "jpeg CMYK": encoded(PICTURE.convert("CMYK"), "JPEG"),
    "png": encoded(PICTURE, "PNG"),
    "png alpha": encoded(PICTURE.convert("RGBA").rotate(30, fillcolor=(9, 99, 199, 40)), "PNG"),
    "png grey alpha": encoded(PICTURE.convert("LA"), "PNG"),
    "png palette": encoded(PICTURE.convert("P"), "PNG"),
    "png bilevel": encoded(PICTURE.convert("1"), "PNG"),
    "png 16 bits": encoded(PIL.Image.fromarray(DEEP), "PNG"),
    "webp": encoded(PICTURE, "WEBP"),
    "webp lossless": encoded(PICTURE, "WEBP", lossless=True),
    "webp alpha": encoded(PICTURE.convert("RGBA").rotate(30), "WEBP"),
    "bmp": encoded(PICTURE, "BMP"),
    "bmp palette": encoded(PICTURE.convert("P"), "BMP"),
    "bmp alpha": encoded(PICTURE.convert("RGBA"), "BMP"),
    "tiff": encoded(PICTURE, "TIFF"),
    "tiff LZW": encoded(PICTURE, "TIFF", compression="tiff_lzw"),
    "tiff deflate": encoded(PICTURE, "TIFF", compression="tiff_deflate"),
    "tiff palette": encoded(PICTURE.convert("P"), "TIFF"),
    "tiff big": encoded(PICTURE, "TIFF", big_tiff=True),
    "tiff 16 bits": encoded(PIL.Image.fromarray(DEEP), "TIFF"),
}
# What follows the first image of these may be missing.
SEVERAL = {
    "jpeg of two": two(PICTURE, "MPO"),
    "png animated": two(PICTURE, "PNG"),
    "webp animated": two(PICTURE, "WEBP"),
    "tiff of two pages": two(PICTURE, "TIFF"),
}
GIFS = {"gif": encoded(PICTURE.quantize(64), "GIF"), "gif animated": two(PICTURE.quantize(64), "GIF")}
ALL = WHOLE | SEVERAL | GIFS


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_photographs_have_opencvs_pixels(path: Path) -> None:
    np.testing.assert_array_equal(load_image(path), by_opencv(path.read_bytes()))


def test_photographs_include_a_grey_and_a_rotated_one() -> None:
    assert read_header((PARITY / "311303_grey.jpg").read_bytes()).components == 1
    assert read_header((PARITY / "311303_rotated.jpg").read_bytes()).orientation == 6


@pytest.mark.parametrize("name", WHOLE | SEVERAL)
def test_every_kind_has_opencvs_pixels(name: str) -> None:
    np.testing.assert_array_equal(decode_image(ALL[name]), by_opencv(ALL[name]))


@pytest.mark.parametrize("name", GIFS)
def test_gif_is_its_first_frame(name: str) -> None:
    np.testing.assert_array_equal(decode_image(GIFS[name]), np.asarray(PICTURE.quantize(64).convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_opencv_does(kind: str, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(PICTURE, kind, exif=exif)
    np.testing.assert_array_equal(decode_image(data), by_opencv(data))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("orientation", [0, 6, 9])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_exif_orientation_of_other_jpegs(mode: str, orientation: int, endian: str) -> None:
    exif = PIL.Image.Exif()
    exif.endian = endian
    exif[ORIENTATION] = orientation
    data = encoded(PICTURE.convert(mode), "JPEG", exif=exif)
    np.testing.assert_array_equal(decode_image(data), by_opencv(data))
    assert decode_image(data).shape[0] == (PICTURE.width if orientation == 6 else PICTURE.height)


@pytest.mark.parametrize("size", [(1, 1), (1600, 80), (80, 1600), (1, 16_000)], ids=str)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_extreme_shapes(kind: str, size: tuple[int, int]) -> None:
    data = encoded(PICTURE.resize(size), kind)
    pixels = decode_image(data)
    assert pixels.shape == (size[1], size[0], 3)
    if kind != "GIF":
        np.testing.assert_array_equal(pixels, by_opencv(data))


def test_orientation_of_xmp_is_left_alone_as_opencv_does() -> None:
    data = encoded(PICTURE, "JPEG", xmp=b'<x tiff:Orientation="6"/>')
    assert read_header(data).orientation == 1
    np.testing.assert_array_equal(decode_image(data), by_opencv(data))


@pytest.mark.parametrize(
    "blemish",
    [
        lambda data: data + b"\0" * 50 + b"tail",
        lambda data: data.replace(b"\xff\xda", b"\x11\x22\xff\xda", 1),
        lambda data: data[:-2] + b"\0\0garbage" + data[-2:],
        lambda data: data[:2] + b"\xff\xe1\0\x10Exif\0\0damaged!" + data[2:],
    ],
    ids=["bytes at the end", "bytes before a marker", "bytes before the end", "damaged EXIF"],
)
def test_jpeg_with_a_blemish_is_read_as_opencv_does(blemish: Callable[[bytes], bytes]) -> None:
    data = blemish(WHOLE["jpeg"])
    np.testing.assert_array_equal(decode_image(data), by_opencv(data))


@pytest.mark.parametrize("name", WHOLE)
def test_cut_anywhere_is_refused(name: str) -> None:
    data = WHOLE[name]
    for end in [*range(0, len(data) - 40, 97), *range(len(data) - 40, len(data))]:
        with pytest.raises(NotAnImageError):
            decode_image(data[:end])


@pytest.mark.parametrize("name", SEVERAL | GIFS)
def test_cut_is_refused_or_takes_nothing_from_the_first_image(name: str) -> None:
    data = ALL[name]
    whole, refused = decode_image(data), 0
    for end in range(0, len(data), 97):
        try:
            np.testing.assert_array_equal(decode_image(data[:end]), whole)
        except NotAnImageError:
            refused += 1
    assert refused


@pytest.mark.parametrize("name", ["jpeg", "jpeg progressive"])
def test_jpeg_with_a_blemish_and_a_cut_is_refused(name: str) -> None:
    data = WHOLE[name].replace(b"\xff\xda", b"\x11\x22\xff\xda", 1)
    for end in range(0, len(data), 29):
        with pytest.raises(NotAnImageError):
            decode_image(data[:end])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(ALL)), st.data())
def test_damage_gives_an_image_or_an_image_error(name: str, data: st.DataObject) -> None:
    damaged = bytearray(ALL[name])
    reach = data.draw(st.sampled_from([64, len(damaged)]))  # headers get their share
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, reach - 1), st.integers(0, 255)), max_size=4)):
        damaged[position] = value
    try:
        pixels = decode_image(bytes(damaged), max_pixels=100_000)
    except ImageError:
        return
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and 0 < pixels.size <= 300_000


@settings(max_examples=100)
@given(st.sampled_from([b"", *READERS]), st.binary(max_size=200))
def test_bytes_of_no_meaning_are_an_image_error(start: bytes, rest: bytes) -> None:
    with pytest.raises(ImageError):
        decode_image(start + rest)


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", encoded(PICTURE, "ICO")],
    ids=["empty", "text", "svg", "pdf", "ico"],
)
def test_other_formats_are_told_what_is_read(data: bytes) -> None:
    with pytest.raises(NotAnImageError, match="JPEG, PNG, WebP, BMP, TIFF or GIF"):
        decode_image(data)


def test_pixels_that_spell_the_name_of_a_chunk() -> None:
    """`acTL` makes a PNG an animated one where it names a chunk, and is nothing but bytes among the pixels."""
    pixels = np.frombuffer(b"acTL" * 3, np.uint8).reshape(1, 4, 3)
    chunks = [
        b"IHDR" + struct.pack(">IIBBBBB", 4, 1, 8, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(b"\0" + pixels.tobytes(), 0),
        b"IEND",
    ]
    framed = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(framed)
    assert b"acTL" in data
    np.testing.assert_array_equal(decode_image(data), pixels)


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that ends where its pixels should begin."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 1 << 20) + b"IDAT"


def test_header_is_read_without_pixels() -> None:
    header = read_header(png_header(20_000, 10_000))
    assert (header.format, header.size_hw, header.orientation) == ("PNG", (10_000, 20_000), 1)


def test_too_many_pixels_are_refused_by_the_header_with_size_and_limit() -> None:
    with pytest.raises(ImageTooLargeError, match=r"100000×100000 pixels, more than the 64,000,000"):
        decode_image(png_header(100_000, 100_000))


@pytest.mark.parametrize("name", ALL)
def test_limit_is_the_last_size_that_is_read(name: str) -> None:
    pixels = PICTURE.width * PICTURE.height
    decode_image(ALL[name], max_pixels=pixels)
    with pytest.raises(ImageTooLargeError):
        decode_image(ALL[name], max_pixels=pixels - 1)


def test_load_takes_bytes_paths_and_pixels() -> None:
    path = PARITY / "311303_small.jpg"
    pixels = load_image(path)
    np.testing.assert_array_equal(load_image(str(path)), pixels)
    np.testing.assert_array_equal(load_image(path.read_bytes()), pixels)
    assert load_image(pixels) is pixels


@pytest.mark.parametrize("path", ["no/such/photo.jpg", "no\0file.jpg", str(DATA)], ids=["missing", "nul", "directory"])
def test_file_that_cannot_be_read_is_named(path: str) -> None:
    with pytest.raises(NotAnImageError) as caught:
        load_image(path)
    assert str(caught.value).startswith(f"{path} can't be read: ")


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        None,
    ],
    ids=["grey", "alpha", "float", "empty", "None"],
)
def test_load_refuses_what_is_no_image(image: object) -> None:
    with pytest.raises(NotAnImageError, match=r"Pixels must be|An image is"):
        load_image(image)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_of_other_kinds(kind: Callable[[bytes], bytearray | memoryview]) -> None:
    data = cv2.imencode(".png", np.arange(60, dtype=np.uint8).reshape(4, 5, 3))[1].tobytes()
    np.testing.assert_array_equal(load_image(kind(data)), load_image(data))


def test_opencvs_order_of_channels() -> None:
    rgb = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    np.testing.assert_array_equal(load_image(rgb[..., ::-1], color="bgr"), rgb)
    data = cv2.imencode(".png", rgb)[1].tobytes()  # a file has an order of its own
    np.testing.assert_array_equal(load_image(data, color="bgr"), load_image(data))
    with pytest.raises(ParameterError, match="rgb or bgr"):
        load_image(rgb, color="gbr")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_an_image_of_pillow_is_what_its_file_is(mode: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2**16 if mode == "I;16" else 2**8, (6, 9), np.uint16)
    picture = PIL.Image.fromarray(values if mode == "I;16" else values.astype(np.uint8))
    if mode != "I;16":
        picture = picture.convert(mode)
    picture.save(path := tmp_path / "image.png")
    np.testing.assert_array_equal(load_image(picture), load_image(path))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_of_pillow_is_what_its_file_is(orientation: int, tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    picture = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8))
    picture.save(path := tmp_path / "image.png", exif=exif)
    with PIL.Image.open(path) as opened:
        np.testing.assert_array_equal(load_image(opened), load_image(path))


def test_images_of_pillow_that_cannot_be_used(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (64, 64)).save(path := tmp_path / "image.png")
    path.write_bytes(path.read_bytes()[:-40])
    with PIL.Image.open(path) as cut_short, pytest.raises(NotAnImageError, match="Pillow can't read"):
        load_image(cut_short)
    with pytest.raises(NotAnImageError, match="mode F has no known range"):
        load_image(PIL.Image.new("F", (2, 2)))
    with pytest.raises(ImageTooLargeError, match="2×2"):
        load_image(PIL.Image.new("RGB", (2, 2)), max_pixels=3)


@pytest.mark.parametrize("address", ["http://example.org/a.jpg", "https://example.org/a.jpg"])
def test_an_address_is_not_fetched(address: str) -> None:
    with pytest.raises(NotAnImageError, match=r"is an address: pass what resnest_client\.fetch_image"):
        load_image(address)
