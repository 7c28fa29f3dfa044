"""The kernels' PTX: parameters, use of registers and shared memory, and assembly for each GPU architecture."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from resnest_core.errors import MissingExtraError, ParameterError
from resnest_export.kernels import contracts
from resnest_export.kernels.compiling import CompiledKernel, compile_nms, compile_roi_align, kernels_sha256
from resnest_export.kernels.contracts import NMS, ROI_ALIGN, NmsAttributes, RoIAlignAttributes
from resnest_export.kernels.launching import nms_launch, roi_align_launch

STRIDES = (4, 8, 16, 32)
BOX_HEAD = RoIAlignAttributes(output_size=7, strides=STRIDES)
MASK_HEAD = RoIAlignAttributes(output_size=14, strides=STRIDES)
PROPOSALS, CLASSES = NmsAttributes(0.7, 1000), NmsAttributes(0.5, 100)
REGISTERS_OF_A_MULTIPROCESSOR = 65536
SHARED_BYTES_WITHOUT_ASKING = 48 * 1024


def roi_align_kernels() -> dict[str, Callable[[], CompiledKernel]]:
    return {
        f"{head} {'NHWC' if signature.outputs[0].channels_last else 'NCHW'} {signature.outputs[0].dtype}": partial(
            compile_roi_align, attributes, signature, channels=256
        )
        for head, attributes in {"box head": BOX_HEAD, "mask head": MASK_HEAD}.items()
        for signature in ROI_ALIGN.signatures
    }


# Every kernel that the detectors launch.
KERNELS: dict[str, Callable[[], CompiledKernel]] = {
    **roi_align_kernels(),
    "proposals": partial(compile_nms, PROPOSALS, candidates=1000),
    "classes": partial(compile_nms, CLASSES, candidates=3840),
    "classes of 100 boxes": partial(compile_nms, CLASSES, candidates=100),
}


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> CompiledKernel:
    return KERNELS[request.param]()


def parameters_of(ptx: str) -> list[str]:
    """Return the types of the entry's parameters, "u64" for a pointer, as the PTX itself says."""
    header = re.search(r"\.visible \.entry \w+\((.*?)\)", ptx, re.DOTALL)
    assert header
    return re.findall(r"\.param \.(\w+)", header[1])


def test_a_launch_passes_inputs_then_scalars_then_outputs(kernel: CompiledKernel) -> None:
    operator, scalars = (NMS, 1) if kernel.name == "batched_nms" else (ROI_ALIGN, 9)
    expected = ["u64"] * len(operator.inputs) + ["u32"] * scalars + ["u64"] * len(operator.outputs)
    assert parameters_of(kernel.ptx) == expected
    names = [name for name, _ in kernel.parameters]
    assert names[: len(operator.inputs)] == list(operator.inputs)
    assert names[-len(operator.outputs) :] == list(operator.outputs)
    assert [kind for _, kind in kernel.parameters if not kind.startswith("*")] == ["i32"] * scalars


def test_scalars_are_named_as_the_launch_orders_them() -> None:
    shapes = [[2, 256, 40 // level, 60 // level] for level in (1, 2, 4, 8)] + [[9, 5]]
    launch = roi_align_launch(BOX_HEAD, shapes, channels=256)
    names = [name for name, kind in KERNELS["box head NCHW float16"]().parameters if kind == "i32"]
    assert dict(zip(names, launch.scalars, strict=True)) == {
        "batch": 2,
        "h0": 40,
        "w0": 60,
        "h1": 20,
        "w1": 30,
        "h2": 10,
        "w2": 15,
        "h3": 5,
        "w3": 7,
    }
    names = [name for name, kind in KERNELS["classes"]().parameters if kind == "i32"]
    scalars = nms_launch([[2, 3840, 4], [2, 3840], [2, 3840]]).scalars
    assert dict(zip(names, scalars, strict=True)) == {"candidates": 3840}


def test_types_of_pointers() -> None:
    kinds = dict(KERNELS["mask head NHWC float16"]().parameters)
    assert (kinds["f0"], kinds["rois"], kinds["pooled"]) == ("*fp16", "*fp32", "*fp16")
    assert [kind for _, kind in KERNELS["classes"]().parameters] == ["*fp32", "*fp32", "*i32", "i32", "*i32", "*i32"]


def test_the_ptx_says_what_the_launch_is_told(kernel: CompiledKernel) -> None:
    assert f".visible .entry {kernel.name}(" in kernel.ptx
    assert f".target {kernel.target}\n" in kernel.ptx
    assert f".reqntid {kernel.threads}\n" in kernel.ptx
    assert (".extern .shared" in kernel.ptx) == (kernel.shared_bytes > 0)
    assert ".local" not in kernel.ptx
    assert "/" not in re.sub(r"//.*", "", kernel.ptx), "a path of the machine that compiled it"


def test_only_roi_align_fuses_products_and_sums(kernel: CompiledKernel) -> None:
    """One rounding instead of two is as good for a mean, and turns decisions of NMS."""
    assert bool(re.search(r"\bfma\.rn\.f32|\bfma\.rn\.ftz", kernel.ptx)) == (kernel.name != "batched_nms")
    assert not re.search(r"\bdiv\.(full|approx)|\bsqrt\.approx", kernel.ptx)


@pytest.mark.parametrize("name", ["proposals", "classes"])
def test_a_warp_finds_the_next_box_with_one_instruction(name: str) -> None:
    ptx = KERNELS[name]().ptx
    loop = ptx[ptx.rindex("div.rn.f32") :]  # what follows the overlaps
    assert "redux.sync.min.s32" in loop
    assert loop.count("shfl.sync") <= 4  # among the warps; without that instruction there are five within each too


@pytest.mark.parametrize("name", [name for name in KERNELS if "NHWC" in name])
def test_channels_last_moves_sixteen_bytes_at_once(name: str) -> None:
    kernel = KERNELS[name]()
    assert kernel.constants["CHANNELS_LAST"]
    assert ".v4.b32" in kernel.ptx


@pytest.mark.parametrize("gpu", ["sm_80", "sm_89", "sm_90", "sm_100", "sm_120"])
def test_assembles_without_spilling(kernel: CompiledKernel, gpu: str, tmp_path: Path) -> None:
    registers, shared = assemble(kernel.ptx, gpu, tmp_path)
    assert kernel.shared_bytes + shared <= SHARED_BYTES_WITHOUT_ASKING
    # So that at least 512 threads, four blocks or one large one, run on a multiprocessor at once.
    assert registers * max(kernel.threads, 512) <= REGISTERS_OF_A_MULTIPROCESSOR


def assemble(ptx: str, gpu: str, folder: Path) -> tuple[int, int]:
    """Assemble for a GPU; return the registers of a thread and the static shared bytes of a program."""
    source = folder / "kernel.ptx"
    source.write_text(ptx)
    command = [ptxas(), "-v", "--warn-on-spills", "--warn-on-local-memory-usage", f"-arch={gpu}", str(source)]
    done = subprocess.run([*command, "-o", str(folder / "kernel.cubin")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in done.stderr
    assert "warning" not in done.stderr.lower()
    registers = re.search(r"Used (\d+) registers", done.stderr)
    assert registers
    shared = re.search(r"(\d+) bytes smem", done.stderr)
    return int(registers[1]), int(shared[1]) if shared else 0


def ptxas() -> str:
    """Return CUDA 13.0's assembler, which `pip install -e '.[dev]'` brings on Linux."""
    path = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin" / "ptxas"
    assert path.is_file(), "CUDA's assembler is missing: run pip install -e '.[dev]'."
    return str(path)


@pytest.fixture
def copied_sources(tmp_path: Path) -> Path:
    """A folder with a copy of the kernels, elsewhere than where they are installed."""
    package = tmp_path / "resnest_export"
    shutil.copytree(Path(contracts.__file__).parent, package / "kernels")
    (package / "__init__.py").touch()
    return tmp_path


def in_another_process(folder: Path, expression: str) -> str:
    """Evaluate with the kernels of a folder, without what Triton keeps from earlier."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from resnest_export.kernels import compiling, contracts;"
        "assert compiling.__file__.startswith(sys.argv[1]);"
        f"print({expression}, end='')"
    )
    environment = {**os.environ, "TRITON_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def test_the_ptx_does_not_depend_on_who_compiles_it(copied_sources: Path) -> None:
    compiled = "compiling.compile_nms(contracts.NmsAttributes(0.5, 100), candidates=3840).ptx"
    assert in_another_process(copied_sources, compiled) == KERNELS["classes"]().ptx


def test_the_hash_is_of_the_sources(copied_sources: Path) -> None:
    assert in_another_process(copied_sources, "compiling.kernels_sha256()") == kernels_sha256()
    with (copied_sources / "resnest_export" / "kernels" / "nms.py").open("a") as file:
        file.write("\n")
    assert in_another_process(copied_sources, "compiling.kernels_sha256()") != kernels_sha256()


def test_kernels_for_few_boxes_are_small() -> None:
    assert KERNELS["classes of 100 boxes"]().constants["BLOCK"] == 128
    assert KERNELS["classes of 100 boxes"]().threads < KERNELS["proposals"]().threads < KERNELS["classes"]().threads


def test_more_boxes_than_fit_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"at most 4096 boxes of an image on a GPU, not 4097"):
        compile_nms(CLASSES, candidates=4097)


def test_without_triton_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(MissingExtraError, match=r"triton is not installed: .*\[tensorrt\]"):
        compile_nms(NmsAttributes(0.25, 10))
    with pytest.raises(MissingExtraError, match=r"triton is not installed: .*\[tensorrt\]"):
        compile_roi_align(BOX_HEAD, ROI_ALIGN.signatures[0], channels=3)
