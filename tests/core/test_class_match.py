"""Annotations' categories and a model's classes: matched by name, whatever their ids."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_core.card import ModelCard
from resnest_core.errors import ParameterError
from resnest_core.evaluation import Annotations, compare, read_annotations
from resnest_core.evaluation.class_match import match_classes
from resnest_core.runtimes.fake import FAKE_CARD

CARD = FAKE_CARD.model_copy(update={"category_ids": (7, 3, 9)})  # person, bicycle, car
BOXES = {"person": [0, 0, 50, 50], "bicycle": [100, 0, 60, 60], "car": [0, 200, 70, 70], "dog": [300, 300, 40, 40]}


def content(ids: dict[str, int], objects: list[str]) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "1.png", "height": 500, "width": 500}],
        "categories": [{"id": id_, "name": name} for name, id_ in ids.items()],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": ids[name], "bbox": BOXES[name], "area": 2500, "iscrowd": 0}
            for name in objects
        ],
    }


def read(folder: Path, ids: dict[str, int], objects: list[str], card: ModelCard = CARD) -> Annotations:
    path = folder / "instances.json"
    path.write_text(json.dumps(content(ids, objects)))
    return read_annotations(path, card)


def found(*names: str) -> list[dict[str, Any]]:
    """Return perfect detections, with the card's ids."""
    ids = dict(zip(CARD.classes, CARD.category_ids, strict=True))
    return [{"image_id": 1, "category_id": ids[name], "bbox": BOXES[name], "score": 0.9} for name in names]


@pytest.mark.parametrize(
    "ids",
    [
        {"person": 0, "bicycle": 1, "car": 2},
        {"person": 1, "bicycle": 2, "car": 3},
        {"car": 7, "person": 3, "bicycle": 9},  # the card's ids, for other names
        {"bicycle": 10**12, "car": -4, "person": 0},
    ],
    ids=str,
)
def test_any_ids_and_any_order(tmp_path: Path, ids: dict[str, int]) -> None:
    truth = read(tmp_path, ids, ["person", "bicycle", "car"])
    assert truth.classes.difference is None
    scores = compare(truth, found("person", "car"), "bbox", [1])
    assert scores.figures["AP"] == pytest.approx(2 / 3)
    by_name = {truth.classes.names[id_]: ap for id_, ap in scores.ap_by_category.items()}
    assert by_name == {"person": pytest.approx(1), "bicycle": 0, "car": pytest.approx(1)}


def test_what_one_side_lacks_is_left_out_and_named(tmp_path: Path) -> None:
    """Neither the dog, which the model can't find, nor the car, which nobody annotated, costs anything."""
    truth = read(tmp_path, {"dog": 9, "person": 7, "bicycle": 1}, ["dog", "person", "bicycle"])
    assert truth.classes.difference == (
        "2 classes are evaluated, those that both have: the model lacks dog, and the annotations lack car."
    )
    assert truth.objects([1]) == {7: 1, 1: 1}
    scores = compare(truth, found("person", "bicycle", "car"), "bbox", [1])
    assert scores.figures["AP"] == pytest.approx(1)
    assert scores.ap_by_category.keys() == {7, 1}


def test_only_one_side_lacks_names(tmp_path: Path) -> None:
    truth = read(tmp_path, {"person": 1}, ["person"])
    assert truth.classes.difference == (
        "1 class is evaluated, the one that both have: the annotations lack bicycle, car."
    )


@pytest.mark.parametrize("other", ["Car", "car ", "c a r", "ＣＡＲ", "c-a_r"])
def test_names_that_look_alike_are_not_matched(tmp_path: Path, other: str) -> None:
    BOXES[other] = BOXES["car"]
    truth = read(tmp_path, {"person": 1, other: 2}, ["person", other])
    assert list(truth.classes.names.values()) == ["person"]
    assert f"({other!r} and 'car' look alike, but names are matched exactly)" in (truth.classes.difference or "")


def test_no_common_name_says_both_lists_capped(tmp_path: Path) -> None:
    names = {f"thing {number}": number for number in range(30)}
    BOXES["thing 0"] = [0, 0, 9, 9]
    with pytest.raises(ParameterError, match="is a class of the model fake") as caught:
        read(tmp_path, names, ["thing 0"])
    assert "thing 0, thing 1, " in str(caught.value)
    assert "thing 9 and 20 more in the file, and person, bicycle, car in the model" in str(caught.value)
    assert "thing 10" not in str(caught.value)
    BOXES["Car"] = [0, 0, 9, 9]
    with pytest.raises(ParameterError, match="'Car' and 'car' look alike"):
        read(tmp_path, {"Car": 1}, ["Car"])


def test_objects_of_other_classes_only(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="annotates no object of the classes that the model fake has too, person"):
        read(tmp_path, {"dog": 1, "person": 2}, ["dog"])


@pytest.mark.parametrize(
    ("categories", "sentence"),
    [
        ([(1, "person"), (2, "person")], "several categories of the same name, person"),
        ([(1, "person"), (1, "car")], "several categories of the same id, 1"),
        ([(5, "person")], "objects of categories that it doesn't list, with the ids 1."),
    ],
)
def test_categories_that_are_not_told_apart(tmp_path: Path, categories: list[tuple[int, str]], sentence: str) -> None:
    path = tmp_path / "instances.json"
    whole = content({"person": 1}, ["person"])
    path.write_text(json.dumps(whole | {"categories": [{"id": id_, "name": name} for id_, name in categories]}))
    with pytest.raises(ParameterError, match=sentence):
        read_annotations(path, CARD)


@pytest.mark.parametrize(
    "change", [{"classes": ("person", "car", "car")}, {"category_ids": (1, 2, 2)}], ids=["names", "ids"]
)
def test_a_model_whose_classes_are_not_told_apart(change: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="more than once"):
        match_classes({1: "person"}, CARD.model_copy(update=change), "instances.json")


@given(
    model=st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1),
    file=st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1),
    seed=st.integers(0, 999),
)
def test_every_name_is_on_one_list(model: list[str], file: list[str], seed: int) -> None:
    numbers = random.Random(seed).sample(range(1000), 16)
    card = CARD.model_copy(update={"classes": tuple(model), "category_ids": tuple(numbers[: len(model)])})
    categories = dict(zip(numbers[8:], file, strict=False))
    common = set(model) & set(file)
    if not common:
        with pytest.raises(ParameterError):
            match_classes(categories, card, "instances.json")
        return
    match = match_classes(categories, card, "instances.json")
    assert set(match.names.values()) == common
    assert set(match.only_in_model) == set(model) - common
    assert set(match.only_in_file) == set(file) - common
    for card_id, file_id in match.file_ids.items():
        assert categories[file_id] == model[card.category_ids.index(card_id)]
    assert (match.difference is None) == (set(model) == set(file))
