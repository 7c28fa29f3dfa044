from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnest_core import tensors
from resnest_core.card import ModelCard
from resnest_core.errors import ImageTooNarrowError
from resnest_core.images import Pixels, load_image
from resnest_core.preprocess import prepare, resized_size_hw, stack
from resnest_core.runtimes.fake import FAKE_CARD
from tests.core.examples import DATA, seeds

GOLDEN = sorted(DATA.glob("*/golden/**/*.npz"))
WITH_PIXELS = [path for path in GOLDEN if "input_value" in np.load(path)]
SCALES = {"demo": (533, 320), "parity": (1333, 800)}
CARD = FAKE_CARD.model_copy(update={"test_scale": (1333, 800)})
SMALL = FAKE_CARD.model_copy(update={"test_scale": (107, 64)})

sides = st.integers(1, 200)


def noise(seed: int, height: int, width: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def card_and_photograph(golden: Path) -> tuple[ModelCard, Pixels]:
    kit = golden.relative_to(DATA).parts[0]
    [photograph] = DATA.glob(f"*/images/{golden.stem}.jpg")
    return FAKE_CARD.model_copy(update={"test_scale": SCALES[kit]}), load_image(photograph)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_sizes_are_mmdetections(path: Path) -> None:
    card, pixels = card_and_photograph(path)
    prepared = prepare(pixels, card)
    with np.load(path) as golden:
        assert prepared.original_size_hw == tuple(golden["image_size_hw"])
        assert prepared.image_size_hw == tuple(golden["resized_hw"])
        assert prepared.pixels.shape[:2] == tuple(golden["padded_hw"])
        factors = np.divide(prepared.image_size_hw, prepared.original_size_hw)[::-1]
        np.testing.assert_array_equal(factors.astype(np.float32), golden["scale_factor_xy"])


@pytest.mark.parametrize("path", WITH_PIXELS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_pixels_are_mmdetections(path: Path) -> None:
    card, pixels = card_and_photograph(path)
    prepared = prepare(pixels, card)
    with np.load(path) as golden:
        normalized = (prepared.pixels - np.array([123.68, 116.779, 103.939])) / [58.393, 57.12, 57.375]
        height, width = prepared.image_size_hw
        normalized[height:], normalized[:, width:] = 0, 0
        values = normalized.transpose(2, 0, 1).ravel()[golden["input_index"]]
        np.testing.assert_allclose(values, golden["input_value"], atol=1e-5)


# Test pipelines of the configurations in tests/data/configs.
CONFIGURED: dict[str, dict[str, object]] = {
    "small_parts": {"test_scale": (1024, 640)},
    "two_fc_soft": {"test_scale": (800, 608), "keep_ratio": False},
    "bgr_cascade": {"test_scale": (512, 512), "size_divisor": 64},
}


@pytest.mark.parametrize(
    "path", sorted(DATA.glob("configs/*/golden/*.npz")), ids=lambda path: f"{path.parts[-3]}-{path.stem}"
)
def test_sizes_of_other_test_pipelines_are_mmdetections(path: Path) -> None:
    card = FAKE_CARD.model_copy(update=CONFIGURED[path.parts[-3]])
    with np.load(path) as golden:
        prepared = prepare(noise(0, *golden["image_size_hw"]), card)
        assert prepared.image_size_hw == tuple(golden["resized_hw"])
        assert prepared.pixels.shape[:2] == tuple(golden["padded_hw"])
        factors = np.divide(prepared.image_size_hw, prepared.original_size_hw)[::-1]
        np.testing.assert_array_equal(factors.astype(np.float32), golden["scale_factor_xy"])


@pytest.mark.parametrize(
    ("update", "resized_hw", "padded_hw"),
    [
        ({"size_divisor": 1}, (53, 107), (53, 107)),
        ({"size_divisor": 16}, (53, 107), (64, 112)),
        ({"pad_size_hw": (100, 90), "size_divisor": 1}, (53, 107), (100, 107)),
        ({"pad_size_hw": (100, 200), "size_divisor": 32}, (53, 107), (128, 224)),
        ({"keep_ratio": False}, (64, 107), (64, 128)),
    ],
)
def test_padding_by_hand(update: dict[str, object], resized_hw: tuple[int, int], padded_hw: tuple[int, int]) -> None:
    prepared = prepare(noise(0, 50, 101), SMALL.model_copy(update=update))
    assert (prepared.image_size_hw, prepared.pixels.shape[:2]) == (resized_hw, padded_hw)
    height, width = resized_hw
    assert not prepared.pixels[height:].any() and not prepared.pixels[:, width:].any()


@pytest.mark.parametrize(
    ("size_hw", "expected_hw"),
    [
        ((480, 640), (800, 1067)),  # 640 · 800/480 = 1066.67
        ((640, 480), (1067, 800)),
        ((100, 2000), (67, 1333)),  # the long side decides: 100 · 1333/2000 = 66.65
        ((800, 1333), (800, 1333)),
        ((1, 1), (800, 800)),
        ((1, 65535), (1, 1333)),  # 0.02, but no side is less than a pixel
    ],
)
def test_sizes_by_hand(size_hw: tuple[int, int], expected_hw: tuple[int, int]) -> None:
    assert resized_size_hw(size_hw, CARD) == expected_hw


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_resized_size_stays_within_the_scale_and_touches_it(height: int, width: int) -> None:
    resized = resized_size_hw((height, width), CARD)
    assert 1 <= max(resized) <= 1333 and 1 <= min(resized) <= 800
    assert max(resized) == 1333 or min(resized) == 800
    scale = min(1333 / max(height, width), 800 / min(height, width))
    np.testing.assert_allclose(resized, np.maximum(np.multiply((height, width), scale), 1), atol=0.501)


@settings(max_examples=50)
@given(sides, sides, seeds)
def test_prepared_is_opencvs_resize_in_zero_padding(height: int, width: int, seed: int) -> None:
    pixels = noise(seed, height, width)
    prepared = prepare(pixels, SMALL)
    resized_height, resized_width = prepared.image_size_hw
    resized = cv2.resize(pixels, (resized_width, resized_height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(prepared.pixels[:resized_height, :resized_width], resized)
    assert not prepared.pixels[resized_height:].any() and not prepared.pixels[:, resized_width:].any()
    for padded, side in zip(prepared.pixels.shape, prepared.image_size_hw, strict=False):
        assert padded % 32 == 0 and 0 <= padded - side < 32


def test_pixels_may_be_a_view_and_read_only() -> None:
    pixels = noise(0, 50, 70)[::-1, ::2, ::-1]
    pixels.flags.writeable = False
    np.testing.assert_array_equal(prepare(pixels, SMALL).pixels, prepare(pixels.copy(), SMALL).pixels)


@pytest.mark.parametrize(
    ("size_hw", "padded_hw"), [((1, 1), (800, 800)), ((100, 2000), (96, 1344)), ((1, 40000), (32, 1344))]
)
def test_extreme_shapes_stay_small(size_hw: tuple[int, int], padded_hw: tuple[int, int]) -> None:
    card = FAKE_CARD.model_copy(update={"test_scale": (1333, 800)})
    prepared = prepare(np.full((*size_hw, 3), 7, np.uint8), card)
    assert prepared.pixels.shape == (*padded_hw, 3)
    assert prepared.pixels.sum() == 7 * 3 * np.prod(prepared.image_size_hw)


@settings(max_examples=50)
@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=4), seeds)
def test_stack_pads_all_to_the_largest(sizes_hw: list[tuple[int, int]], seed: int) -> None:
    images = [prepare(noise(seed, *size_hw), SMALL) for size_hw in sizes_hw]
    batch = stack(images)
    assert {name: array.dtype for name, array in batch.items()} == {
        name: np.dtype(tensors.INPUT_TYPES[name])
        for name in (tensors.IMAGES, tensors.IMAGE_SIZES, tensors.ORIGINAL_SIZES)
    }
    assert batch[tensors.ORIGINAL_SIZES].tolist() == [list(size_hw) for size_hw in sizes_hw]
    assert batch[tensors.IMAGE_SIZES].tolist() == [list(image.image_size_hw) for image in images]
    shapes = np.array([image.pixels.shape for image in images])
    assert batch[tensors.IMAGES].shape == (len(images), *shapes.max(axis=0))
    for row, image in zip(batch[tensors.IMAGES], images, strict=True):
        height, width, _ = image.pixels.shape
        np.testing.assert_array_equal(row[:height, :width], image.pixels)
        assert not row[height:].any() and not row[:, width:].any()


@pytest.mark.parametrize("size_hw", [(10, 1000), (1000, 10)])
def test_what_has_no_map_of_stride_32_is_refused(size_hw: tuple[int, int]) -> None:
    card = SMALL.model_copy(update={"size_divisor": 1})
    with pytest.raises(ImageTooNarrowError, match=r"1000.* becomes .*needs 32 on each side"):
        prepare(noise(0, *size_hw), card)
    assert min(prepare(noise(0, *size_hw), SMALL).pixels.shape[:2]) == 32  # padded to it
