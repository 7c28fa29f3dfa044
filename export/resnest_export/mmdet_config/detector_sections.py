"""From a configuration, of mmdetection 2 or 3, to detector settings."""

from __future__ import annotations

from resnest_export.mmdet_config.class_names import class_names
from resnest_export.mmdet_config.head_sections import roi_head_settings
from resnest_export.mmdet_config.inference_sections import rcnn_test_settings, rpn_test_settings
from resnest_export.mmdet_config.network_sections import (
    INITIALIZATION,
    backbone_settings,
    neck_settings,
    rpn_settings,
)
from resnest_export.mmdet_config.preprocessing_sections import preprocessing_2, preprocessing_3
from resnest_export.mmdet_config.settings import DetectorSettings, PreprocessingSettings
from resnest_export.mmdet_config.values import Section, Unevaluated, Value, shortened
from resnest_export.mmdet_config.view import ELSEWHERE, Refusals, View, bare_type

DETECTORS = ("FasterRCNN", "MaskRCNN", "CascadeRCNN", "TwoStageDetector")
MMDETECTION_3 = ("test_dataloader", "optim_wrapper", "default_scope", "default_hooks", "train_dataloader")
"""Variables that only configurations of mmdetection 3 have."""


def settings_from_config(
    config: Section, known: tuple[str, ...] | None = None, *, names_given: bool = False
) -> DetectorSettings:
    """Return everything that decides the answers of the detector that a configuration describes.

    Absent keys have mmdetection 3.3's defaults. Of the configuration's variables mmdetection reads a few; the others
    are helpers of the file and don't matter by themselves.

    Args:
        config: as the reader returns it.
        known: the classes' names that the checkpoint's meta tells.
        names_given: whether the names of the classes are given elsewhere; those here are passed over then.

    Raises:
        ConfigError: something can't be known, or can't be built; every such setting is in one message, and in
            `refusals`.
    """
    refusals = Refusals()
    root = View(config, "", refusals)
    model = root.view("model")
    _check_kind(model)
    refusals.raise_any()  # of another kind of detector every key would be refused
    is_3 = "data_preprocessor" in model.section or any(key in config for key in MMDETECTION_3)

    model.inert(*INITIALIZATION, "train_cfg")
    backbone = backbone_settings(model.view("backbone"))
    rpn_head = model.view("rpn_head")
    channels = rpn_head.section.get("in_channels")
    neck = neck_settings(model.view("neck"), backbone, channels if type(channels) is int else 256)
    rpn = rpn_settings(rpn_head, neck)
    roi_head, num_classes = roi_head_settings(model.view("roi_head"), neck)
    test = _test_view(root, model)
    test_rpn = rpn_test_settings(test.view("rpn"))
    test_rcnn = rcnn_test_settings(test.view("rcnn"), has_masks=roi_head.has_masks)
    test.done()
    dataset, dataset_path = _test_dataset(root, is_3)
    preprocessing = _preprocessing(root, model, dataset, dataset_path, is_3)
    model.done()
    root.absent("tta_model")
    classes = None if names_given else class_names(config, dataset, known, num_classes, refusals)
    refusals.raise_any()
    return DetectorSettings(
        num_classes=num_classes,
        classes=classes,
        backbone=backbone,
        neck=neck,
        rpn=rpn,
        roi_head=roi_head,
        test_rpn=test_rpn,
        test_rcnn=test_rcnn,
        preprocessing=preprocessing,
    )


def registered_code(config: Section) -> list[str]:
    """Return notes where a configuration has modules imported: their types may replace mmdetection's of that name."""
    imports = config.get("custom_imports")
    if not imports:
        return []
    modules = imports.get("imports") if isinstance(imports, Section) else imports
    return [
        f"custom_imports names {shortened(modules)}, which isn't imported: what it registers is refused where the "
        "configuration uses it, but make sure that it replaces none of mmdetection's own types."
    ]


def _check_kind(model: View) -> None:
    """Refuse detectors, backbones and heads of another kind."""
    if model.section:
        model.type(*DETECTORS, what="detector")
    backbone = model.section.get("backbone")
    kind = backbone.get("type") if isinstance(backbone, Section) else None
    if isinstance(kind, str) and bare_type(kind) != "ResNeSt":
        model.refuse("backbone", f"is {shortened(kind)}: this backbone can't be built, only ResNeSt: {ELSEWHERE}")


def _test_view(root: View, model: View) -> View:
    """Return `test_cfg`, which mmdetection 2 also has beside the model; mmdetection 3 has its test loop there."""
    outside = root.section.get("test_cfg")
    is_loop = isinstance(outside, Section) and not {"rpn", "rcnn"} & outside.keys()
    if outside is None or is_loop:
        return model.view("test_cfg")
    if "test_cfg" in model:
        root.refuse("test_cfg", "stands beside model.test_cfg: keep one of them")
    model.inert("test_cfg")
    return root.view("test_cfg")


def _test_dataset(root: View, is_3: bool) -> tuple[Value, str]:
    """Return the section of the test data set, inside its wrappers, and its path."""
    config = root.section
    if is_3:
        path = next((name for name in ("test_dataloader", "val_dataloader") if config.get(name) is not None), "")
        loader = config.get(path)
        dataset = loader.get("dataset") if isinstance(loader, Section) else loader
        path = f"{path}.dataset"
    else:
        data = config.get("data")
        name = "val" if isinstance(data, Section) and data.get("test") is None else "test"
        dataset = data.get(name) if isinstance(data, Section) else data
        path = f"data.{name}"
    for _ in range(8):  # wrappers may be nested
        if isinstance(dataset, (list, tuple)) and dataset:
            dataset, path = dataset[0], f"{path}[0]"
        elif isinstance(dataset, Section) and "pipeline" not in dataset:
            inner = next((key for key in ("dataset", "datasets") if key in dataset), None)
            if inner is None:
                break
            dataset, path = dataset[inner], f"{path}.{inner}"
        else:
            break
    return dataset, path


def _preprocessing(root: View, model: View, dataset: Value, path: str, is_3: bool) -> PreprocessingSettings:
    pipeline = dataset.get("pipeline") if isinstance(dataset, Section) else None
    if isinstance(dataset, Unevaluated):
        pipeline = dataset
    path = f"{path}.pipeline"
    if pipeline is None:
        pipeline, path = root.section.get("test_pipeline"), "test_pipeline"
    if not is_3:
        return preprocessing_2(pipeline, path, root.refusals)
    if "data_preprocessor" not in model and "data_preprocessor" in root:
        model.refuse("data_preprocessor", "is missing, but stands beside the model: move it into the model")
        model.inert("data_preprocessor")
        return PreprocessingSettings()
    return preprocessing_3(model.view("data_preprocessor"), pipeline, path, root.refusals)
