"""The exported network's contract, on the committed demo model: tensors, batches, thresholds, padding, masks."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnest_core import tensors
from resnest_core.card import METADATA_KEY, ModelCard
from resnest_core.images import load_image
from resnest_core.repository import network_path
from resnest_core.runtimes import OnnxRuntime, OpenVinoRuntime, Runtime
from resnest_core.tensors import Tensors
from tests.weights import DEMO

MODEL = network_path(Path(__file__).parents[2] / "model_repository", "demo")
PHOTOGRAPHS = sorted((DEMO / "images").glob("*.jpg"))


@pytest.fixture(scope="module")
def proto() -> onnx.ModelProto:
    return onnx.load(MODEL)


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return OnnxRuntime.load(MODEL)


def inputs(
    *photographs: int, size_hw: tuple[int, int] = (320, 448), inside_hw: tuple[int, int] = (300, 440)
) -> dict[str, np.ndarray]:
    """A batch of photographs, each resized to `inside_hw` and padded to `size_hw`; −1 is a black image."""
    images = np.zeros((len(photographs), *size_hw, 3), np.uint8)
    for row, index in enumerate(photographs):
        if index >= 0:
            pixels = load_image(PHOTOGRAPHS[index])
            images[row, : inside_hw[0], : inside_hw[1]] = cv2.resize(pixels, inside_hw[::-1])
    return {
        tensors.IMAGES: images,
        tensors.IMAGE_SIZES: np.array([inside_hw] * len(photographs)),
        tensors.ORIGINAL_SIZES: np.array([(480, 640)] * len(photographs)),
        tensors.SCORE_THRESHOLDS: np.full((len(photographs), 1), 0.05, np.float32),
        tensors.WANT_MASKS: np.ones((len(photographs), 1), bool),
    }


def single(batch: dict[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    return {name: array[row : row + 1] for name, array in batch.items()}


def assert_same(
    one: Tensors, other: Tensors, one_row: int = 0, other_row: int = 0, score: float = 1e-4, pixels: float = 0.01
) -> None:
    for name in one:
        ours, theirs = one[name][one_row], other[name][other_row]
        limit = {tensors.SCORES: score, tensors.BOXES: pixels, tensors.MASKS: 2e-3}.get(name, 0)
        np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=0, atol=limit, err_msg=name)


def described(values: "list[onnx.ValueInfoProto]") -> list[tuple[str, int, list[str | int]]]:
    types = [(value.name, value.type.tensor_type) for value in values]
    return [(name, t.elem_type, [d.dim_param or d.dim_value for d in t.shape.dim]) for name, t in types]


def test_tensors_are_the_contracts(proto: onnx.ModelProto) -> None:
    t = onnx.TensorProto
    assert described(list(proto.graph.input)) == [
        ("images", t.UINT8, ["batch", "height", "width", 3]),
        ("image_sizes", t.INT64, ["batch", 2]),
        ("original_sizes", t.INT64, ["batch", 2]),
        ("score_thresholds", t.FLOAT, ["batch", 1]),
        ("want_masks", t.BOOL, ["batch", 1]),
    ]
    assert described(list(proto.graph.output)) == [
        ("num_detections", t.INT64, ["batch", 1]),
        ("boxes", t.FLOAT, ["batch", 100, 4]),
        ("scores", t.FLOAT, ["batch", 100]),
        ("labels", t.INT64, ["batch", 100]),
        ("masks", t.FLOAT16, ["batch", 100, 28, 28]),
    ]


def test_file_is_one_that_todays_runtimes_read(proto: onnx.ModelProto) -> None:
    onnx.checker.check_model(proto, full_check=True)
    assert proto.ir_version <= 10
    opsets = {opset.domain: opset.version for opset in proto.opset_import}
    assert 18 <= opsets[""] <= 20
    assert opsets["resnest"] == 1


def test_custom_operators_are_used_and_have_bodies(proto: onnx.ModelProto) -> None:
    used = [node.op_type for node in proto.graph.node if node.domain == "resnest"]
    assert sorted(used) == ["BatchedNMS", "BatchedNMS", "MultiLevelRoIAlign", "MultiLevelRoIAlign"]
    assert {"BatchedNMS", "MultiLevelRoIAlign"} <= {function.name for function in proto.functions}


def test_batch_norm_is_folded(proto: onnx.ModelProto) -> None:
    assert not [node for node in proto.graph.node if node.op_type == "BatchNormalization"]


def test_file_tells_nothing_of_where_it_was_made(proto: onnx.ModelProto) -> None:
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
    assert str(Path(__file__).parents[2]).encode() not in proto.SerializeToString()


def test_card_is_inside(proto: onnx.ModelProto) -> None:
    card = ModelCard.from_metadata({entry.key: entry.value for entry in proto.metadata_props}, MODEL)
    assert METADATA_KEY in {entry.key for entry in proto.metadata_props}
    assert (card.name, card.test_scale, len(card.classes), card.mask_size) == ("demo", (533, 320), 80, 28)
    assert card.checkpoint_sha256.startswith("27fae73d")
    assert card.box_ap is None
    assert "38 photographs" in card.notes


def test_inlined_copy_answers_the_same(proto: onnx.ModelProto, runtime: Runtime) -> None:
    plain = onnx.inliner.inline_local_functions(proto)
    assert not plain.functions
    assert {node.domain for node in plain.graph.node} <= {"", "ai.onnx"}
    session = onnxruntime.InferenceSession(plain.SerializeToString())
    names = tensors.output_names(has_masks=True)
    answer = dict(zip(names, session.run(names, inputs(2)), strict=True))
    assert_same(runtime.run(inputs(2)), answer)


@pytest.mark.parametrize("kind", [OnnxRuntime, OpenVinoRuntime])
def test_batch_is_its_singles(kind: type[Runtime]) -> None:
    batch = inputs(2, -1, 0, 4)
    batch[tensors.SCORE_THRESHOLDS][1] = 0.99
    with kind.load(MODEL) as runtime:
        together = runtime.run(batch)
        assert together[tensors.NUM_DETECTIONS][0] > 3
        assert together[tensors.NUM_DETECTIONS][1] == 0  # nothing to see there
        for row in range(4):
            assert_same(runtime.run(single(batch, row)), together, other_row=row)


def test_openvino_answers_what_onnx_runtime_does(runtime: Runtime) -> None:
    with OpenVinoRuntime.load(MODEL) as other:
        assert_same(runtime.run(inputs(2)), other.run(inputs(2)), score=1e-4, pixels=0.02)


@given(
    photographs=st.lists(st.integers(-1, len(PHOTOGRAPHS) - 1), min_size=1, max_size=3),
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    data=st.data(),
)
@settings(max_examples=12, deadline=None)
def test_any_shape_gives_valid_rows(
    runtime: Runtime, photographs: list[int], size: tuple[int, int], data: st.DataObject
) -> None:
    size_hw = (32 * size[0], 32 * size[1])
    inside = tuple(side - data.draw(st.integers(0, 31)) for side in size_hw)
    out = runtime.run(inputs(*photographs, size_hw=size_hw, inside_hw=(inside[0], inside[1])))
    for row in range(len(photographs)):
        n = int(out[tensors.NUM_DETECTIONS][row, 0])
        boxes, scores, labels = (out[name][row] for name in (tensors.BOXES, tensors.SCORES, tensors.LABELS))
        assert (boxes[:n] >= 0).all()
        assert (boxes[:n, 2:] <= (640, 480)).all()
        assert (scores[:n] > 0.05).all()
        assert (np.diff(scores[:n]) <= 0).all()
        assert ((labels[:n] >= 0) & (labels[:n] < 80)).all()
        assert not boxes[n:].any()
        assert not scores[n:].any()
        assert (labels[n:] == -1).all()
        assert not out[tensors.MASKS][row, n:].any()


def test_what_lies_outside_the_image_is_ignored(runtime: Runtime) -> None:
    clean, dirty = inputs(2), inputs(2)
    dirty[tensors.IMAGES][:, 300:] = 255
    dirty[tensors.IMAGES][:, :, 440:] = 77
    assert_same(runtime.run(clean), runtime.run(dirty), score=0, pixels=0)


def test_threshold_is_an_images_own_and_the_models_is_the_lowest(runtime: Runtime) -> None:
    batch = inputs(2, 2, 2)
    batch[tensors.SCORE_THRESHOLDS][:, 0] = (0.0, 0.5, 1.0)
    out = runtime.run(batch)
    low, middle, none = out[tensors.NUM_DETECTIONS][:, 0]
    scores = out[tensors.SCORES]
    assert none == 0 < middle < low
    assert scores[0, low - 1] > 0.05
    assert middle == (scores[0] > 0.5).sum()
    np.testing.assert_allclose(scores[1, :middle], scores[0, :middle], atol=1e-4)


def test_masks_only_where_wanted(runtime: Runtime) -> None:
    batch = inputs(2, 2)
    batch[tensors.WANT_MASKS][1] = False
    out = runtime.run(batch)
    n = int(out[tensors.NUM_DETECTIONS][0, 0])
    assert out[tensors.MASKS][0, :n].any(axis=(1, 2)).all()
    assert not out[tensors.MASKS][1].any()
    np.testing.assert_allclose(out[tensors.BOXES][0], out[tensors.BOXES][1], atol=0.01)


def test_boxes_refer_to_the_original_image(runtime: Runtime) -> None:
    batch = inputs(2, 2)
    batch[tensors.ORIGINAL_SIZES][1] = (960, 320)
    boxes = runtime.run(batch)[tensors.BOXES]
    np.testing.assert_allclose(boxes[1], boxes[0] * (0.5, 2, 0.5, 2), atol=0.05)
