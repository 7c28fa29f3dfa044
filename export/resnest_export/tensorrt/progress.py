"""Progress bars of the phases of an engine's build."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TaskID


class Progress:
    """Shows a bar for each active phase; sub-phases are indented below their parent.

    Draws nothing if `console` isn't a terminal.
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
        """Begin a phase of `steps` steps."""
        self._depth[phase] = self._depth[parent] + 1 if parent in self._depth else 0
        self._tasks[phase] = self._bars.add_task("  " * self._depth[phase] + phase, total=steps)

    def step(self, phase: str, step: int) -> bool:
        """Mark `step`, counted from 0, as done; return whether the build continues (always true)."""
        if phase in self._tasks:
            self._bars.update(self._tasks[phase], completed=step + 1)
        return True

    def finish(self, phase: str) -> None:
        """End a phase and remove its bar."""
        if phase in self._tasks:
            self._bars.remove_task(self._tasks.pop(phase))
            del self._depth[phase]
