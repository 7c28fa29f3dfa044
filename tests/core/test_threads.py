"""The network's cores are its own: libraries that prepare images and masks start no threads."""

from __future__ import annotations

import cv2
import numpy as np
import openvino
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from resnest_core.runtimes import onnxruntime_runtime, openvino_runtime
from resnest_core.runtimes.fake import FAKE_CARD
from resnest_core.runtimes.onnxruntime_runtime import session_options
from resnest_core.runtimes.openvino_runtime import compile_options
from resnest_core.threads import work_in_callers_thread


def test_products_and_images_are_worked_on_in_the_callers_thread() -> None:
    threads = cv2.getNumThreads()
    with threadpool_limits(2):  # put back what was, afterwards
        np.ones((400, 400)) @ np.ones((400, 400))
        work_in_callers_thread()
        blas = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
        assert set(blas) == {1}
        assert cv2.getNumThreads() == 1
    cv2.setNumThreads(threads)


@pytest.mark.parametrize("cpus", [1, 3, 8])
def test_instances_share_the_cpus_or_have_the_threads_asked_for(cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (onnxruntime_runtime, openvino_runtime):
        monkeypatch.setattr(module, "allowed_cpus", lambda: cpus)
    monkeypatch.setattr(onnxruntime_runtime, "allowed_cores", lambda: 8)
    core = openvino.Core()
    for threads, instances, total in ((None, 1, cpus), (None, 2, cpus), (1, 2, 2), (3, 1, 3)):
        options = compile_options(core, FAKE_CARD, threads, instances)
        assert (options["NUM_STREAMS"], options["INFERENCE_NUM_THREADS"]) == (instances, total)
        assert options["ENABLE_CPU_PINNING"] is False
    assert session_options(3, 2).intra_op_num_threads == 3
    assert session_options(None).intra_op_num_threads == cpus
    assert session_options(None, 2).intra_op_num_threads == max(cpus // 2, 1)
    assert session_options(None, 2 * cpus).intra_op_num_threads == 1


def test_onnx_runtime_has_a_thread_a_physical_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_runtime, "allowed_cpus", lambda: 16)
    for cores, instances, threads in ((8, 1, 8), (8, 2, 8), (8, 4, 4), (16, 1, 16), (None, 1, 16), (None, 2, 8)):
        monkeypatch.setattr(onnxruntime_runtime, "allowed_cores", lambda cores=cores: cores)
        monkeypatch.setattr("os.cpu_count", lambda: 32)
        assert session_options(None, instances).intra_op_num_threads == threads
    # Where nothing is limited and cores aren't described, ONNX Runtime counts them itself.
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setattr(onnxruntime_runtime, "allowed_cores", lambda: None)
    assert session_options(None).intra_op_num_threads == 0
