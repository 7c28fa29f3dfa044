"""The kernels compiled to PTX, and assembled for each kind of GPU where CUDA's assembler is at hand; needs no GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from resnest_core.errors import MissingExtraError
from resnest_export.kernels.compiling import CompiledKernel, compile_nms, compile_roi_align
from resnest_export.kernels.contracts import NMS, ROI_ALIGN, NmsAttributes, RoIAlignAttributes
from tools.gpu_check.outcome import failed, not_run, passed

TARGETS = ("sm_80", "sm_89", "sm_90", "sm_100", "sm_120")
WHEEL = "nvidia/cu13/bin/ptxas"  # of the package nvidia-cuda-nvcc


def kernels() -> list[CompiledKernel]:
    """Return every kernel that the engines of the detectors hold."""
    pooling = [
        compile_roi_align(RoIAlignAttributes(output_size, (4, 8, 16, 32)), signature, 256)
        for signature in ROI_ALIGN.signatures
        for output_size in (7, 14)
    ]
    return [*pooling, compile_nms(NmsAttributes(0.7, 1000), 1000), compile_nms(NmsAttributes(0.5, 100), 3840)]


def assembler() -> Path | None:
    """Return CUDA's `ptxas`: of its Python package, else of an installed toolkit."""
    packaged = Path(sysconfig.get_path("purelib"), WHEEL)
    found = shutil.which("ptxas")
    return packaged if packaged.is_file() else Path(found) if found else None


def assemble(ptxas: Path, kernel: CompiledKernel, target: str, folder: Path) -> tuple[int, int]:
    """Return the registers of a thread, and the bytes that it spills, of a kernel on a kind of GPU.

    Raises:
        subprocess.CalledProcessError: the assembler refuses the kernel.
    """
    source = folder / f"{kernel.name}.ptx"
    source.write_text(kernel.ptx)
    command: list[str | Path] = [ptxas, "-v", f"-arch={target}", source, "-o", folder / "kernel.cubin"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", said)
    spilled = re.search(r"(\d+) bytes spill stores", said)
    assert registers and spilled, said
    return int(registers[1]), int(spilled[1])


def main() -> None:
    """Compile, and assemble for each target."""
    try:
        compiled = kernels()
    except MissingExtraError as error:
        return not_run("PTX", str(error))
    size = sum(len(kernel.ptx) for kernel in compiled)
    passed("PTX", f"{len(compiled)} kernels of {', '.join((ROI_ALIGN.name, NMS.name))}, {size >> 10} KiB")
    ptxas = assembler()
    if ptxas is None:
        return not_run("PTX assembled", "there is no ptxas: pip install nvidia-cuda-nvcc, or install a CUDA toolkit.")
    with tempfile.TemporaryDirectory() as folder:
        for target in TARGETS:
            name = f"PTX assembled for {target}"
            try:
                used = [assemble(ptxas, kernel, target, Path(folder)) for kernel in compiled]
            except subprocess.CalledProcessError as error:
                failed(name, error.stderr.strip().splitlines()[0])
                continue
            registers, spilled = (max(figure) for figure in zip(*used, strict=True))
            say = failed if spilled else passed
            say(name, f"at most {registers} registers a thread, {spilled} bytes spilled")
    return None


if __name__ == "__main__":
    main()
