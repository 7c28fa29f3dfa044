import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnest_core.colors import PALETTE, object_colors
from resnest_core.detections import Detections
from resnest_core.drawing import MASK_OPACITY, draw, encode
from resnest_core.errors import ParameterError
from resnest_core.fonts import class_label, load
from resnest_core.images import Pixels, load_image
from resnest_core.runtimes.fake import FAKE_CARD
from tests.core.examples import DATA, MASK_SIZE, random_boxes, random_detections, seeds

GREY = 128


def plain(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), GREY, np.uint8)


def one(box_xyxy: tuple[float, ...], size_hw: tuple[int, int], *, mask: bool = False, score: float = 0.9) -> Detections:
    return Detections(
        boxes_xyxy=np.array([box_xyxy], np.float32),
        scores=np.array([score], np.float32),
        labels=np.array([2]),
        masks=np.ones((1, MASK_SIZE, MASK_SIZE), np.float16) if mask else None,
        image_size_hw=size_hw,
    )


def test_box_has_its_classes_color_and_nothing_else_changes() -> None:
    picture = draw(plain(200, 300), one((100, 80, 200, 160), (200, 300)), FAKE_CARD)
    for x, y in ((100, 120), (199, 120), (150, 80), (150, 159)):
        assert tuple(picture[y, x]) == PALETTE[2]
    assert (picture[90:150, 110:190] == GREY).all()
    changed = np.argwhere((picture != GREY).any(axis=2))
    assert changed.min(0).tolist() >= [50, 100] and changed.max(0).tolist() == [159, 199]


def test_mask_is_a_tint_within_its_box() -> None:
    picture = draw(plain(200, 300), one((100, 80, 200, 160), (200, 300), mask=True), FAKE_CARD)
    tint = GREY * (1 - MASK_OPACITY) + np.array(PALETTE[2]) * MASK_OPACITY
    np.testing.assert_allclose(picture[90:150, 110:190].reshape(-1, 3), np.tile(tint, (60 * 80, 1)), atol=1)
    assert (picture[161:] == GREY).all() and (picture[:, 201:] == GREY).all()


@pytest.mark.parametrize("corner", [(0, 0), (250, 0), (0, 180), (250, 180), (99.5, 60.3)])
def test_label_is_whole_wherever_the_box_is(corner: tuple[float, float]) -> None:
    x, y = corner
    middle = draw(plain(200, 300), one((100, 100, 150, 120), (200, 300)), FAKE_CARD)
    picture = draw(plain(200, 300), one((x, y, x + 50, y + 20), (200, 300)), FAKE_CARD)
    label = (middle == PALETTE[2]).all(axis=2).sum()
    assert (picture == PALETTE[2]).all(axis=2).sum() >= 0.6 * label  # less where box and label overlap
    # Thin strokes cover no pixel wholly: ink is what is darker than the ground and the image.
    ink = [np.argwhere(image.max(axis=2) < 100) for image in (middle, picture)]
    assert len(ink[0]) > 50
    shapes = [points - points.min(0) for points in ink]
    np.testing.assert_array_equal(shapes[0], shapes[1])


def test_lines_and_text_grow_with_the_image() -> None:
    small = draw(plain(300, 300), one((100, 100, 200, 200), (300, 300)), FAKE_CARD)
    large = draw(plain(3000, 3000), one((1000, 1000, 2000, 2000), (3000, 3000)), FAKE_CARD)
    shares = [(image != GREY).any(axis=2).mean() for image in (small, large)]
    assert shares[1] == pytest.approx(shares[0], rel=0.5)


@pytest.mark.parametrize("name", ["Škoda", "собака", "كلب", "猫", "कुत्ता", "dog\ncat", "Ấ"])
def test_names_in_any_script_are_drawn_whole_and_never_as_boxes(name: str) -> None:
    """Of two names of two characters each that no font has, empty boxes would look the same."""
    card = FAKE_CARD.model_copy(update={"classes": ("a", "b", name)})
    picture = draw(plain(200, 300), one((20, 60, 280, 160), (200, 300)), card)
    label = picture[:60]
    text, font = class_label(name, 2)
    assert text in (name, "#2", "Skoda", "dog cat", "A")
    ink = np.argwhere(label.max(axis=2) < 100)
    ground = np.argwhere((label == PALETTE[2]).all(axis=2))
    assert len(ink) > 20 and len(ground) > len(ink)
    assert (ink.min(0) > ground.min(0)).all() and (ink.max(0) <= ground.max(0)).all()
    drawn = load(font, 10).getmask(f"{text} 0.90")
    assert drawn.getbbox()[2] <= ground.max(0)[1] - ground.min(0)[1]


def test_below_the_threshold_nothing_is_drawn_and_the_image_is_left_as_it_was() -> None:
    pixels = plain(50, 50)
    detections = one((10, 10, 40, 40), (50, 50), mask=True, score=0.5)
    np.testing.assert_array_equal(draw(pixels, detections, FAKE_CARD, score_threshold=0.5), plain(50, 50))
    assert (draw(pixels, detections, FAKE_CARD, score_threshold=0.49) != GREY).any()
    np.testing.assert_array_equal(pixels, plain(50, 50))


def test_the_best_is_drawn_over_the_others() -> None:
    first, second = one((10, 10, 90, 90), (100, 100), score=0.9), one((10, 10, 90, 90), (100, 100), score=0.8)
    both = Detections(
        np.concatenate([first.boxes_xyxy, second.boxes_xyxy]),
        np.concatenate([first.scores, second.scores]),
        np.array([1, 2]),
        None,
        (100, 100),
    )
    assert tuple(draw(plain(100, 100), both, FAKE_CARD)[50, 10]) == PALETTE[1]


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_any_detections_can_be_drawn(seed: int) -> None:
    detections = random_detections(seed)
    picture = draw(plain(*detections.image_size_hw), detections, FAKE_CARD)
    assert picture.dtype == np.uint8 and picture.shape == (*detections.image_size_hw, 3)


def test_a_view_can_be_drawn_on() -> None:
    detections = dataclasses.replace(
        random_detections(0), image_size_hw=(40, 30), boxes_xyxy=random_boxes(np.random.default_rng(0), 5, (40, 30))
    )
    view = np.random.default_rng(0).integers(0, 256, (80, 30, 3), dtype=np.uint8)[::2, ::-1, ::-1]
    np.testing.assert_array_equal(draw(view, detections, FAKE_CARD), draw(view.copy(), detections, FAKE_CARD))


def test_labels_of_overlapping_objects_do_not_hide_each_other() -> None:
    boxes = np.array([[100, 100, 300, 250], [102, 101, 290, 240], [98, 99, 310, 260], [104, 103, 305, 245]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    found = Detections(boxes, scores, np.full(4, 2), None, (400, 500))
    picture = draw(plain(400, 500), found, FAKE_CARD)
    assert len({tuple(color) for color in picture.reshape(-1, 3).tolist()} & set(PALETTE)) == 4
    labels = {}
    for color in object_colors(boxes, [2] * 4):
        ground = (picture == color).all(axis=2)
        rows = np.flatnonzero(ground.sum(axis=1) > 40)  # of a label, or of a box's line
        labels[color] = ground[rows].sum()
    alone = draw(plain(400, 500), found[:1], FAKE_CARD)
    assert min(labels.values()) >= 0.6 * (alone == PALETTE[2]).all(axis=2)[:100].sum()


def test_by_class_all_of_a_class_have_its_colour() -> None:
    boxes = np.array([[10, 10, 90, 90], [20, 20, 80, 80]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([1, 1]), None, (100, 100))
    by_class = draw(plain(100, 100), found, FAKE_CARD, color_by="class")
    assert tuple(by_class[50, 10]) == tuple(by_class[50, 20]) == PALETTE[1]
    assert tuple(draw(plain(100, 100), found, FAKE_CARD)[50, 20]) != PALETTE[1]


@given(seeds, st.integers(1, 40), st.integers(1, 40))
def test_png_keeps_every_pixel(seed: int, height: int, width: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(load_image(encode(pixels, "image/png")), pixels)


def test_jpeg_is_close() -> None:
    pixels = load_image(DATA / "parity" / "images" / "311303_small.jpg")
    data = encode(pixels, "image/jpeg")
    assert data.startswith(b"\xff\xd8\xff")
    assert np.abs(load_image(data).astype(int) - pixels).mean() < 4


def test_other_types_are_refused() -> None:
    with pytest.raises(ParameterError, match="image/png or image/jpeg, not as image/webp"):
        encode(plain(1, 1), "image/webp")
