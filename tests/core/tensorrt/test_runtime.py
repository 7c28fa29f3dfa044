"""The TensorRT runtime on fakes of TensorRT and CUDA: shapes, padding, memory, graphs, threads, errors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from resnest_core import tensors
from resnest_core.card import ModelCard
from resnest_core.errors import EngineMismatchError, RuntimeUnavailableError
from resnest_core.runtimes.fake import FAKE_CARD, FakeRuntime
from resnest_core.runtimes.tensorrt import runtime as tensorrt_runtime
from resnest_core.runtimes.tensorrt.cuda import Cuda
from resnest_core.runtimes.tensorrt.library import TensorRtLibrary
from resnest_core.runtimes.tensorrt.manifest import EngineProfile, Flavour
from resnest_core.runtimes.tensorrt.runtime import TensorRtRuntime
from resnest_core.tensors import Tensors
from tests.core.tensorrt.fake_cuda import ILLEGAL, FakeCuda
from tests.core.tensorrt.fake_tensorrt import FakeContext, FakeTensorRt
from tests.core.tensorrt.manifests import make_manifest
from tests.core.tensorrt.runtime_on_fakes import LYING_STANDING, Rig, assert_equal, make_inputs

BOXES_ONLY = FAKE_CARD.model_copy(update={"mask_size": None})


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.runtime.close()
    assert rig.api.holds_nothing()


@pytest.mark.parametrize("card", [FAKE_CARD, BOXES_ONLY], ids=["masks", "boxes"])
def test_the_answers_are_the_engines(card: ModelCard) -> None:
    rig = Rig(card)
    for seed in range(4):
        inputs = make_inputs((2, 320, 448), seed=seed, masks=card.has_masks)
        given = {tensors.WANT_MASKS: np.ones((2, 1), bool)} | inputs
        assert_equal(rig.runtime.run(inputs), FakeRuntime(card).run(given))
    rig.runtime.close()


def test_the_engine_sees_the_pixels(rig: Rig) -> None:
    for seed in range(3):  # plain, captured, launched again
        inputs = make_inputs((3, 320, 448), seed=seed)
        rig.runtime.run(inputs)
        for name, array in inputs.items():
            np.testing.assert_array_equal(rig.engine.answers.calls[-1][name], array)


def test_a_small_batch_is_padded_and_its_padding_cut_off() -> None:
    profiles = (EngineProfile(min=(4, 320, 320), opt=(4, 320, 448), max=(8, 544, 544)),)
    rig = Rig(profiles=profiles)
    inputs = make_inputs((1, 96, 416))
    found = rig.runtime.run(inputs)
    assert_equal(found, FakeRuntime().run(inputs))
    seen = rig.engine.answers.calls[-1]
    assert seen[tensors.IMAGES].shape == (4, 320, 416, 3)
    np.testing.assert_array_equal(seen[tensors.IMAGES][:1, :96], inputs[tensors.IMAGES])
    assert (seen[tensors.IMAGE_SIZES] == [96, 416]).all()
    rig.runtime.close()


def test_a_large_batch_runs_in_parts() -> None:
    rig = Rig(profiles=LYING_STANDING)
    for shape, parts in (((8, 320, 512), [8]), ((11, 320, 512), [8, 3]), ((9, 512, 320), [4, 4, 1])):
        rig.engine.answers.calls.clear()
        inputs = make_inputs(shape)
        assert_equal(rig.runtime.run(inputs), FakeRuntime().run(inputs))
        assert [len(each[tensors.IMAGES]) for each in rig.engine.answers.calls] == parts
    assert {context.profile for context in rig.engine.contexts} == {0, 1}
    rig.runtime.close()


def test_images_that_no_profile_holds_are_refused(rig: Rig) -> None:
    with pytest.raises(EngineMismatchError, match=r"up to 544×544 \(height×width\), not 320×576: run"):
        rig.runtime.run(make_inputs((1, 320, 576)))
    assert not rig.engine.contexts


def test_a_shape_runs_plainly_then_is_captured_then_launched(rig: Rig) -> None:
    inputs, other = make_inputs((1, 320, 448)), make_inputs((2, 352, 320))
    counts = []
    for _ in range(4):
        assert_equal(rig.runtime.run(inputs), FakeRuntime().run(inputs))
        counts.append((rig.calls("cudaStreamBeginCapture"), rig.calls("cudaGraphLaunch"), rig.engine.executions))
        if len(counts) == 1:  # another shape in between has a context of its own, and disturbs nothing
            assert_equal(rig.runtime.run(other), FakeRuntime().run(other))
    # TensorRT is asked once by the plain run, once by the other shape's, and once to be captured.
    assert counts == [(0, 0, 1), (1, 1, 3), (1, 2, 3), (1, 3, 3)]
    assert len(rig.engine.contexts) == 2 and len(rig.api.graphs) == 1


def test_memory_is_allocated_once_and_shared_by_shapes(rig: Rig) -> None:
    allocated = rig.calls("cudaMalloc"), rig.calls("cudaHostAlloc")
    assert allocated == (11, 10)  # ten tensors, and what lies between layers
    for shape in ((1, 320, 320), (8, 544, 544), (2, 320, 448), (1, 320, 320)):
        inputs = make_inputs(shape)
        assert_equal(rig.runtime.run(inputs), FakeRuntime().run(inputs))
    assert (rig.calls("cudaMalloc"), rig.calls("cudaHostAlloc")) == allocated
    assert len({context.scratch for context in rig.engine.contexts}) == 1


def test_the_shapes_that_are_kept_have_a_limit(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_runtime, "MAX_SHAPES", 2)
    shapes = [(1, 320, 320), (1, 352, 320), (1, 384, 320)]
    for shape in [*shapes, *shapes]:
        for _ in range(2):
            rig.runtime.run(make_inputs(shape))
    assert len(rig.api.graphs) == 2
    assert len(rig.engine.contexts) == 6  # each was forgotten when it came again
    made = len(rig.engine.contexts)
    rig.runtime.run(make_inputs(shapes[1]))
    rig.runtime.run(make_inputs(shapes[0]))  # the one that wasn't used for the longest time makes room
    rig.runtime.run(make_inputs(shapes[1]))
    assert len(rig.engine.contexts) == made + 1


def test_an_engine_that_can_not_be_captured_runs_all_the_same(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.engine.can_be_captured = False
    inputs = make_inputs((1, 320, 448))
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            assert_equal(rig.runtime.run(inputs), FakeRuntime().run(inputs))
    assert rig.calls("cudaStreamBeginCapture") == rig.calls("cudaStreamEndCapture") == 1
    assert [record.message for record in caplog.records if "without CUDA graphs" in record.message]
    assert len(caplog.records) == 1


def test_a_graph_that_can_not_be_made_is_given_up(rig: Rig) -> None:
    rig.api.fail["cudaGraphInstantiate"] = ILLEGAL
    inputs = make_inputs((1, 320, 448))
    for _ in range(3):
        assert_equal(rig.runtime.run(inputs), FakeRuntime().run(inputs))
    assert rig.calls("cudaGraphDestroy") == rig.calls("cudaGraphInstantiate") == 1
    assert not rig.calls("cudaGraphLaunch")


def test_tensorrt_rtx_captures_by_itself() -> None:
    rig = Rig(flavour=Flavour.RTX)
    inputs = make_inputs((1, 320, 448))
    for _ in range(3):
        assert_equal(rig.runtime.run(inputs), FakeRuntime().run(inputs))
    assert not rig.calls("cudaStreamBeginCapture")
    how = rig.engine.contexts[0].how
    assert how.cuda_graph_strategy is rig.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    assert how.strategy is rig.module.ExecutionContextAllocationStrategy.USER_MANAGED
    rig.runtime.close()


def test_without_cuda_graphs_every_run_is_a_plain_one() -> None:
    for flavour in Flavour:
        rig = Rig(flavour=flavour, cuda_graphs=False)
        for seed in range(3):
            inputs = make_inputs((1, 320, 448), seed=seed)
            assert_equal(rig.runtime.run(inputs), FakeRuntime().run(inputs))
        assert rig.engine.executions == 3 and not rig.calls("cudaStreamBeginCapture")
        if flavour is Flavour.RTX:
            assert rig.engine.contexts[0].how.cuda_graph_strategy is rig.module.CudaGraphStrategy.DISABLED
        rig.runtime.close()


def test_several_threads_get_their_own_answers(rig: Rig) -> None:
    batches = [make_inputs((1 + seed % 3, 320, 320 + 32 * (seed % 4)), seed=seed) for seed in range(24)]
    at_once = threading.Barrier(6, timeout=10)  # else a failure would wait for ever

    def run(inputs: dict[str, Any]) -> Tensors:
        at_once.wait()
        return rig.runtime.run(inputs)

    with ThreadPoolExecutor(6) as pool:
        for inputs, found in zip(batches, pool.map(run, batches), strict=True):
            assert_equal(found, FakeRuntime().run(inputs))


def test_an_answer_stays_as_it_is(rig: Rig) -> None:
    first = rig.runtime.run(make_inputs((1, 320, 448), seed=1))
    kept = {name: array.copy() for name, array in first.items()}
    rig.runtime.run(make_inputs((1, 320, 448), seed=2))
    assert_equal(first, kept)


@pytest.mark.parametrize("name", ["cudaMemcpyAsync", "cudaStreamSynchronize", "cudaGraphLaunch"])
def test_an_error_of_cuda_is_a_sentence(rig: Rig, name: str) -> None:
    inputs = make_inputs((1, 320, 448))
    rig.runtime.run(inputs)
    rig.runtime.run(inputs)
    rig.api.fail[name] = ILLEGAL
    with pytest.raises(RuntimeUnavailableError, match=rf"^CUDA's {name} failed \(an illegal memory .*: restart"):
        rig.runtime.run(inputs if name != "cudaMemcpyAsync" else make_inputs((2, 320, 448)))
    rig.api.fail.clear()


def test_an_error_of_tensorrt_is_a_sentence(rig: Rig) -> None:
    rig.engine.fails = True
    with pytest.raises(RuntimeUnavailableError, match="TensorRT failed to run the engine"):
        rig.runtime.run(make_inputs((1, 320, 448)))


@pytest.mark.parametrize("trouble", ["set_input_shape", "set_optimization_profile_async", "infer_shapes"])
def test_a_shape_that_tensorrt_refuses_is_a_sentence(rig: Rig, monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    def refuse(*_: object) -> bool:
        if trouble == "infer_shapes":
            raise RuntimeError("sizes don't fit")
        return False

    monkeypatch.setattr(FakeContext, trouble, refuse)
    with pytest.raises(RuntimeUnavailableError, match="TensorRT refuses images of shape 1×320×448"):
        rig.runtime.run(make_inputs((1, 320, 448)))


def test_closing_after_an_error_of_cuda_raises_none(rig: Rig) -> None:
    rig.runtime.run(make_inputs((1, 320, 448)))
    rig.api.fail |= {"cudaFree": ILLEGAL, "cudaFreeHost": ILLEGAL, "cudaStreamDestroy": ILLEGAL}
    rig.runtime.close()


@pytest.mark.parametrize("free_bytes", [0, 1000, 1 << 20, 7_200_000])
def test_too_little_memory_is_a_sentence_and_leaks_nothing(free_bytes: int) -> None:
    api = FakeCuda(free_bytes=free_bytes)
    module = FakeTensorRt(api)
    with pytest.raises(RuntimeUnavailableError, match="too little free memory"):
        TensorRtRuntime(FAKE_CARD, make_manifest(), TensorRtLibrary(module, Flavour.TENSORRT), module.engine, Cuda(api))
    assert api.holds_nothing()


def test_a_closed_runtime_says_so(rig: Rig) -> None:
    inputs = make_inputs((1, 320, 448))
    rig.runtime.run(inputs)
    rig.runtime.close()
    rig.runtime.close()
    with pytest.raises(RuntimeUnavailableError, match="is closed: load it again"):
        rig.runtime.run(inputs)
