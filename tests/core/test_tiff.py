"""TIFF directories: which image is decoded, which are refused and how, and damaged ones."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnest_core.errors import ImageError, ImageTooLargeError, NotAnImageError
from resnest_core.image_header import read_header
from resnest_core.images import Pixels, decode_image
from tests.core.encoded_images import LONG, PICTURE, PIXELS, SHORT, Order, Page, Tags, encoded, tiff
from tests.core.examples import check_decoding

ORDERS: tuple[Order, ...] = ("<", ">")
SMALL: Pixels = np.asarray(PICTURE.resize((16, 12)))
OTHER: Pixels = 255 - PIXELS
GREY: Pixels = np.asarray(PICTURE.convert("L"))[..., None]


def kind_of(new_subfile_type: int) -> Tags:
    return {254: (LONG, [new_subfile_type])}


REDUCED, FULL, PAGE, MASK = kind_of(1), kind_of(0), kind_of(2), kind_of(4)
OLD_REDUCED = {255: (SHORT, [2])}
NOT_READ = {262: (SHORT, [32803]), 277: (SHORT, [1])}  # what a sensor recorded

# The first image, or the one of full size where the first is a smaller copy.
CHOSEN = {
    "one": ([Page(PIXELS)], PIXELS),
    "pages of a scan": ([Page(PIXELS, PAGE), Page(OTHER, PAGE)], PIXELS),
    "small page, large page": ([Page(SMALL), Page(PIXELS)], SMALL),
    "pyramid": ([Page(PIXELS), Page(SMALL, REDUCED)], PIXELS),
    "thumbnail first": ([Page(SMALL, REDUCED), Page(PIXELS, FULL)], PIXELS),
    "thumbnail first, then a page without a word": ([Page(SMALL, REDUCED), Page(PIXELS)], PIXELS),
    "old thumbnail first": ([Page(SMALL, OLD_REDUCED), Page(PIXELS)], PIXELS),
    "all say that they are thumbnails": ([Page(SMALL, REDUCED), Page(PIXELS, REDUCED)], PIXELS),
    "mask first": ([Page(OTHER, MASK), Page(PIXELS)], PIXELS),
    "thumbnail that is larger": ([Page(np.tile(OTHER, (2, 2, 1)), REDUCED), Page(PIXELS)], PIXELS),
    "thumbnail with the image beneath": ([Page(SMALL, REDUCED, (Page(PIXELS),))], PIXELS),
    "thumbnail with images beneath": ([Page(SMALL, REDUCED, (Page(SMALL, REDUCED), Page(PIXELS)))], PIXELS),
    "image with a thumbnail beneath": ([Page(PIXELS, {}, (Page(SMALL, REDUCED),))], PIXELS),
    "only a thumbnail": ([Page(SMALL, REDUCED)], SMALL),
}


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", CHOSEN)
def test_image_of_full_size_is_read(name: str, order: Order, big: bool, capfd: pytest.CaptureFixture[str]) -> None:
    pages, pixels = CHOSEN[name]
    data = tiff(*pages, order=order, big=big)
    assert read_header(data).size_hw == pixels.shape[:2]
    np.testing.assert_array_equal(decode_image(data), pixels)
    assert capfd.readouterr().err == ""
    with pytest.raises(ImageTooLargeError):
        decode_image(data, max_pixels=pixels.shape[0] * pixels.shape[1] - 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_the_file_counts_for_the_image_beneath(orientation: int) -> None:
    turn: Tags = {274: (SHORT, [orientation])}
    upright = decode_image(tiff(Page(PIXELS, turn)))
    np.testing.assert_array_equal(decode_image(tiff(Page(SMALL, REDUCED | turn, (Page(PIXELS),)))), upright)
    # Its own orientation wins, and of two pages each has its own.
    np.testing.assert_array_equal(
        decode_image(tiff(Page(SMALL, REDUCED | {274: (SHORT, [3])}, (Page(PIXELS, turn),)))), upright
    )
    np.testing.assert_array_equal(decode_image(tiff(Page(SMALL, REDUCED), Page(PIXELS, turn))), upright)


REFUSED: dict[str, tuple[NDArray[Any], Tags, str]] = {
    "float": ((PIXELS / 255).astype(np.float32), {}, "a TIFF of 32-bit floats: convert it to 8 bits"),
    "grey float": (GREY.astype(np.float32), {}, "a TIFF of 32-bit floats: convert it to 8 bits"),
    "half": ((PIXELS / 255).astype(np.float16), {}, "a TIFF of 16-bit floats: convert it to 8 bits"),
    "double": (PIXELS.astype(np.float64), {}, "a TIFF of 64-bit floats: convert it to 8 bits"),
    "32 bits": (GREY.astype(np.uint32) << 24, {}, "a TIFF of 32-bit integers: convert it to 8 bits"),
    "64 bits": (GREY.astype(np.uint64), {}, "a TIFF of 64-bit integers: convert it to 8 bits"),
    "complex": (GREY.astype(np.complex64), {}, "a TIFF of complex numbers: convert it to 8 bits"),
    "five bands": (
        np.dstack([PIXELS, GREY, GREY]),
        {338: (SHORT, [0, 0])},
        "a TIFF of 5 bands: save red, green and blue",
    ),
    "200 bands": (np.repeat(GREY, 200, 2), {262: (SHORT, [1]), 338: (SHORT, [0] * 199)}, "a TIFF of 200 bands"),
}


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_as_what_it_is(name: str, big: bool) -> None:
    pixels, tags, sentence = REFUSED[name]
    for data in (tiff(Page(pixels, tags), big=big), tiff(Page(SMALL, REDUCED), Page(pixels, tags), order=">", big=big)):
        with pytest.raises(NotAnImageError, match=sentence):
            read_header(data)


@pytest.mark.parametrize("compression", ["zstd", "lzma"])
def test_compression_that_is_not_read_is_named(compression: str) -> None:
    with pytest.raises(NotAnImageError, match=r"a TIFF compressed by (Zstandard|LZMA): save it with LZW"):
        decode_image(encoded(PICTURE, "TIFF", compression=compression))


def canon_raw() -> bytes:
    """Return a CR2's header, and a directory of a picture in it."""
    data = tiff(Page(PIXELS))
    (start,) = struct.unpack_from("<I", data, 4)
    return b"II*\0\x10\0\0\0CR\2\0\0\0\0\0" + data[start:]


@pytest.mark.parametrize(
    "data",
    [
        tiff(Page(SMALL, REDUCED, (Page(np.dstack([GREY]), NOT_READ),))),
        tiff(Page(PIXELS, {}, (Page(GREY, NOT_READ),))),
        tiff(Page(SMALL, REDUCED | {50706: (1, [1, 4, 0, 0])}, (Page(GREY, NOT_READ), Page(PIXELS, REDUCED)))),
        tiff(Page(GREY, NOT_READ)),
        canon_raw(),
    ],
    ids=["NEF", "ARW", "DNG", "sensor only", "CR2"],
)
def test_raw_photographs_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(NotAnImageError, match="a camera's raw photograph: develop it and save it as JPEG"):
        read_header(data)


def test_16_bits_four_bands_and_signed_ones_are_read_as_opencv_does() -> None:
    for pixels, tags in (
        (PIXELS.astype(np.uint16) * 257, {}),
        (GREY.astype(np.int16) * 128, {}),
        (np.dstack([PIXELS, GREY]), {338: (SHORT, [0])}),
        (np.dstack([PIXELS, GREY]).astype(np.uint16) * 257, {338: (SHORT, [0])}),
    ):
        data = tiff(Page(pixels, tags))
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert expected is not None
        np.testing.assert_array_equal(decode_image(data), expected[..., ::-1])


def pointing_at_itself(data: bytes) -> bytes:
    """Return a TIFF whose only directory is followed by itself."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    place = start + 2 + 12 * count
    return data[:place] + struct.pack("<I", start) + data[place + 4 :]


@pytest.mark.parametrize(
    "data",
    [
        pointing_at_itself(tiff(Page(SMALL, REDUCED))),
        tiff(Page(SMALL, REDUCED | {330: (LONG, [8, 0, 2**32 - 1, 12, 12])})),
    ],
    ids=["loop", "directories nowhere"],
)
def test_directories_that_lead_nowhere(data: bytes) -> None:
    np.testing.assert_array_equal(decode_image(data), SMALL)


def test_pixels_that_spell_a_raw_files_name_are_pixels() -> None:
    pixels = np.frombuffer(b"CR\2" * 4, np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(decode_image(tiff(Page(pixels))), pixels)


def test_directories_in_the_pixels_are_none_or_refused() -> None:
    data = tiff(Page(SMALL, REDUCED | {330: (LONG, [*range(8, 3000)])}))
    with contextlib.suppress(NotAnImageError):
        np.testing.assert_array_equal(decode_image(data), SMALL)


def test_thousands_of_pages_cost_little() -> None:
    pages = [Page(SMALL[:1, :1], REDUCED)] * 3000
    np.testing.assert_array_equal(decode_image(tiff(*pages, big=True)), SMALL[:1, :1])


@pytest.mark.parametrize("big", [False, True])
def test_many_endless_directories_cost_little(big: bool) -> None:
    places = [*range(100_000, 100_256)]
    data = tiff(Page(SMALL, REDUCED | {330: (LONG, places)}), big=big) + b"\x01" * 8_000_000
    start = time.thread_time()
    with contextlib.suppress(ImageError):
        read_header(data)
    assert time.thread_time() - start < 0.5


FILES = [
    tiff(*pages, order=order, big=big) for pages, _ in CHOSEN.values() for order in ORDERS for big in (False, True)
]
FILES += [tiff(Page(pixels, tags)) for pixels, tags, _ in REFUSED.values()]


def mutate(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
    """Return a file with numbers of its directories, which stand at its end, changed, or cut."""
    data = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.one_of(st.integers(0, 16), st.integers(max(0, len(data) - 400), len(data) - 1)))
        value = draw(st.one_of(st.binary(min_size=1, max_size=1), st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff"])))
        data[place : place + len(value)] = value
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(1, len(data))))])


def check_damaged(data: st.DataObject) -> None:
    check_decoding(mutate(data.draw))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_directories_are_an_image_error(data: st.DataObject) -> None:
    check_damaged(data)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None)
@given(st.data())
def test_many_damaged_directories(data: st.DataObject) -> None:
    check_damaged(data)
