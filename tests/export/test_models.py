"""The detectors have mmdetection's keys and shapes, and their parts the numbers worked by hand."""

import math
from dataclasses import replace

import onnx
import pytest
import torch

from resnest_core.repository import network_path
from resnest_export.batch_norm_folding import fold_batch_norm
from resnest_export.mmdet_config.settings import (
    AnchorSettings,
    BoxCoderSettings,
    BoxHeadSettings,
    MaskHeadSettings,
    RoIExtractorSettings,
    RoIHeadSettings,
)
from resnest_export.models import ZOO, boxes, build
from resnest_export.models.detector import as_rois, occupied_rows, spread
from resnest_export.models.heads import ConvFCBBoxHead, FCNMaskHead
from resnest_export.models.resnest import SplitAttention
from resnest_export.models.roi_heads import CascadeRoIHead, pool
from resnest_export.ops.topk import topk
from tests.weights import REPOSITORY, keys


@pytest.mark.parametrize("name", ZOO)
def test_keys_and_shapes_are_mmdetections(name: str) -> None:
    with torch.device("meta"):
        ours = {key: tuple(value.shape) for key, value in build(ZOO[name]).state_dict().items()}
    assert ours == keys(name)


def test_another_number_of_classes_changes_only_the_classifiers() -> None:
    with torch.device("meta"):
        ours = build(ZOO["cascade_mask_rcnn_s50"].with_classes(3)).state_dict()
    changed = {key for key, shape in keys("cascade_mask_rcnn_s50").items() if tuple(ours[key].shape) != shape}
    assert {key.rpartition(".")[0].rpartition(".")[2] for key in changed} == {"fc_cls", "conv_logits"}


def test_decode_by_hand() -> None:
    box = torch.tensor([10.0, 20, 30, 60])  # 20 wide, 40 high, centre (20, 40)
    deltas = torch.tensor([0.5, -0.25, math.log(2), math.log(0.5)])
    # centre (20 + 0.5·20, 40 − 0.25·40) = (30, 30), size (40, 20)
    torch.testing.assert_close(boxes.decode(box, deltas, BoxCoderSettings()), torch.tensor([10.0, 20, 50, 40]))
    torch.testing.assert_close(
        boxes.decode(box, deltas * 10, BoxCoderSettings(stds=(0.1,) * 4)), torch.tensor([10.0, 20, 50, 40])
    )


def test_decode_clamps_growth_and_shrinkage() -> None:
    decoded = boxes.decode(torch.tensor([0.0, 0, 16, 16]), torch.tensor([0.0, 0, 99, -99]), BoxCoderSettings())
    torch.testing.assert_close(decoded[2:] - decoded[:2], torch.tensor([1000.0, 0.256]))


def test_clip_by_hand() -> None:
    clipped = boxes.clip(torch.tensor([[-5.0, -1, 700, 500]]), torch.tensor([[480, 640]]))
    assert clipped.tolist() == [[0, 0, 640, 480]]


def test_anchors_by_hand() -> None:
    # Of a map 3 cells wide: position 3·4 + 2 is cell 4 (row 1, column 1) with the third ratio.
    anchors = boxes.anchors_at(torch.tensor([0, 1, 14]), 3, 0, AnchorSettings())
    wide, high = 16 * math.sqrt(2), 16 / math.sqrt(2)
    expected = [[-wide, -high, wide, high], [-16, -16, 16, 16], [4 - high, 4 - wide, 4 + high, 4 + wide]]
    torch.testing.assert_close(anchors, torch.tensor(expected))


def test_split_attention_weighs_the_splits_by_a_softmax() -> None:
    layer = SplitAttention(4).eval()
    with torch.no_grad():
        layer.fc2.weight.zero_()
        assert layer.fc2.bias is not None
        layer.fc2.bias.copy_(torch.cat([torch.full((4,), math.log(3.0)), torch.zeros(4)]))  # weights 3/4 and 1/4
        x = torch.rand(2, 4, 5, 6)
        splits = torch.relu(layer.bn0(layer.conv(x)))
        torch.testing.assert_close(layer(x), 0.75 * splits[:, :4] + 0.25 * splits[:, 4:])


@pytest.mark.parametrize("radix", [2, 3])
def test_split_attention_is_the_published_formula(radix: int) -> None:
    torch.manual_seed(0)
    layer, x = SplitAttention(6, radix=radix).eval(), torch.randn(2, 6, 5, 7)
    with torch.no_grad():
        splits = torch.unflatten(torch.relu(layer.bn0(layer.conv(x))), 1, (radix, -1))
        pooled = splits.sum(1).mean((2, 3), keepdim=True)
        logits = layer.fc2(torch.relu(layer.bn1(layer.fc1(pooled))))
        expected = (splits * torch.unflatten(logits, 1, (radix, -1)).softmax(1)).sum(1)
        torch.testing.assert_close(layer(x), expected)


def test_exported_split_attention_has_no_fifth_dimension() -> None:
    """Runtimes change the layout of the full maps for one."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(network_path(REPOSITORY, "demo"))).graph
    assert max(len(value.type.tensor_type.shape.dim) for value in graph.value_info) == 4


def test_rows_go_out_and_come_back() -> None:
    occupied = torch.tensor([[True, False, True], [False, True, False]])
    rows = occupied_rows(occupied)
    assert rows.tolist() == [0, 2, 4]
    table = torch.arange(24.0).view(2, 3, 4)
    rois = as_rois(table, rows)
    assert rois[:, 0].tolist() == [0, 0, 1]
    assert torch.equal(spread(rois[:, 1:], rows, occupied.shape), table * occupied[..., None])


def test_folding_batch_norm_changes_nothing_but_the_modules() -> None:
    torch.manual_seed(0)
    detector = build(ZOO["demo"])
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        before = detector.neck(detector.backbone(image))
        fold_batch_norm(detector)
        after = detector.neck(detector.backbone(image))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in detector.modules())
    for a, b in zip(before, after, strict=True):
        assert (a - b).abs().max() <= 1e-4 * a.abs().max()


def test_cascade_averages_the_probabilities_of_its_mask_heads() -> None:
    torch.manual_seed(0)
    box_head, mask_head = (
        BoxHeadSettings(conv_out_channels=8, fc_out_channels=16),
        MaskHeadSettings(conv_out_channels=8),
    )
    extractor = RoIExtractorSettings(output_size=14)
    settings = RoIHeadSettings(
        cascade=True,
        bbox_roi_extractors=(RoIExtractorSettings(),) * 3,
        bbox_heads=(box_head,) * 3,
        mask_roi_extractors=(extractor,) * 3,
        mask_heads=(mask_head,) * 3,
    )
    heads = [FCNMaskHead(mask_head, 8, 14, num_classes=3).eval() for _ in range(3)]
    cascade = CascadeRoIHead(settings, [ConvFCBBoxHead(box_head, 8, 7, 3) for _ in range(3)], heads).eval()
    pyramid = [torch.randn(1, 8, 256 // stride, 256 // stride) for stride in AnchorSettings().strides]
    rois, labels = torch.tensor([[0.0, 10, 20, 90, 200], [0, 5, 5, 250, 250]]), torch.tensor([2, 0])
    with torch.no_grad():
        pooled = pool(pyramid, rois, extractor)
        expected = torch.stack([head(pooled, labels) for head in heads]).mean(0)
        torch.testing.assert_close(cascade.masks(pyramid, rois, labels), expected)
    assert (expected - heads[0](pooled, labels)).abs().max() > 1e-3  # the heads do differ


def test_of_equal_scores_the_first_comes_first() -> None:
    scores = torch.tensor([[0.5, 0.7, 0.7, 0.5, 0.7], [0.1, 0.2, 0.3, 0.4, 0.4]])
    values, index = topk(scores, 4)
    assert index.tolist() == [[1, 2, 4, 0], [3, 4, 2, 1]]
    assert torch.equal(values, scores.gather(1, index))
    many = (torch.arange(20_000) // 7 % 3)[None].float()
    expected = sorted(range(20_000), key=lambda i: -float(many[0, i]))[:1000]  # sorted keeps the order of equals
    assert topk(many, 1000)[1][0].tolist() == expected


def test_proposals_scores_are_pytorchs_sigmoids() -> None:
    close_to_one = torch.linspace(7, 30, 10_001)
    assert torch.equal(1 / (1 + torch.exp(-close_to_one)), close_to_one.sigmoid())
    assert len(set(close_to_one.sigmoid().tolist())) < 6_000  # where many are equal
    elsewhere = torch.linspace(-120, 7, 10_001)
    torch.testing.assert_close(1 / (1 + torch.exp(-elsewhere)), elsewhere.sigmoid())


def test_anchors_of_several_scales_are_ordered_ratio_by_ratio() -> None:
    settings = AnchorSettings(scales=(2.0, 4.0), ratios=(1.0, 4.0), base_sizes=(10.0,), strides=(4,), center_offset=0.5)
    # Centre 5 + 4·cell; sides 20 and 40, then a quarter's ratio: 10×40 and 20×80. Cell 3 is row 1, column 1 of 2.
    first = [[-5.0, -5, 15, 15], [-15, -15, 25, 25], [0, -15, 10, 25], [-5, -35, 15, 45]]
    found = boxes.anchors_at(torch.tensor([0, 1, 2, 3, 12]), 2, 0, settings)
    torch.testing.assert_close(found, torch.tensor([*first, [-1.0, -1, 19, 19]]))
    by_scale = boxes.anchors_at(torch.arange(4), 2, 0, replace(settings, scale_major=False))
    torch.testing.assert_close(by_scale, torch.tensor([first[place] for place in (0, 2, 1, 3)]))


def test_coders_means_move_and_borders_clip() -> None:
    box, deltas, sizes = torch.tensor([[10.0, 20, 30, 60]]), torch.zeros(1, 4), torch.tensor([[50, 100]])
    coder = BoxCoderSettings(means=(0.5, 0.0, 0.0, 0.0))
    assert boxes.decode_and_clip(box, deltas, coder, sizes).tolist() == [[20, 20, 40, 50]]
    open_border = BoxCoderSettings(means=(0.5, 0.0, 0.0, 0.0), clip_border=False)
    assert boxes.decode_and_clip(box, deltas, open_border, sizes).tolist() == [[20, 20, 40, 60]]


def test_keys_of_heads_without_norm_are_mmdetections() -> None:
    head = ConvFCBBoxHead(BoxHeadSettings(2, 2, 16, 32, norm=None), 8, 7, 3)
    assert {key: tuple(value.shape) for key, value in head.state_dict().items()} == {
        "fc_cls.weight": (4, 32),
        "fc_cls.bias": (4,),
        "fc_reg.weight": (12, 32),
        "fc_reg.bias": (12,),
        "shared_convs.0.conv.weight": (16, 8, 3, 3),
        "shared_convs.0.conv.bias": (16,),
        "shared_convs.1.conv.weight": (16, 16, 3, 3),
        "shared_convs.1.conv.bias": (16,),
        "shared_fcs.0.weight": (32, 16 * 49),
        "shared_fcs.0.bias": (32,),
        "shared_fcs.1.weight": (32, 32),
        "shared_fcs.1.bias": (32,),
    }


def test_cascade_refines_by_the_likeliest_class() -> None:
    settings = BoxHeadSettings(0, 0, 0, 0, norm=None, coder=BoxCoderSettings())
    heads = [ConvFCBBoxHead(settings, 2, 1, 2) for _ in range(2)]
    with torch.no_grad():
        for head in heads:
            for parameter in head.parameters():
                parameter.zero_()
        heads[0].fc_cls.bias.copy_(torch.tensor([1.0, 2.0, 9.0]))  # the second class; the background doesn't count
        heads[0].fc_reg.bias.copy_(torch.tensor([9.0, 9, 9, 9, 0.5, 0, 0, 0]))
        heads[1].fc_reg.bias.copy_(torch.tensor([0.0, 0, 0, 0, 0, 0.5, 0, 0]))
        extractor = RoIExtractorSettings(output_size=1)
        head_settings = RoIHeadSettings(True, (extractor,) * 2, (settings,) * 2)
        cascade = CascadeRoIHead(head_settings, heads, [])
        pyramid = [torch.ones(1, 2, 64 // stride, 64 // stride) for stride in AnchorSettings().strides]
        scores, refined = cascade.boxes(pyramid, torch.tensor([[0.0, 10, 10, 20, 20]]), torch.tensor([[64, 64]]))
    assert refined.tolist() == [[[15, 10, 25, 20], [15, 15, 25, 25]]]
    torch.testing.assert_close(scores, torch.tensor([[0.5, 1.0, 4.5]]).softmax(1)[:, :2])


def test_a_single_split_is_weighed_by_a_sigmoid() -> None:
    layer = SplitAttention(4, radix=1).eval()
    with torch.no_grad():
        layer.fc2.weight.zero_()
        assert layer.fc2.bias is not None
        layer.fc2.bias.fill_(math.log(3.0))  # the sigmoid is 3/4
        x = torch.rand(2, 4, 5, 6)
        torch.testing.assert_close(layer(x), 0.75 * torch.relu(layer.bn0(layer.conv(x))))
