"""Ahead-of-time plugins, registered with plugin modules of TensorRT, old and new, over a substitute for its library."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from resnest_export.kernels.compiling import compile_nms, compile_roi_align
from resnest_export.kernels.contracts import ROI_ALIGN, NmsAttributes, RoIAlignAttributes
from tests.export.tensorrt.bindings import VERSIONS, bindings

ROI_ALIGN_7 = RoIAlignAttributes(output_size=7, strides=(4, 8, 16, 32))


@pytest.fixture(scope="module", params=VERSIONS)
def nodes(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a node of each operator came to, in a process whose `tensorrt` is the stand-in."""
    environment = {**os.environ, "BINDINGS": str(bindings(request.param))}
    command = [sys.executable, "-m", "tests.export.tensorrt.aot_run"]
    run = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_annotations_are_classes(nodes: dict[str, Any]) -> None:
    """From Python 3.13 on `issubclass`, which old versions call on them, takes nothing else."""
    assert nodes["annotations"] == ["type"] * (5 + 4 + 3 + 2)  # tensors and attributes of both operators


def test_shapes_and_types_of_the_outputs(nodes: dict[str, Any]) -> None:
    assert nodes["roi_align"]["output_shapes"] == [["r", 256, 7, 7]]
    assert nodes["roi_align"]["output_types"] == ["HALF"]
    assert nodes["nms"]["output_shapes"] == [["b", 100], ["b", 1]]
    assert nodes["nms"]["output_types"] == ["INT32", "INT32"]


def test_layouts_that_tensorrt_may_choose(nodes: dict[str, Any]) -> None:
    """One each: channels-last, unless TensorRT would pad the channels."""
    assert all(nodes[name]["combinations"] == 1 for name in ("roi_align", "float32", "few_channels", "nms"))
    assert nodes["roi_align"]["formats"] == [*["HWC8"] * 4, "LINEAR", "HWC8"]
    assert nodes["float32"]["formats"] == [*["HWC"] * 4, "LINEAR", "HWC"]
    assert nodes["few_channels"]["formats"] == ["LINEAR"] * 6
    assert nodes["nms"]["formats"] == ["LINEAR"] * 5


def test_grid_and_scalars_are_formulas_of_sizes(nodes: dict[str, Any]) -> None:
    launch = nodes["roi_align"]["launch"]
    assert (launch["grid_x"], launch["grid_y"], launch["grid_z"]) == ("PROD(r, 7)", 2, 1)
    assert nodes["roi_align"]["scalars"] == ["b", "h0", "w0", "h1", "w1", "h2", "w2", "h3", "w3"]
    assert nodes["nms"]["launch"]["grid_x"] == "b"
    assert nodes["nms"]["scalars"] == [3840]


def test_the_engine_gets_the_compiled_kernel(nodes: dict[str, Any]) -> None:
    signatures = {(each.outputs[0].dtype, each.outputs[0].channels_last): each for each in ROI_ALIGN.signatures}
    kernels = {
        "roi_align": compile_roi_align(ROI_ALIGN_7, signatures["float16", True], 256),
        "float32": compile_roi_align(ROI_ALIGN_7, signatures["float32", True], 256),
        "few_channels": compile_roi_align(ROI_ALIGN_7, signatures["float16", False], 12),
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
