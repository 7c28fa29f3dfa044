"""The network's cores are its own: libraries that prepare images and masks start no threads."""

from __future__ import annotations

import os

import cv2
import numpy as np
import openvino
from threadpoolctl import threadpool_info, threadpool_limits

from resnest_core.runtimes.fake import FAKE_CARD
from resnest_core.runtimes.onnxruntime_runtime import session_options
from resnest_core.runtimes.openvino_runtime import compile_options
from resnest_core.threads import work_in_callers_thread

CORES = os.cpu_count() or 1


def test_products_and_images_are_worked_on_in_the_callers_thread() -> None:
    threads = cv2.getNumThreads()
    with threadpool_limits(2):  # put back what was, afterwards
        np.ones((400, 400)) @ np.ones((400, 400))
        work_in_callers_thread()
        blas = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
        assert set(blas) == {1}
        assert cv2.getNumThreads() == 1
    cv2.setNumThreads(threads)


def test_instances_share_the_cores_or_have_the_threads_asked_for() -> None:
    core = openvino.Core()
    for threads, instances, total in ((None, 1, CORES), (None, 2, CORES), (1, 2, 2), (3, 1, 3)):
        options = compile_options(core, FAKE_CARD, threads, instances)
        assert (options["NUM_STREAMS"], options["INFERENCE_NUM_THREADS"]) == (instances, total)
        assert options["ENABLE_CPU_PINNING"] is False
    assert session_options(3, 2).intra_op_num_threads == 3
    assert session_options(None, 2 * CORES).intra_op_num_threads == 1
    assert session_options(None).intra_op_num_threads == 0  # ONNX Runtime counts the cores itself
