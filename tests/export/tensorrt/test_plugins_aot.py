"""Ahead-of-time plugins, registered with TensorRT's own plugin module over a substitute for its library."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from resnest_export.kernels.compiling import compile_nms, compile_roi_align
from resnest_export.kernels.contracts import ROI_ALIGN, NmsAttributes, RoIAlignAttributes

ROI_ALIGN_7 = RoIAlignAttributes(output_size=7, strides=(4, 8, 16, 32))


@pytest.fixture(scope="module")
def nodes() -> dict[str, Any]:
    """What a node of each operator came to, in a process whose `tensorrt` is the stand-in."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.export.tensorrt.aot_run"], check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_shapes_and_types_of_the_outputs(nodes: dict[str, Any]) -> None:
    assert nodes["roi_align"]["output_shapes"] == [["r", 256, 7, 7]]
    assert nodes["roi_align"]["output_types"] == ["HALF"]
    assert nodes["nms"]["output_shapes"] == [["b", 100], ["b", 1]]
    assert nodes["nms"]["output_types"] == ["INT32", "INT32"]


def test_layouts_that_tensorrt_may_choose(nodes: dict[str, Any]) -> None:
    assert nodes["roi_align"]["combinations"] == 2
    assert nodes["roi_align"]["formats"] == ["LINEAR"] * 6
    assert nodes["channels_last"]["formats"] == [*["HWC8"] * 4, "LINEAR", "HWC8"]
    assert nodes["nms"]["combinations"] == 1


def test_grid_and_scalars_are_formulas_of_sizes(nodes: dict[str, Any]) -> None:
    launch = nodes["roi_align"]["launch"]
    assert (launch["grid_x"], launch["grid_y"], launch["grid_z"]) == ("PROD(r, 7)", 2, 1)
    assert nodes["roi_align"]["scalars"] == ["b", "h0", "w0", "h1", "w1", "h2", "w2", "h3", "w3"]
    assert nodes["nms"]["launch"]["grid_x"] == "b"
    assert nodes["nms"]["scalars"] == [3840]


def test_the_engine_gets_the_compiled_kernel(nodes: dict[str, Any]) -> None:
    half = [each for each in ROI_ALIGN.signatures if each.outputs[0].dtype == "float16"]
    kernels = {
        "roi_align": compile_roi_align(ROI_ALIGN_7, half[0], 256),
        "channels_last": compile_roi_align(ROI_ALIGN_7, half[1], 256),
        "nms": compile_nms(NmsAttributes(iou_threshold=0.5, max_output=100), 3840),
    }
    for name, kernel in kernels.items():
        node = nodes[name]
        assert (node["name"], node["ptx"]) == (kernel.name, kernel.ptx)
        assert (node["launch"]["block_x"], node["launch"]["shared_mem"]) == (kernel.threads, kernel.shared_bytes)


def test_the_kernel_takes_inputs_then_scalars_then_outputs(nodes: dict[str, Any]) -> None:
    for name, tensors, outputs in (("roi_align", 5, 1), ("nms", 3, 2)):
        entry = re.search(r"\.entry \w+\(([^)]*)\)", nodes[name]["ptx"])
        assert entry is not None
        types = re.findall(r"\.param \.(\w+)", entry[1])
        assert types == ["u64"] * tensors + ["u32"] * len(nodes[name]["scalars"]) + ["u64"] * outputs
