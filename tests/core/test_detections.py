import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_core.detections import Detections
from resnest_core.drawing import draw
from resnest_core.errors import MissingExtraError, ParameterError
from resnest_core.images import load_image
from tests.core.examples import CARD, random_detections, seeds


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("boxes_xyxy", (4, 4)),
        ("boxes_xyxy", (5, 5)),
        ("boxes_xyxy", (5,)),
        ("scores", (5, 1)),
        ("labels", (4,)),
        ("masks", (4, 28, 28)),
        ("masks", (5, 784)),
    ],
)
def test_shapes_must_agree_on_the_number(field: str, shape: tuple[int, ...]) -> None:
    arrays: dict[str, Any] = {field: np.zeros(shape, np.float32)}
    with pytest.raises(ParameterError, match="must agree on N"):
        dataclasses.replace(random_detections(0, count=5), **arrays)


@given(seeds, st.integers(0, 6), st.booleans(), st.data())
def test_picking_picks_every_array_alike(seed: int, count: int, masks: bool, data: st.DataObject) -> None:
    detections = random_detections(seed, count=count, masks=masks)
    rows = np.arange(count)
    keep = data.draw(
        st.sampled_from([slice(None, None, -1), slice(1, 3), detections.scores > 0.5, rows[rows % 2 == 1][::-1]])
    )
    picked = detections[keep]
    assert isinstance(picked, Detections) and len(picked) == len(rows[keep])
    assert picked.image_size_hw == detections.image_size_hw
    for row, original in enumerate(rows[keep]):
        np.testing.assert_array_equal(picked.boxes_xyxy[row], detections.boxes_xyxy[original])
        assert picked.scores[row] == detections.scores[original]
        assert picked.labels[row] == detections.labels[original]
        if picked.masks is not None and detections.masks is not None:
            np.testing.assert_array_equal(picked.masks[row], detections.masks[original])
    assert (picked.masks is None) == (not masks)


def test_detections_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        random_detections(0).image_size_hw = (1, 1)  # type: ignore[misc]


def of_card(count: int = 5, *, masks: bool = True, image: Any = None) -> Detections:
    return dataclasses.replace(random_detections(3, count=count, masks=masks), card=CARD, image=image)


def test_one_by_one() -> None:
    found = of_card()
    for index, one in enumerate(found):
        assert one.box_xyxy == tuple(found.boxes_xyxy[index].tolist())
        assert one.score == found.scores[index] and one.label == found.labels[index]
        assert one.class_name == found.class_names[index] == CARD.classes[one.label]
        np.testing.assert_array_equal(one.mask_full(), found.masks_full()[index])
    assert repr(found[-1]) == repr(list(found)[-1])
    with pytest.raises(IndexError):
        found[5]


def test_by_class_and_by_lists() -> None:
    found = of_card(20)
    cars = found["car"]
    assert 0 < len(cars) < 20 and set(cars.class_names) == {"car"} and cars.card == CARD
    assert len(found["car"]["bicycle"]) == 0
    np.testing.assert_array_equal(found[[3, 1]].scores, found.scores[[3, 1]])
    assert len(found[[]]) == 0
    with pytest.raises(ParameterError, match="no class unicorn: its classes are person, bicycle, car"):
        found["unicorn"]


def test_without_a_card_nothing_is_guessed() -> None:
    found = random_detections(0)
    assert found[0].class_name == f"label {found.labels[0]}"
    for ask in (
        lambda: found.class_names,
        lambda: found["car"],
        found.to_coco,
        found.plot,
    ):
        with pytest.raises(ParameterError):
            ask()


def test_how_it_reads() -> None:
    found = dataclasses.replace(of_card(3), labels=np.array([0, 2, 0]), image_size_hw=(480, 640))
    assert repr(found) == str(found) == "3 detections in 640×480: 2 person, 1 car"
    assert repr(found[:1]) == "1 detection in 640×480: 1 person"
    assert repr(found[:0]) == "0 detections in 640×480"
    assert repr(dataclasses.replace(found, card=None)) == "3 detections in 640×480: 2 label 0, 1 label 2"


@given(seeds)
def test_masks_over_boxes_and_over_images_agree(seed: int) -> None:
    found = dataclasses.replace(random_detections(seed), card=CARD)
    full = found.masks_full()
    assert full.shape == (5, *found.image_size_hw) and full.dtype == bool
    for whole, (crop, (x, y)) in zip(full, found.masks_in_boxes(), strict=True):
        assert whole.sum() == crop.sum()
        np.testing.assert_array_equal(whole[y : y + crop.shape[0], x : x + crop.shape[1]], crop)


def test_there_are_no_masks_to_ask_for() -> None:
    found = of_card(masks=False)
    for ask in (found.masks_full, found.masks_in_boxes, found[0].mask_full):
        with pytest.raises(ParameterError, match="no mask"):
            ask()


def test_for_other_libraries() -> None:
    found = of_card()
    theirs = found.to_supervision()
    np.testing.assert_array_equal(theirs.xyxy, found.boxes_xyxy)
    np.testing.assert_array_equal(theirs.mask, found.masks_full())
    assert theirs.confidence is not None and (theirs.confidence == found.scores).all()
    assert list(theirs.data["class_name"]) == found.class_names
    assert len(of_card(0).to_supervision().data["class_name"]) == 0
    assert random_detections(0, masks=False).to_supervision().mask is None
    frame = found.to_pandas()
    assert [*frame.columns] == ["x1", "y1", "x2", "y2", "score", "label", "class"]
    assert frame["class"].tolist() == found.class_names and len(of_card(0).to_pandas()) == 0
    results = found.to_coco("a name")
    assert [row["category_id"] for row in results] == [CARD.category_ids[label] for label in found.labels]
    assert results[0]["image_id"] == "a name" and "segmentation" in results[0]


@pytest.mark.parametrize(("package", "method"), [("supervision", "to_supervision"), ("pandas", "to_pandas")])
def test_an_extra_that_is_missing_is_named(package: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"resnest-serving\[{package}\]"):
        getattr(of_card(), method)()


def test_pictures(tmp_path: Path) -> None:
    bgr = np.random.default_rng(0).integers(0, 256, (*of_card().image_size_hw, 3), np.uint8)
    found = dataclasses.replace(of_card(image=bgr), color="bgr")
    drawn = found.plot(score_threshold=0)
    np.testing.assert_array_equal(drawn, draw(np.ascontiguousarray(bgr[..., ::-1]), found, CARD, score_threshold=0))
    np.testing.assert_array_equal(of_card().plot(bgr, color="bgr", score_threshold=0), drawn)
    found.save(tmp_path / "out.PNG", score_threshold=0)
    np.testing.assert_array_equal(load_image(tmp_path / "out.PNG"), drawn)
    found.save(tmp_path / "out.jpeg")
    assert "<img" in found._repr_html_() and "5 detections" in found._repr_html_()
    assert "<img" not in of_card()._repr_html_()


def test_pictures_that_cannot_be_drawn(tmp_path: Path) -> None:
    found = of_card()
    with pytest.raises(ParameterError, match="hold no image: pass the one"):
        found.plot()
    with pytest.raises(ParameterError, match="7×7 pixels, but these detections are of one with"):
        found.plot(np.zeros((7, 7, 3), np.uint8))
    with pytest.raises(ParameterError, match=r"out\.gif has another ending"):
        found.save(tmp_path / "out.gif")
