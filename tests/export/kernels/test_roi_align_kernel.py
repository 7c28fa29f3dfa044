"""The RoIAlign kernel in the Triton language's interpreter, against references and values calculated by hand."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from resnest_export.kernels.contracts import MAX_SAMPLES, RoIAlignAttributes
from resnest_export.ops.roi_align import multi_level_roi_align, multi_level_roi_align_reference, roi_levels
from tests.export.kernels.interpreter import Interpreter

STRIDES = (4, 8, 16, 32)
INF, NAN = float("inf"), float("nan")
LARGE = 3e38  # twice as much is infinite in float32

TYPES = [torch.float32, torch.float16, torch.bfloat16]
all_types = pytest.mark.parametrize("dtype", TYPES, ids=str)
both_layouts = pytest.mark.parametrize("channels_last", [False, True], ids=["NCHW", "NHWC"])


def attributes(size: int, ratio: int = 0) -> RoIAlignAttributes:
    return RoIAlignAttributes(output_size=size, strides=STRIDES, sampling_ratio=ratio)


def pyramid(height: int, width: int, channels: int = 2, batch: int = 1, seed: int = 0) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    shapes = [(batch, channels, height // s, width // s) for s in STRIDES]
    return [torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]


def by_reference(features: list[Tensor], rois: Tensor, size: int, ratio: int = 0) -> Tensor:
    features = [feature.float() for feature in features]
    return multi_level_roi_align_reference(features, rois, output_size=size, strides=STRIDES, sampling_ratio=ratio)


def by_pytorch(features: list[Tensor], rois: Tensor, size: int, ratio: int = 0) -> Tensor:
    features = [feature.float() for feature in features]
    return multi_level_roi_align(features, rois, output_size=size, strides=STRIDES, sampling_ratio=ratio)


def assert_close(ours: Tensor, expected: Tensor) -> None:
    """As close as float32's sums allow, and, of a shorter type, the one rounding of the result."""
    assert ours.shape == expected.shape
    torch.testing.assert_close(ours.float(), expected, rtol=torch.finfo(ours.dtype).eps, atol=2e-5)


@both_layouts
def test_a_ramp_gives_the_middle_of_each_cell(interpreter: Interpreter, channels_last: bool) -> None:
    """On f(y, x) = x + 10·y a cell's value is f at its middle; the edge at 8 px is 1.5 cells from pixel centre 0."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    features = [(x + 10 * y)[None, None], *pyramid(64, 64, 1)[1:]]
    pooled = interpreter.roi_align(features, torch.tensor([[0.0, 8, 16, 24, 32]]), attributes(2), channels_last)
    # x: 8/4 − 0.5 = 1.5 to 5.5, cells' middles at 2.5 and 4.5; y: 3.5 to 7.5, at 4.5 and 6.5.
    assert pooled[0, 0].tolist() == [[47.5, 49.5], [67.5, 69.5]]


@all_types
@both_layouts
def test_agrees_with_the_reference(interpreter: Interpreter, dtype: torch.dtype, channels_last: bool) -> None:
    features = [feature.to(dtype) for feature in pyramid(192, 320, channels=5, batch=3)]
    rois = torch.tensor(
        [
            [0.0, 3, 5, 60, 40],  # one of each level, in every image
            [2, 10, 20, 150, 170],
            [1, 5, 5, 300, 185],
            [0, -300, -300, 500, 490],
            [2, -90, -50, 20, 30],  # partly outside, and far outside
            [1, 250, 150, 400, 250],
            [1, 900, 900, 990, 990],
            [0, -40, -40, -20, -20],
            [0, 17, 18, 17.5, 18.25],  # smaller than a cell
            [2, 40, 8, 44, 190],  # tall: many samples one way, few the other
        ]
    )
    assert sorted(set(roi_levels(rois, 56.0, 4).tolist())) == [0, 1, 2, 3]
    assert_close(interpreter.roi_align(features, rois, attributes(3), channels_last), by_reference(features, rois, 3))
    assert_close(
        interpreter.roi_align(features, rois, attributes(2, ratio=2), channels_last), by_reference(features, rois, 2, 2)
    )


@both_layouts
@pytest.mark.parametrize("size", [7, 14])
def test_the_detectors_sizes(interpreter: Interpreter, size: int, channels_last: bool) -> None:
    """More channels than one program takes, in no whole number of programs."""
    features = pyramid(64, 96, channels=136)
    rois = torch.tensor([[0.0, 3, 5, 60, 40]])
    assert_close(
        interpreter.roi_align(features, rois, attributes(size), channels_last), by_pytorch(features, rois, size)
    )


@both_layouts
def test_no_regions(interpreter: Interpreter, channels_last: bool) -> None:
    pooled = interpreter.roi_align(pyramid(64, 64), torch.zeros(0, 5), attributes(7), channels_last)
    assert pooled.shape == (0, 2, 7, 7)


@both_layouts
def test_nothing_is_read_beyond_the_last_pixel(interpreter: Interpreter, channels_last: bool) -> None:
    """Behind image 0 lies image 1, which is no number all over; regions end at the border, and past it."""
    features = pyramid(64, 64, batch=2)
    for feature in features:
        feature[1] = NAN
    rois = torch.tensor([[0.0, 40, 40, 64, 64], [0, 50, 52, 66, 66]])
    pooled = interpreter.roi_align(features, rois, attributes(2), channels_last)
    assert_close(pooled, by_reference(features, rois, 2))
    assert pooled.isfinite().all()


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize(
    "roi",
    [
        [0.0, NAN, 8, 40, 40],
        [0, 8, 8, NAN, 40],
        [0, 8, 8, 40, INF],
        [0, -INF, 8, 40, 40],
        [NAN, 8, 8, 40, 40],
        [-1, 8, 8, 40, 40],
        [2, 8, 8, 40, 40],
    ],
    ids=str,
)
def test_what_is_no_region_is_zero(interpreter: Interpreter, roi: list[float], ratio: int) -> None:
    features, rois = pyramid(64, 64, batch=2), torch.tensor([roi, [1.0, 8, 8, 40, 40]])
    pooled = interpreter.roi_align(features, rois, attributes(2, ratio))
    assert not pooled[0].any()
    assert pooled[1].any()
    for reference in (by_reference, by_pytorch):
        assert_close(pooled, reference(features, rois, 2, ratio))


@pytest.mark.parametrize("roi", [[0.0, 8, 8, 8, 8], [0.0, 8, 8, 8, 24], [0.0, 24, 24, 8, 8]], ids=str)
def test_region_without_extent_is_zero(interpreter: Interpreter, roi: list[float]) -> None:
    features, rois = pyramid(64, 64), torch.tensor([roi])
    assert not interpreter.roi_align(features, rois, attributes(2)).any()
    assert not by_reference(features, rois, 2).any()


def test_outside_is_zero_and_the_border_is_its_own_value(interpreter: Interpreter) -> None:
    features = [torch.ones(1, 1, 64 // s, 64 // s) for s in STRIDES]
    rois = torch.tensor([[0.0, -40, -40, -20, -20], [0, -4, 8, 4, 16]])
    # The first lies more than a cell outside. The second's samples lie at x = −1 and 0 cells: both count as inside.
    assert interpreter.roi_align(features, rois, attributes(1)).flatten().tolist() == [0, 1]


def test_the_level_turns_where_the_references_does(interpreter: Interpreter) -> None:
    """Sides next to 112, 224 and 448 pixels, by single steps of float32; each level holds its own number."""
    features = [torch.full((1, 1, 512 // s, 512 // s), float(level)) for level, s in enumerate(STRIDES)]
    sides = [side * (1 + step * 2**-24) for side in (112, 224, 448) for step in range(-16, 4)]
    rois = torch.tensor([[0, 0, 0, side, side] for side in sides])
    levels = interpreter.roi_align(features, rois, attributes(1, ratio=1)).flatten()
    assert levels.tolist() == roi_levels(rois, 56.0, 4).tolist()
    assert {0, 1, 2, 3} == set(levels.tolist())


def test_the_number_of_samples_turns_where_the_references_does(interpreter: Interpreter) -> None:
    """Regions of a whole number of cells, by single steps of float32: a sample more or less is far off."""
    sides = [28 * (1 + step * 2**-23) for step in range(-4, 5)]
    rois = torch.tensor([[0.0, left, 1, left + side, 1 + side] for side in sides for left in (0, 1 / 3)])
    features = pyramid(64, 64)
    assert_close(interpreter.roi_align(features, rois, attributes(7)), by_pytorch(features, rois, 7))


def test_a_wild_region_ends(interpreter: Interpreter) -> None:
    """No more than MAX_SAMPLES of a side of a cell, however large the region: all of them lie outside here."""
    assert MAX_SAMPLES == 1024
    features = [torch.ones(1, 1, 64 // s, 64 // s) for s in STRIDES]
    rois = torch.tensor([[0.0, 2, 0, 3, LARGE], [0.0, 2, -LARGE, 3, LARGE]])
    assert interpreter.roi_align(features, rois, attributes(1)).flatten().tolist() == [0, 0]


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Tensor], Tensor, int, int]:
    batch = draw(st.sampled_from([1, 3]))
    features = pyramid(draw(st.sampled_from([64, 160])), draw(st.sampled_from([96, 256])), batch=batch)
    coordinate = st.floats(-40, 300, width=32)
    rois = []
    for _ in range(draw(st.integers(1, 3))):
        x1, y1 = draw(coordinate), draw(coordinate)
        width, height = draw(st.floats(0, 250, width=32)), draw(st.floats(0, 250, width=32))
        rois.append([draw(st.integers(0, batch - 1)), x1, y1, x1 + width, y1 + height])
    return features, torch.tensor(rois), draw(st.sampled_from([1, 2, 5])), draw(st.sampled_from([0, 2]))


def near_the_edge(rois: Tensor, size: int, ratio: int) -> bool:
    """Whether a sample lies a cell outside to the last bits, where it may count or not."""
    near = False
    for stride in STRIDES:
        start, end = rois[:, 1:3].double() / stride - 0.5, rois[:, 3:].double() / stride - 0.5
        for count in [ratio] if ratio else range(1, 70):
            places = (torch.arange(size * count) + 0.5) / (size * count)
            samples = start[..., None] + (end - start)[..., None] * places
            near |= bool((samples + 1).abs().min() < 1e-4)
            near |= bool(min((samples - side // stride).abs().min() for side in (64, 96, 160, 256)) < 1e-4)
    return near


@given(problem=problems(), channels_last=st.booleans())
@settings(max_examples=25, deadline=None)
def test_agrees_on_any_regions(
    interpreter: Interpreter, problem: tuple[list[Tensor], Tensor, int, int], channels_last: bool
) -> None:
    features, rois, size, ratio = problem
    assume(not near_the_edge(rois, size, ratio))
    ours = interpreter.roi_align(features, rois, attributes(size, ratio), channels_last)
    torch.testing.assert_close(ours, by_pytorch(features, rois, size, ratio), rtol=1e-4, atol=2e-4)
