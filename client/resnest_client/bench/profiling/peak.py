"""Measures the machine's fp32 peak with matrix products in ONNX Runtime.

It doesn't depend on the profiled runtime. It is based on CPU time, not wall time, so it doesn't depend on other load.
"""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import Any

import numpy as np

from resnest_client.bench.profiling.operators import onnxruntime_session
from resnest_core.cpus import allowed_cpus
from resnest_core.runtimes import onnxruntime_runtime
from resnest_core.runtimes.openvino_runtime import OpenVinoRuntime

SIDES = (512, 1024, 2048)  # of the matrices: which is the fastest depends on caches and cores


class Peak:
    """The best rate until now of products of square matrices, on as many threads as a runtime has."""

    def __init__(self, runtime: str, threads: int | None) -> None:
        self.threads = threads or default_threads(runtime)
        self.gflop_per_cpu_second = 0.0
        generator = np.random.default_rng(0)
        self._products: list[tuple[int, Callable[[], Any]]] = []
        for side in SIDES:
            left, right = (generator.random((side, side), np.float32) for _ in range(2))
            self._products.append((side, _product(self.threads, left, right)))
            self._products[-1][1]()

    @property
    def gflop_per_second(self) -> float:
        """Of all threads, where each has a core of its own."""
        return self.gflop_per_cpu_second * self.threads

    def measure(self, times: int) -> None:
        """Multiply so many times more, the small matrices so often that all sizes take as long."""
        for _ in range(times):
            for side, run in self._products:
                repeated = (SIDES[-1] // side) ** 3
                start = process_time()
                for _ in range(repeated):
                    run()
                rate = repeated * 2 * side**3 / 1e9 / (process_time() - start)
                self.gflop_per_cpu_second = max(self.gflop_per_cpu_second, rate)


def default_threads(runtime: str) -> int:
    """Return how many threads a runtime has where none are given: ONNX Runtime one a core, OpenVINO one a CPU."""
    import psutil

    if runtime == OpenVinoRuntime.name:
        return allowed_cpus()
    return onnxruntime_runtime.default_threads() or psutil.cpu_count(logical=False) or allowed_cpus()


def _product(threads: int, left: Any, right: Any) -> Callable[[], Any]:
    """Return what multiplies two matrices (S, S); the right one is constant, as weights are."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, left.shape)],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, left.shape)],
        [numpy_helper.from_array(right, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    feed = {"a": left}
    session = onnxruntime_session(model, threads)
    return lambda: session.run(None, feed)
