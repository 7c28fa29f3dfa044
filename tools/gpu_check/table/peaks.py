"""What a GPU can do at most: floating-point operations and bytes per second, from its own attributes."""

from __future__ import annotations

from typing import NamedTuple

from resnest_core.runtimes.tensorrt.cuda import Cuda

# Floating-point operations of a multiprocessor per clock in dense products, a multiplication and an addition being two;
# fp32 without TF32. From NVIDIA's data sheets of A100 (8.0), A10 (8.6), L4 (8.9), H100 (9.0), B200 (10.0) and RTX PRO
# 6000 (12.0). GeForce cards of 8.6, 8.9 and 12.0 compute fp16 with sums in fp32 at half this rate.
FLOP_PER_CLOCK: dict[str, dict[str, int]] = {
    "8.0": {"fp32": 128, "fp16": 2048, "int8": 4096},
    "8.6": {"fp32": 256, "fp16": 1024, "int8": 2048},
    "8.9": {"fp32": 256, "fp16": 1024, "int8": 2048, "fp8": 2048},
    "9.0": {"fp32": 256, "fp16": 4096, "int8": 8192, "fp8": 8192},
    "10.0": {"fp32": 256, "fp16": 8192, "int8": 16384, "fp8": 16384},
    "12.0": {"fp32": 256, "fp16": 1024, "int8": 2048, "fp8": 2048},
}
TRANSFERS_PER_CLOCK = 2


class Peak(NamedTuple):
    """A GPU's limits in one precision."""

    flop_per_second: float
    bytes_per_second: float


def peak_of(cuda: Cuda, precision: str) -> Peak | None:
    """Return the limits of the GPU; None: the rates of its compute capability aren't known here."""
    rates = FLOP_PER_CLOCK.get(cuda.gpu().compute_capability, {})
    per_clock = rates.get("fp16" if precision == "bf16" else precision)
    if per_clock is None:
        return None
    clock, memory_clock = (
        cuda.attribute(f"cudaDevAttr{each}") * 1e3 for each in ("ClockRate", "MemoryClockRate")
    )  # CUDA gives kHz
    width = cuda.attribute("cudaDevAttrGlobalMemoryBusWidth")  # bits
    return Peak(
        per_clock * cuda.attribute("cudaDevAttrMultiProcessorCount") * clock,
        TRANSFERS_PER_CLOCK * memory_clock * width / 8,
    )
