"""The network for TensorRT: what is in it, and that it answers what the network for CPUs answers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.numpy_helper import to_array

from resnest_core import tensors
from resnest_core.images import load_image
from resnest_core.preprocess import prepare, stack
from resnest_core.tensors import Tensors
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.tensorrt.fixed_size import MAX_CANDIDATES
from resnest_export.tensorrt.graph import custom_nodes, runnable
from tests.export import goldens
from tests.export.tensorrt.conftest import Graphs, detector

DEPENDING_ON_DATA = {"NonZero", "NonMaxSuppression", "RoiAlign", "If", "Loop", "Scan", "Compress", "Unique"}
SCORE, PIXELS, MASK = 1e-4, 0.01, 2e-3
PHOTOGRAPHS = {"demo": ("000000000544", "000000261888"), "mask_rcnn_s50": ("000000311303", "000000168974")}


@pytest.fixture(scope="module", params=["demo", "mask_rcnn_s50"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def graph(name: str, graphs: Graphs) -> onnx.ModelProto:
    return onnx.load(graphs(name))


def test_nothing_depends_on_data(graph: onnx.ModelProto) -> None:
    assert not DEPENDING_ON_DATA.intersection(node.op_type for node in graph.graph.node)
    assert not graph.functions


def test_tensors_are_those_of_every_runtime(graph: onnx.ModelProto) -> None:
    assert [value.name for value in graph.graph.input] == list(tensors.input_names(has_masks=True))
    assert [value.name for value in graph.graph.output] == list(tensors.output_names(has_masks=True))
    (images,) = (value for value in graph.graph.input if value.name == tensors.IMAGES)
    dims = images.type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", "height", "width", 3]


def test_plugins_are_found_by_their_attributes(graph: onnx.ModelProto) -> None:
    nodes = custom_nodes(graph.graph)
    assert sorted(node.name for node in nodes) == [
        "BatchedNMS_0",
        "BatchedNMS_1",
        "MultiLevelRoIAlign_0",
        "MultiLevelRoIAlign_1",
    ]
    for node in nodes:
        values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert (values["plugin_namespace"], values["plugin_version"], values["aot"]) == (b"resnest", b"1", 1)


def test_top_k_is_within_tensorrts_limit(graph: onnx.ModelProto) -> None:
    constants = {tensor.name: to_array(tensor) for tensor in graph.graph.initializer}
    counts = [int(constants[node.input[1]].item()) for node in graph.graph.node if node.op_type == "TopK"]
    assert counts[-1] == MAX_CANDIDATES
    assert max(counts) <= 3840


def test_pixels_are_cast_before_anything_else(graph: onnx.ModelProto) -> None:
    (reader,) = (node for node in graph.graph.node if tensors.IMAGES in node.input)
    assert reader.op_type == "Cast"


def test_no_pooling_rounds_up(graph: onnx.ModelProto) -> None:
    pools = [node for node in graph.graph.node if node.op_type == "AveragePool"]
    assert len(pools) > 6
    for node in pools:
        assert not any(attribute.name == "ceil_mode" and attribute.i for attribute in node.attribute), node.name


def test_every_operator_that_orders_equal_scores_is_mended(graph: onnx.ModelProto) -> None:
    made_by = {name: node for node in graph.graph.node for name in node.output}
    chosen = [node for node in graph.graph.node if node.op_type == "TopK"]
    assert len(chosen) == 4 * 7  # five levels, the proposals, and the detections
    assert "ArgMax" not in {node.op_type for node in graph.graph.node}
    read = {name for node in graph.graph.node for name in node.input}
    positions = [node.input[0] for node in chosen if node.output[1] in read]
    assert len(positions) == 2 * 7
    # Positions are read where the keys differ, or where a second TopK puts them in order.
    assert {made_by[name].op_type for name in positions} == {"Where", "GatherElements"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["fp32", "fp16", "bf16"])
def test_no_groups_and_no_fifth_dimension(dtype: torch.dtype, graphs: Graphs) -> None:
    check_plain(onnx.load(graphs("demo", dtype)))


def test_no_groups_and_no_fifth_dimension_in_a_large_detector(graph: onnx.ModelProto) -> None:
    check_plain(graph)


def test_the_rpn_reads_each_map_once(graph: onnx.ModelProto) -> None:
    last = [node for node in graph.graph.node if node.op_type == "Conv" and "rpn_cls" in node.input[1]]
    assert len({node.input[0] for node in last}) == len(last) == 5
    assert not any("rpn_reg." in name for node in graph.graph.node for name in node.input)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_no_map_of_the_backbone_is_cast_to_float32(dtype: torch.dtype, graphs: Graphs) -> None:
    """The RPN's last layers are float32, and read its maps; the backbone casts means only."""
    model = onnx.load(graphs("demo", dtype))
    shapes = shapes_of(model)
    made_by = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    means, maps = 0, 0
    for node in model.graph.node:
        if node.op_type != "Cast" or onnx.helper.get_node_attr_value(node, "to") != onnx.TensorProto.FLOAT:
            continue
        source = made_by.get(node.input[0])
        if source is None or len(shapes[node.input[0]]) != 4 or isinstance(shapes[node.input[0]][2], int):
            continue
        if source.op_type in ("AveragePool", "ReduceMean"):
            means += 1
        elif source.op_type == "Relu":
            maps += 1
            assert all("rpn_" in reader.input[1] for reader in readers[node.output[0]])
    assert (means, maps) == (2 * 4, 5)  # two splits of each block, and the levels


def check_plain(model: onnx.ModelProto) -> None:
    convolutions = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert len(convolutions) > 50
    for node in convolutions:
        assert [attribute.i for attribute in node.attribute if attribute.name == "group"] in ([], [1]), node.name
    shapes = shapes_of(model)
    for node in model.graph.node:
        assert all(len(shapes[name]) <= 4 for name in node.output), node.name


def shapes_of(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    """Return the shape of every tensor that a node makes; unknown ones aren't there."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: [
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in value.type.tensor_type.shape.dim
        ]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }


def test_answers_what_the_network_for_cpus_answers(name: str, graph: onnx.ModelProto) -> None:
    card = goldens.card(name)
    # Half the size, as the box heads look at a thousand regions an image whatever its size.
    long, short = card.test_scale
    small = card.model_copy(update={"test_scale": (long // 2, short // 2)})
    images = [prepare(load_image(goldens.photograph_path(photograph)), small) for photograph in PHOTOGRAPHS[name]]
    session = onnxruntime.InferenceSession(runnable(graph).SerializeToString())
    network = DeployedDetector(detector(name), goldens.card(name))
    for batch, want_masks in ((images[1:], [[True]]), (images, [[False], [True]])):
        inputs = stack(batch) | {
            tensors.SCORE_THRESHOLDS: np.full((len(batch), 1), 0.05, np.float32),
            tensors.WANT_MASKS: np.array(want_masks),
        }
        ours = dict(zip(tensors.output_names(has_masks=True), session.run(None, inputs), strict=True))
        with torch.inference_mode():
            outputs = network(*(torch.from_numpy(inputs[value]) for value in tensors.input_names(has_masks=True)))
        theirs = dict(zip(ours, (tensor.numpy() for tensor in outputs), strict=True))
        assert ours[tensors.NUM_DETECTIONS].min() >= 3
        assert_same(ours, theirs)
        for row, (wanted,) in enumerate(want_masks):
            count = int(ours[tensors.NUM_DETECTIONS][row, 0])
            assert bool(ours[tensors.MASKS][row, :count].any()) is wanted
            assert not ours[tensors.MASKS][row, count:].any()


def assert_same(one: Tensors, other: Tensors) -> None:
    for name in one:
        limit = {tensors.SCORES: SCORE, tensors.BOXES: PIXELS, tensors.MASKS: MASK}.get(name, 0)
        np.testing.assert_allclose(
            one[name].astype(np.float64), other[name].astype(np.float64), rtol=0, atol=limit, err_msg=name
        )
