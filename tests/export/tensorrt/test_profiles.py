"""Optimization profiles over buckets and batch sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_core.buckets import Buckets, bucket_size_hw, bucket_sizes_hw
from resnest_core.preprocess import resized_size_hw
from resnest_core.runtimes.tensorrt.manifest import EngineProfile
from resnest_export.tensorrt.profiles import profiles
from tests.export import goldens

CARD = goldens.card("mask_rcnn_s50")


def test_lying_and_standing_images_alone_and_in_batches() -> None:
    assert profiles(CARD, Buckets.RATIOS, 8) == (
        EngineProfile(min=(1, 800, 800), opt=(1, 800, 1088), max=(1, 800, 1344)),
        EngineProfile(min=(2, 800, 800), opt=(8, 800, 1088), max=(8, 800, 1344)),
        EngineProfile(min=(1, 1088, 800), opt=(1, 1088, 800), max=(1, 1344, 800)),
        EngineProfile(min=(2, 1088, 800), opt=(8, 1088, 800), max=(8, 1344, 800)),
    )


def test_without_batches_there_is_one_of_each() -> None:
    assert [profile.max[0] for profile in profiles(CARD, Buckets.LANDSCAPE_PORTRAIT, 1)] == [1, 1]


@pytest.mark.parametrize("buckets", [Buckets.RATIOS, Buckets.LANDSCAPE_PORTRAIT])
def test_every_bucket_is_held(buckets: Buckets) -> None:
    found = profiles(CARD, buckets, 4)
    for height, width in bucket_sizes_hw(CARD, buckets):
        for batch in range(1, 5):
            assert any(profile.holds((batch, height, width)) for profile in found)


@given(height=st.integers(1, 6000), width=st.integers(1, 6000))
def test_without_buckets_every_image_is_held(height: int, width: int) -> None:
    padded = bucket_size_hw(resized_size_hw((height, width), CARD), CARD, Buckets.EXACT)
    assert any(profile.holds((1, *padded)) for profile in profiles(CARD, Buckets.EXACT, 1))
