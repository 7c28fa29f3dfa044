"""Measures the machine's peak in each precision with matrix products.

It is the machine's, whichever runtime is profiled: the rate of the fastest product of the installed runtimes. CPU time
counts, not wall time, so it doesn't depend on other load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from time import process_time
from typing import Any, NamedTuple

import numpy as np

from resnest_client.bench.profiling.operators import compiled_operators, onnxruntime_session, openvino_network
from resnest_core.cpus import allowed_cpus
from resnest_core.runtimes import RUNTIMES
from resnest_core.runtimes.openvino_files import import_openvino
from resnest_core.runtimes.openvino_runtime import OpenVinoRuntime

SIDES = (512, 1024, 2048)  # of the matrices: which is the fastest depends on caches and cores
OPENVINO_HINTS = {"bf16": "bf16", "int8": "f32"}  # its fp32 product is the one of ONNX Runtime


class Product(NamedTuple):
    """A product of two square matrices of this side, in a precision."""

    precision: str
    side: int
    run: Callable[[], Any]


class Peaks:
    """The best rates until now of products of square matrices by precision, on as many threads as a runtime has."""

    def __init__(self, runtime: str, threads: int | None) -> None:
        self.threads = threads or default_threads(runtime)
        self.gflop_per_cpu_second: dict[str, float] = {}
        self._products = [
            product
            for side in SIDES
            for product in (*_onnxruntime_products(side, self.threads), *_openvino_products(side, self.threads))
        ]
        for product in self._products:
            product.run()

    @property
    def gflop_per_second(self) -> dict[str, float]:
        """Of all threads, where each has a core of its own, by precision, the slowest first."""
        rates = sorted(self.gflop_per_cpu_second.items(), key=lambda each: each[1])
        return {precision: rate * self.threads for precision, rate in rates}

    def measure(self, times: int) -> None:
        """Multiply so many times more, the small matrices so often that all sizes take as long."""
        for _ in range(times):
            for precision, side, run in self._products:
                repeated = (SIDES[-1] // side) ** 3
                start = process_time()
                for _ in range(repeated):
                    run()
                rate = repeated * 2 * side**3 / 1e9 / (process_time() - start)
                self.gflop_per_cpu_second[precision] = max(self.gflop_per_cpu_second.get(precision, 0.0), rate)


def default_threads(runtime: str) -> int:
    """Return how many threads a runtime has where none are given."""
    import psutil

    return RUNTIMES[runtime].threads_of_batch() or psutil.cpu_count(logical=False) or allowed_cpus()


def _onnxruntime_products(side: int, threads: int) -> Iterator[Product]:
    for precision in ("fp32", "int8"):
        model, left = _matrices(side, precision)
        yield Product(precision, side, partial(onnxruntime_session(model, threads).run, None, {"a": left}))


def _openvino_products(side: int, threads: int) -> Iterator[Product]:
    """Yield those that OpenVINO runs in the precision that they are for: none on a CPU without its instructions."""
    if not OpenVinoRuntime.is_installed():
        return
    core = import_openvino().Core()
    for precision, hint in OPENVINO_HINTS.items():
        model, left = _matrices(side, precision)
        options = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        compiled = openvino_network(core, model, options)
        if any(each.is_product and each.precision == precision for each in compiled_operators(compiled)):
            request = compiled.create_infer_request()
            yield Product(precision, side, partial(request.infer, {"a": left}, share_inputs=True))


def _matrices(side: int, precision: str) -> tuple[bytes, Any]:
    """Return a model that multiplies a matrix (side, side) by a constant one, as weights are, and the matrix.

    For int8 both are 8 bits wide with one scale each, which runtimes multiply as they are.
    """
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    if precision == "int8":
        kind, left = TensorProto.UINT8, generator.integers(0, 256, (side, side), np.uint8)
        weights = generator.integers(-127, 128, (side, side), np.int8)
        scales = {"scale": np.float32(0.01), "a_zero": np.uint8(0), "b_zero": np.int8(0)}
        initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in scales.items()]
        nodes = [
            helper.make_node("DequantizeLinear", [name, "scale", f"{name}_zero"], [f"{name}_real"]) for name in "ab"
        ]
        factors = ["a_real", "b_real"]
    else:
        kind, left = TensorProto.FLOAT, generator.random((side, side), np.float32)
        weights = generator.random((side, side), np.float32)
        initializers, nodes, factors = [], [], ["a", "b"]
    graph = helper.make_graph(
        [*nodes, helper.make_node("MatMul", factors, ["c"])],
        "product",
        [helper.make_tensor_value_info("a", kind, left.shape)],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, left.shape)],
        [numpy_helper.from_array(weights, "b"), *initializers],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString(), left
