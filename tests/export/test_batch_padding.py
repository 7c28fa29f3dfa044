"""Buckets change an answer as mmdetection's own batches do, and in no other way."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from resnest_core import load_detector
from resnest_core.buckets import Buckets
from resnest_core.card import ModelCard
from resnest_core.detector import InProcessDetector
from resnest_core.images import load_image
from resnest_core.preprocess import prepare, resized_size_hw
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.models import ZOO, build
from tests.export import goldens
from tests.weights import REPOSITORY, demo_state_dict

BUCKETS = Buckets.LANDSCAPE_PORTRAIT
LYING, STANDING = (300, 500), (500, 300)  # images of the test scale's own shape: whoever shares their batch is padded


def preprocessed(image: np.ndarray, card: ModelCard) -> Tensor:
    """Resize and normalise an RGB image as mmdetection's pipeline and data preprocessor do: float (3, H, W)."""
    height, width = resized_size_hw((image.shape[0], image.shape[1]), card)
    pixels = torch.from_numpy(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)).float()
    return ((pixels - torch.tensor(card.mean)) / torch.tensor(card.std)).permute(2, 0, 1)


def stack_batch(images: list[Tensor], divisor: int) -> Tensor:
    """Pad as mmengine's `stack_batch`: right and bottom, with zeros after normalising, to the largest of the batch."""
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    height, width = height + -height % divisor, width + -width % divisor
    padded = [functional.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in images]
    return torch.stack(padded)


class OfNormalised(DeployedDetector):
    """The deployed detector in PyTorch, given what it would make of the pixels."""

    def normalize(self, images: Tensor, image_sizes: Tensor) -> Tensor:  # noqa: ARG002 - as its parent's
        return images


# Panoramas keep a shape of their own.
@pytest.mark.parametrize("photograph", [name for name in goldens.names("demo") if "panorama" not in name])
def test_a_bucket_pads_as_a_batch_of_mmdetection_does(photograph: str) -> None:
    pixels = load_image(goldens.photograph_path(photograph))
    with load_detector("demo", repository=REPOSITORY) as served:
        assert isinstance(served, InProcessDetector)
        card = served.card
        image = prepare(pixels, card, BUCKETS)
        (answer,) = served.infer([image], [card.score_threshold], [True])

    neighbour = np.full((*(LYING if pixels.shape[0] <= pixels.shape[1] else STANDING), 3), 128, np.uint8)
    batch = [preprocessed(each, card) for each in (pixels, neighbour)]
    images = stack_batch(batch, card.size_divisor)
    assert images.shape[2:] == image.pixels.shape[:2] != prepare(pixels, card).pixels.shape[:2]

    detector = build(ZOO["demo"])
    detector.load_state_dict(demo_state_dict())
    sizes = torch.tensor([each.shape[1:] for each in batch])
    originals = torch.tensor([pixels.shape[:2], neighbour.shape[:2]])
    with torch.inference_mode():
        outputs = OfNormalised(detector, card)(images, sizes, originals, torch.zeros(2, 1))
    expected = goldens.unpacked([tensor[:1] for tensor in outputs], image)
    assert len(expected)
    goldens.assert_agrees(goldens.as_answer(expected), goldens.as_answer(answer))
