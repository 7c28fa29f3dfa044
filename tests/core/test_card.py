import pytest
from pydantic import ValidationError

from resnest_core.card import METADATA_KEY, ModelCard
from resnest_core.errors import InvalidModelError
from resnest_core.runtimes.fake import FAKE_CARD


def test_card_goes_through_metadata_unchanged() -> None:
    card = FAKE_CARD.model_copy(update={"box_ap": 42.6, "mask_ap": 38.1, "notes": "ünïcode", "precision": "bf16"})
    assert ModelCard.from_metadata({METADATA_KEY: card.model_dump_json(), "other": "x"}, "model.onnx") == card


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "has no model card"),
        ({"other": "x"}, "has no model card"),
        ({METADATA_KEY: "{"}, "damaged model card"),
        ({METADATA_KEY: "{}"}, "damaged model card"),
        ({METADATA_KEY: FAKE_CARD.model_dump_json().replace("[533,320]", '["a","b"]')}, "damaged model card"),
        ({METADATA_KEY: FAKE_CARD.model_dump_json().replace("[1,2,3]", "[1,2]")}, "damaged model card"),
    ],
    ids=["empty", "another's", "no JSON", "no fields", "wrong type", "an id too few"],
)
def test_bad_metadata_names_the_file(metadata: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidModelError, match=message) as caught:
        ModelCard.from_metadata(metadata, "folder/model.onnx")
    assert "folder/model.onnx" in str(caught.value)


def test_every_class_has_one_category_id() -> None:
    with pytest.raises(ValidationError, match="3 classes, but 2 category ids"):
        ModelCard.model_validate(FAKE_CARD.model_dump() | {"category_ids": (1, 2)})


def test_masks_follow_from_the_mask_size() -> None:
    assert FAKE_CARD.has_masks
    assert not FAKE_CARD.model_copy(update={"mask_size": None}).has_masks


def test_cards_of_earlier_files_mean_the_published_settings() -> None:
    """They lack what a configuration may change now; their networks and preprocessing were the published ones."""
    added = ("keep_ratio", "size_divisor", "pad_size_hw", "pad_rgb", "mean", "std", "channel_order", "nms")
    content = FAKE_CARD.model_dump(mode="json", exclude={*added, "mask_threshold"})
    card = ModelCard.model_validate(content)
    assert (card.keep_ratio, card.size_divisor, card.pad_size_hw, card.channel_order) == (True, 32, None, "rgb")
    assert (card.mean, card.std) == ((123.68, 116.779, 103.939), (58.393, 57.12, 57.375))
    assert (card.nms["iou_threshold"], card.mask_threshold) == (0.5, 0.5)


def test_card_is_frozen() -> None:
    with pytest.raises(ValidationError):
        FAKE_CARD.name = "other"
