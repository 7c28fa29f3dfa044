"""How a kernel gets its tensors on the GPU and its answers back, on a fake of CUDA: the PTX itself needs a GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from resnest_core.errors import RuntimeUnavailableError
from resnest_core.runtimes.tensorrt.cuda import Cuda
from resnest_export.kernels.compiling import CompiledKernel
from resnest_export.kernels.contracts import ROI_ALIGN
from resnest_export.kernels.launching import Launch
from resnest_export.ops import batched_nms
from resnest_export.tensorrt.driver import LoadedKernel
from tests.core.tensorrt.fake_cuda import ILLEGAL, FakeCuda
from tools.gpu_check import plain_ptx
from tools.gpu_check.cases import Case, nms_case, roi_align_case

NMS = nms_case(batch=2, candidates=60, max_output=20, groups=3, iou_threshold=0.5)
POOLING = roi_align_case(ROI_ALIGN.signatures[-1], batch=1, channels=16, size_hw=(64, 96), regions=4, output_size=7)


class FakeKernel:
    """Answers as NMS does, on a `FakeCuda`'s memory; `broken` answers are off by one."""

    def __init__(self, api: FakeCuda, case: Case, broken: bool = False) -> None:
        self.api = api
        self.case = case
        self.broken = broken
        self.launches = 0

    def launch(self, launch: Launch, inputs: Sequence[int], outputs: Sequence[int], stream: int) -> None:
        assert launch == self.case.launch
        self.launches += 1
        self.api.streams[stream].add(lambda: self._compute(inputs, outputs))

    def _compute(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        given = [self._read(address, tensor) for address, tensor in zip(inputs, self.case.inputs, strict=True)]
        for one, expected in zip(given, self.case.inputs, strict=True):
            assert one.equal(expected) or one.isnan().any()
        answers = batched_nms(*given, iou_threshold=0.5, max_output=20)
        for address, answer in zip(outputs, answers, strict=True):
            array = (answer + self.broken).numpy()
            ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def _read(self, address: int, like: Tensor) -> Tensor:
        memory = np.ctypeslib.as_array(self.api.gpu[address])
        return torch.from_numpy(memory.copy()).view(like.dtype).reshape(like.shape)


def loading(kernel: FakeKernel) -> plain_ptx.Load:
    def load(compiled: CompiledKernel) -> LoadedKernel:
        assert compiled.name == "batched_nms"
        return cast(LoadedKernel, kernel)

    return cast(Callable[[CompiledKernel], LoadedKernel], load)


def test_tensors_go_there_and_answers_come_back() -> None:
    api = FakeCuda()
    kernel = FakeKernel(api, NMS)
    outputs, remark = plain_ptx.run(NMS, Cuda(api), loading(kernel))
    assert NMS.judge(outputs).startswith("the same ")
    assert remark.endswith(" µs a launch") and kernel.launches == 1 + plain_ptx.TIMED
    assert api.holds_nothing()


def test_a_wrong_answer_is_seen() -> None:
    api = FakeCuda()
    outputs, _ = plain_ptx.run(NMS, Cuda(api), loading(FakeKernel(api, NMS, broken=True)))
    with pytest.raises(AssertionError, match="keeps "):
        NMS.judge(outputs)
    with pytest.raises(AssertionError, match="differs by "):
        POOLING.judge(POOLING.outputs)


def test_an_error_of_cuda_leaves_nothing_behind() -> None:
    api = FakeCuda()
    api.fail["cudaStreamSynchronize"] = ILLEGAL
    with pytest.raises(RuntimeUnavailableError, match="illegal memory access"):
        plain_ptx.run(NMS, Cuda(api), loading(FakeKernel(api, NMS)))
    assert api.holds_nothing()
