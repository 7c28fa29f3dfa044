"""The detectors have mmdetection's keys and shapes, and their parts the numbers worked by hand."""

import math

import pytest
import torch

from resnest_export.batch_norm_folding import fold_batch_norm
from resnest_export.models import ZOO, boxes, build
from resnest_export.models.detector import as_rois, occupied_rows, spread
from resnest_export.models.fpn import STRIDES
from resnest_export.models.heads import FCNMaskHead, Shared4Conv1FCBBoxHead
from resnest_export.models.resnest import SplitAttention
from resnest_export.models.roi_heads import MASK_ROI_SIZE, CascadeRoIHead, pool
from resnest_export.ops.topk import topk
from tests.weights import keys


@pytest.mark.parametrize("name", ZOO)
def test_keys_and_shapes_are_mmdetections(name: str) -> None:
    with torch.device("meta"):
        ours = {key: tuple(value.shape) for key, value in build(ZOO[name]).state_dict().items()}
    assert ours == keys(name)


def test_another_number_of_classes_changes_only_the_classifiers() -> None:
    from dataclasses import replace

    with torch.device("meta"):
        ours = build(replace(ZOO["cascade_mask_rcnn_s50"], num_classes=3)).state_dict()
    changed = {key for key, shape in keys("cascade_mask_rcnn_s50").items() if tuple(ours[key].shape) != shape}
    assert {key.rpartition(".")[0].rpartition(".")[2] for key in changed} == {"fc_cls", "conv_logits"}


def test_decode_by_hand() -> None:
    box = torch.tensor([10.0, 20, 30, 60])  # 20 wide, 40 high, centre (20, 40)
    deltas = torch.tensor([0.5, -0.25, math.log(2), math.log(0.5)])
    # centre (20 + 0.5·20, 40 − 0.25·40) = (30, 30), size (40, 20)
    torch.testing.assert_close(boxes.decode(box, deltas), torch.tensor([10.0, 20, 50, 40]))
    torch.testing.assert_close(boxes.decode(box, deltas * 10, stds=(0.1,) * 4), torch.tensor([10.0, 20, 50, 40]))


def test_decode_clamps_growth_and_shrinkage() -> None:
    decoded = boxes.decode(torch.tensor([0.0, 0, 16, 16]), torch.tensor([0.0, 0, 99, -99]))
    torch.testing.assert_close(decoded[2:] - decoded[:2], torch.tensor([1000.0, 0.256]))


def test_clip_by_hand() -> None:
    clipped = boxes.clip(torch.tensor([[-5.0, -1, 700, 500]]), torch.tensor([[480, 640]]))
    assert clipped.tolist() == [[0, 0, 640, 480]]


def test_anchors_by_hand() -> None:
    # Of a map 3 cells wide: position 3·4 + 2 is cell 4 (row 1, column 1) with the third ratio.
    anchors = boxes.anchors_at(torch.tensor([0, 1, 14]), 3, stride=4, scale=8.0, ratios=(0.5, 1.0, 2.0))
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
    heads = [FCNMaskHead(channels=8, num_classes=3).eval() for _ in range(3)]
    cascade = CascadeRoIHead([Shared4Conv1FCBBoxHead(8, 16, 7, 3, class_agnostic=True) for _ in range(3)], heads).eval()
    pyramid = [torch.randn(1, 8, 256 // stride, 256 // stride) for stride in STRIDES]
    rois, labels = torch.tensor([[0.0, 10, 20, 90, 200], [0, 5, 5, 250, 250]]), torch.tensor([2, 0])
    with torch.no_grad():
        pooled = pool(pyramid, rois, MASK_ROI_SIZE)
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
