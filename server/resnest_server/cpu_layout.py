"""How a model's batches are divided between the CPUs that this process may use."""

from __future__ import annotations

from typing import NamedTuple

from resnest_core.runtimes import Runtime
from resnest_server.settings import Settings

CPU = "cpu"
MOST_INSTANCES = 4


class CpuLayout(NamedTuple):
    """Batches of a model that run at a time, and the threads of each; threads None: the runtime's own number."""

    instances: int
    threads: int | None


def cpu_layout(settings: Settings, device: str, cpus: int) -> CpuLayout:
    """Return the layout that the settings ask for; instances and threads that they give hold.

    For latency one batch at a time has all CPUs. For throughput each batch has one thread, up to four at a time: what
    is serial in a batch, such as NMS, and the waits of its threads for each other then leave no CPU idle. More batches
    would each take the network's memory again and share the caches, so beyond four CPUs they have more threads instead.

    Args:
        settings: the gateway's.
        device: where the network is to run; on others than the CPU throughput is no different.
        cpus: how many this process may use.
    """
    if settings.instances is not None:
        return CpuLayout(settings.instances, settings.threads)
    fitting = cpus // (settings.threads or 1) if settings.optimize == "throughput" and device == CPU else 1
    return CpuLayout(min(max(fitting, 1), MOST_INSTANCES), settings.threads)


def layout_warnings(settings: Settings, device: str, cpus: int) -> list[str]:
    """Return a sentence for each setting that has no effect on the device, or that contradicts the number of CPUs."""
    if device != CPU:
        ineffective = settings.optimize == "throughput"
        return [f"RESNEST_OPTIMIZE has no effect on {device}, since it divides CPUs: drop it."] if ineffective else []
    threads = (settings.instances or 1) * (settings.threads or 1)
    if threads > cpus:
        return [
            f"Batches on {threads} threads at a time compete for {cpus} CPU{'s' if cpus > 1 else ''}: lower "
            "RESNEST_INSTANCES or RESNEST_THREADS."
        ]
    return []


def described(settings: Settings, layout: CpuLayout, runtime: Runtime) -> str:
    """Return what was chosen as a phrase, such as `2 instances with 1 thread each, batches of 1`."""
    threads = (layout.threads or runtime.threads_of_batch(layout.instances)) if runtime.device == CPU else None
    with_threads = f" with {_count(threads, 'thread')}{' each' if layout.instances > 1 else ''}" if threads else ""
    return f"{_count(layout.instances, 'instance')}{with_threads}, batches of {settings.max_batch}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"
