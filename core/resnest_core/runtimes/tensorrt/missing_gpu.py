"""Why CUDA shows no GPU, and what to do: the driver is missing, too old or inconsistent, or the GPUs are hidden."""

from __future__ import annotations

import os
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"
DRIVERS = {12: 525, 13: 580}
"""The oldest driver for each major version of CUDA."""
ELSE = "or use the runtime onnxruntime."


def why_no_gpu(api: Any, error: Any) -> str:
    """Return a sentence that says why there is no GPU and what to do.

    Args:
        api: the module `cuda.bindings.runtime`.
        error: what its `cudaGetDeviceCount` reported; success: it counted none.
    """
    kinds = api.cudaError_t
    driver, needed = _version(api.cudaDriverGetVersion), _version(api.cudaRuntimeGetVersion)
    if error == kinds.cudaErrorInsufficientDriver and not driver:
        return f"There is no NVIDIA driver here: install one, start the container with a GPU (`--gpus all`), {ELSE}"
    if error in (kinds.cudaErrorInsufficientDriver, kinds.cudaErrorCompatNotSupportedOnDevice):
        return (
            f"The NVIDIA driver is too old: it runs CUDA up to {words(driver)} and the installed packages need "
            f"{needed // 1000}.0: update it{_to_version(needed // 1000)}{_older_packages(driver, needed)}, {ELSE}"
        )
    if error == kinds.cudaErrorSystemDriverMismatch:
        return f"The NVIDIA driver's library and kernel module are of different versions: restart the machine, {ELSE}"
    if error not in (kinds.cudaSuccess, kinds.cudaErrorNoDevice):
        return f"CUDA can't start here ({error_words(api, error)}): check that `nvidia-smi` works, {ELSE}"
    if VISIBLE in os.environ:
        return f"{VISIBLE}={os.environ[VISIBLE]} hides every GPU: unset it, name one that `nvidia-smi -L` lists, {ELSE}"
    reason = "none is visible" if error == kinds.cudaSuccess else error_words(api, error)
    return f"CUDA finds no GPU here ({reason}): check that `nvidia-smi` shows one, {ELSE}"


def words(version: int) -> str:
    """Return CUDA's version, which is 1000 × major + 10 × minor, such as "12.4"."""
    return f"{version // 1000}.{version % 1000 // 10}"


def error_words(api: Any, error: Any) -> str:
    """Return CUDA's description of an error."""
    _, description = api.cudaGetErrorString(error)
    return description.decode() if isinstance(description, bytes) else str(error)


def _version(function: Any) -> int:
    error, version = function()
    return int(version) if not int(error) else 0


def _to_version(major: int) -> str:
    return f" to {DRIVERS[major]} or later" if major in DRIVERS else ""


def _older_packages(driver: int, needed: int) -> str:
    is_supported = driver // 1000 == 12 and needed // 1000 == 13
    return ", install the extra tensorrt-cu12 in place of tensorrt" if is_supported else ""
