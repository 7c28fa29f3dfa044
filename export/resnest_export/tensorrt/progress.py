"""The phases of an engine's build, shown as bars."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TaskID


class Progress:
    """Shows a bar for each phase that is under way; a sub-phase stands below its parent.

    Where `console` isn't a terminal nothing is drawn.
    """

    def __init__(self, console: Console) -> None:
        self._bars = Bars(console=console, transient=True)
        self._tasks: dict[str, TaskID] = {}
        self._depth: dict[str, int] = {}

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """Begin a phase of so many steps."""
        self._depth[phase] = self._depth[parent] + 1 if parent in self._depth else 0
        self._tasks[phase] = self._bars.add_task("  " * self._depth[phase] + phase, total=steps)

    def step(self, phase: str, step: int) -> bool:
        """Note that `step`, counted from 0, is done; return whether to go on."""
        if phase in self._tasks:
            self._bars.update(self._tasks[phase], completed=step + 1)
        return True

    def finish(self, phase: str) -> None:
        """End a phase; its bar goes."""
        if phase in self._tasks:
            self._bars.remove_task(self._tasks.pop(phase))
            del self._depth[phase]
