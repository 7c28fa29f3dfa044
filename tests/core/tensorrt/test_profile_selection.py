"""Which shape an engine runs: the nearest that holds the batch."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from resnest_core.runtimes.tensorrt.manifest import EngineProfile, ShapeBHW
from resnest_core.runtimes.tensorrt.profile_selection import largest_batch, nearest

sides = st.integers(1, 12).map(lambda units: 32 * units)
shapes = st.tuples(st.integers(1, 9), sides, sides)


@st.composite
def profiles(draw: st.DrawFn) -> EngineProfile:
    ends = [sorted(draw(st.tuples(*[axis] * 3))) for axis in (st.integers(1, 9), sides, sides)]
    low, best, high = zip(*ends, strict=True)
    return EngineProfile(min=low, opt=best, max=high)


@settings(deadline=None)
@given(st.lists(profiles(), min_size=1, max_size=4), shapes)
def test_the_nearest_shape_holds_the_batch_and_no_smaller_one_would(many: list[EngineProfile], shape: ShapeBHW) -> None:
    fit = nearest(many, shape)
    most = largest_batch(many, shape[1:])
    assert (fit is not None) == (shape[0] <= most)
    if fit is None:
        return
    assert many[fit.profile].holds(fit.shape_bhw)
    assert all(given <= taken for given, taken in zip(shape, fit.shape_bhw, strict=True))
    if any(each.holds(shape) for each in many):
        assert fit.shape_bhw == shape


def test_the_profile_tuned_for_a_shape_is_taken() -> None:
    single = EngineProfile(min=(1, 320, 320), opt=(1, 320, 448), max=(8, 544, 544))
    many = EngineProfile(min=(1, 320, 320), opt=(8, 320, 448), max=(8, 544, 544))
    for order in ((single, many), (many, single)):
        for batch, tuned in ((1, single), (2, single), (7, many), (8, many)):
            fit = nearest(order, (batch, 320, 448))
            assert fit is not None and order[fit.profile] is tuned
