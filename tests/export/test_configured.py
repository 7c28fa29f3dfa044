"""Which detector is built of a checkpoint: its configuration decides, and contradictions are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from resnest_core.errors import CheckpointError, ConfigError, ModelNotFoundError
from resnest_export.checkpoint import load_checkpoint
from resnest_export.configured import configured_detector, difference_lines
from resnest_export.pipeline import ExportSource
from resnest_export.precision import Precision
from resnest_export.request import ExportRequest
from tests.export.mmdet_config.texts import published_text, text_of
from tests.export.small_detector import CLASSES, save_small, small_config
from tests.weights import demo_state_dict


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A checkpoint that keeps its configuration."""
    config = small_config()
    return save_small(tmp_path / "mine.pth", config, kept=text_of(config))


def source(checkpoint: Path, detector: str | None = None, **options: Any) -> ExportSource:
    return ExportSource.read(ExportRequest(detector, checkpoint, checkpoint.parent, **options))


def test_the_configuration_in_the_checkpoint_decides(mine: Path) -> None:
    read = source(mine, name="parts")
    card = read.card(Precision.FP32)
    assert (card.name, card.family, card.backbone) == ("parts", "Mask R-CNN", "ResNeSt-50")
    assert (card.classes, card.category_ids) == (CLASSES, (1, 2, 3))
    assert (card.test_scale, card.score_threshold, card.max_detections) == ((1024, 640), 0.1, 200)
    assert (card.nms, card.box_ap) == ({"type": "nms", "iou_threshold": 0.6, "class_agnostic": False}, None)
    assert read.detector.rpn_head.rpn_cls.out_channels == 5
    table = "\n".join(read.notes)
    assert "Settings: the configuration in the checkpoint. What differs from the published detector:" in table
    for setting, published, here in (
        ("preprocessing.scale", "(1333, 800)", "(1024, 640)"),
        ("test_rcnn.nms.iou_threshold", "0.5", "0.6"),
        ("test_rcnn.max_per_img", "100", "200"),
        ("neck.out_channels", "256", "16"),
    ):
        assert any(line.split() == [setting, *published.split(), *here.split()] for line in table.splitlines()), table


def test_a_file_decides_before_the_checkpoints_own_text(mine: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.py"
    file.write_text(text_of(small_config(("model.test_cfg.rcnn.score_thr", 0.3))))
    read = source(mine, config=file)
    assert (read.config.settings.test_rcnn.score_thr, read.configured.source) == (0.3, str(file))


def test_a_name_gives_way_to_the_configuration(mine: Path) -> None:
    read = source(mine, "faster_rcnn_s101")
    assert (read.config.family, read.config.name) == ("Mask R-CNN", "faster_rcnn_s101")
    assert any("it is of a Mask R-CNN, not of a Faster R-CNN as faster_rcnn_s101" in note for note in read.notes)


def test_without_a_configuration_the_named_detectors_settings_are_assumed_and_told(tmp_path: Path) -> None:
    torch.save({"state_dict": demo_state_dict(4)}, tmp_path / "mine.pth")
    checkpoint = load_checkpoint(tmp_path / "mine.pth")
    configured = configured_detector("demo", None, checkpoint)
    [warning] = configured.notes
    for told in ("WARNING", "scale 533×320", "mean 123.68 116.779 103.939", "RGB", "anchor scales 4,", "IoU 0.5"):
        assert told in warning
    assert configured.config.num_classes == 4
    with pytest.raises(ModelNotFoundError, match="holds no configuration: pass it with --config, or name"):
        configured_detector(None, None, checkpoint)
    with pytest.raises(ModelNotFoundError, match="There is no detector 'denmo'"):
        configured_detector("denmo", None, checkpoint)


@pytest.mark.parametrize(
    ("change", "key", "setting"),
    [
        (("model.rpn_head.anchor_generator.ratios", [1.0]), "rpn_head.rpn_cls.weight", "scales and ratios"),
        (("model.roi_head.bbox_head.reg_class_agnostic", True), "fc_reg.weight", "reg_class_agnostic"),
        (("model.roi_head.mask_head.class_agnostic", True), "conv_logits.weight", "class_agnostic of the mask head"),
        (("model.roi_head.mask_head.num_convs", 2), "mask_head.convs.3.conv.weight", "num_convs"),
        (("model.backbone.depth", 101), "backbone.layer3.22.conv1.weight", "depth"),
        (("model.backbone.radix", 1), "backbone.layer1.0.conv2.fc2.weight", "radix of the backbone"),
        (("model.neck.out_channels", 32), "neck.lateral_convs.0.conv.weight", "out_channels and num_outs of the neck"),
    ],
)
def test_weights_that_contradict_the_configuration(
    tmp_path: Path, change: tuple[str, Any], key: str, setting: str
) -> None:
    changes = [change]
    if "neck" in change[0]:  # what takes its maps says their width as well
        roi_head = "model.roi_head."
        changes += [("model.rpn_head.in_channels", 32), (f"{roi_head}bbox_head.in_channels", 32)]
        changes += [(f"{roi_head}{part}.out_channels", 32) for part in ("bbox_roi_extractor", "mask_roi_extractor")]
        changes += [(f"{roi_head}mask_head.in_channels", 32)]
    path = save_small(tmp_path / "mine.pth", small_config(), kept=text_of(small_config(*changes)))
    with pytest.raises(CheckpointError) as error:
        source(path)
    assert key in str(error.value) and "these settings decide them: " in str(error.value)
    assert setting in str(error.value).partition("these settings decide them: ")[2]


def test_another_number_of_classes(mine: Path, tmp_path: Path) -> None:
    other = small_config(("model.roi_head.bbox_head.num_classes", 7), ("model.roi_head.mask_head.num_classes", 7))
    del other["metainfo"]
    other["test_dataloader"]["dataset"].pop("metainfo", None)
    file = tmp_path / "other.py"
    file.write_text(text_of(other))
    with pytest.raises(CheckpointError, match=r"has 3 classes, but .*other\.py says num_classes=7"):
        source(mine, config=file)


@pytest.mark.parametrize("names", [("a", "b"), ("a", "a", "b")])
def test_a_file_of_names_mends_those_of_the_configuration(tmp_path: Path, names: tuple[str, ...]) -> None:
    config = small_config(("metainfo", {"classes": names}))
    config["test_dataloader"]["dataset"]["metainfo"] = {"classes": names}
    path = save_small(tmp_path / "mine.pth", small_config(), kept=text_of(config))
    with pytest.raises(ConfigError, match=r"names 2 classes|'a' is named twice"):
        source(path)
    (tmp_path / "classes.txt").write_text("x\ny\nz\n")
    assert source(path, classes_file=tmp_path / "classes.txt").classes == ("x", "y", "z")


def test_what_cannot_be_built_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    kept = text_of(small_config(("model.backbone.dcn", {"type": "DCN"}), ("model.neck.type", "PAFPN")))
    path = save_small(tmp_path / "mine.pth", small_config(), kept=kept)
    with pytest.raises(ConfigError) as error:
        source(path)
    assert len(error.value.refusals) == 2 and "model.backbone.dcn" in str(error.value) and "PAFPN" in str(error.value)
    assert list(tmp_path.iterdir()) == [path]


def test_detections_ids_and_averages_as_options_say(tmp_path: Path) -> None:
    config = small_config()
    path = save_small(tmp_path / "mine.pth", config, kept=text_of(config), averages=True)
    plain, averaged = source(path), source(path, use_ema=True, max_detections=7, category_ids="5,90,12")
    card = averaged.card(Precision.FP32)
    assert (card.max_detections, card.category_ids) == (7, (5, 90, 12))
    bias = [one.detector.state_dict()["roi_head.bbox_head.fc_cls.bias"] for one in (plain, averaged)]
    assert torch.equal(bias[0] + 1, bias[1])


def test_nothing_differs_from_the_published_detector_but_its_classes(tmp_path: Path) -> None:
    file = tmp_path / "published.py"
    file.write_text(published_text(50, cascade=False, masks=False))
    torch.save({"state_dict": {"roi_head.bbox_head.fc_cls.weight": torch.zeros(81, 1)}}, tmp_path / "mine.pth")
    configured = configured_detector(None, file, load_checkpoint(tmp_path / "mine.pth"))
    assert difference_lines(configured) == [f"Settings: {file}; all as in the published faster_rcnn_s50."]
