from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_core.buckets import WASTE, Buckets, bucket_size_hw, bucket_sizes_hw, padded_sizes_hw
from resnest_core.preprocess import prepare, resized_size_hw
from resnest_core.runtimes.fake import FAKE_CARD

CARD = FAKE_CARD.model_copy(update={"test_scale": (1333, 800)})
sides = st.integers(1, 5000)


def test_the_buckets_of_the_eight() -> None:
    assert bucket_sizes_hw(CARD, Buckets.EXACT) == []
    assert bucket_sizes_hw(CARD, Buckets.LANDSCAPE_PORTRAIT) == [(800, 1344), (1344, 800)]
    lying = [(800, 1088), (800, 1216), (800, 1344)]
    both = [size for height, width in lying for size in ((height, width), (width, height))]
    assert bucket_sizes_hw(CARD, Buckets.RATIOS) == [(800, 800), *both]


@pytest.mark.parametrize(
    ("size_hw", "exact", "ratios", "two"),
    [
        ((800, 1067), (800, 1088), (800, 1088), (800, 1344)),  # 4:3
        ((1067, 800), (1088, 800), (1088, 800), (1344, 800)),
        ((750, 1333), (768, 1344), (800, 1344), (800, 1344)),  # 16:9
        ((800, 1070), (800, 1088), (800, 1088), (800, 1344)),
        ((800, 1100), (800, 1120), (800, 1216), (800, 1344)),
        ((800, 800), (800, 800), (800, 800), (800, 800)),  # 1.68 times as many pixels would be waste
        ((67, 1333), (96, 1344), (96, 1344), (96, 1344)),
    ],
)
def test_by_hand(
    size_hw: tuple[int, int], exact: tuple[int, int], ratios: tuple[int, int], two: tuple[int, int]
) -> None:
    assert [bucket_size_hw(size_hw, CARD, buckets) for buckets in Buckets] == [exact, ratios, two]


@given(sides, sides, st.sampled_from(Buckets))
def test_an_image_fits_into_its_bucket_which_wastes_little(height: int, width: int, buckets: Buckets) -> None:
    resized = resized_size_hw((height, width), CARD)
    exact, bucket = (bucket_size_hw(resized, CARD, each) for each in (Buckets.EXACT, buckets))
    assert all(side >= inside and side % 32 == 0 for side, inside in zip(bucket, resized, strict=True))
    assert bucket == exact or bucket in bucket_sizes_hw(CARD, buckets)
    assert np.prod(exact) <= np.prod(bucket) <= WASTE * np.prod(exact)


@given(sides, sides, st.sampled_from(Buckets))
def test_every_padded_size_is_known_beforehand(height: int, width: int, buckets: Buckets) -> None:
    resized = resized_size_hw((height, width), CARD)
    assert bucket_size_hw(resized, CARD, buckets) in padded_sizes_hw(CARD, buckets)


def test_all_padded_sizes() -> None:
    exact = padded_sizes_hw(CARD, Buckets.EXACT)
    assert exact[0] == (32, 1344) and exact[-1] == (1344, 800)
    assert len(exact) == 2 * (25 + 18 - 1) - 1  # by longer or shorter side, lying or standing, one of them square
    assert set(bucket_sizes_hw(CARD, Buckets.RATIOS)) < set(padded_sizes_hw(CARD, Buckets.RATIOS))


def test_prepared_images_are_the_same_but_for_the_padding() -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (50, 60, 3), dtype=np.uint8)
    for one, other in product(Buckets, repeat=2):
        first, second = prepare(pixels, CARD, one), prepare(pixels, CARD, other)
        assert first.image_size_hw == second.image_size_hw
        height, width = first.image_size_hw
        np.testing.assert_array_equal(first.pixels[:height, :width], second.pixels[:height, :width])
        for prepared in (first, second):
            assert not prepared.pixels[height:].any() and not prepared.pixels[:, width:].any()


VARIANTS = [
    {"size_divisor": 1},
    {"size_divisor": 64},
    {"keep_ratio": False},
    {"test_scale": (512, 512)},
    {"pad_size_hw": (900, 1400), "size_divisor": 1},
]


@given(sides, sides, st.sampled_from(Buckets), st.sampled_from(VARIANTS))
def test_of_other_test_pipelines_every_padded_size_is_known_too(
    height: int, width: int, buckets: Buckets, update: dict[str, object]
) -> None:
    card = CARD.model_copy(update=update)
    resized = resized_size_hw((height, width), card)
    padded = bucket_size_hw(resized, card, buckets)
    assert padded in padded_sizes_hw(card, buckets)
    assert padded[0] >= resized[0] and padded[1] >= resized[1]
    assert all(side % card.size_divisor == 0 for side in padded)
