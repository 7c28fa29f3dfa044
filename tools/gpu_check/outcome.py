"""Result of a check, and its transfer from the check's process to the table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum


class State(str, Enum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Outcome:
    """A row of the table."""

    check: str
    state: State
    detail: str
    """Figures, or the reason."""

    def say(self) -> None:
        """Tell the process that reads this one's output."""
        print(MARK + json.dumps(asdict(self)), flush=True)

    @classmethod
    def hear(cls, line: str) -> Outcome | None:
        """Return what a line of output says; None: it is no outcome."""
        if not line.startswith(MARK):
            return None
        fields = json.loads(line.removeprefix(MARK))
        return cls(fields["check"], State(fields["state"]), fields["detail"])


MARK = "outcome: "


def passed(check: str, detail: str) -> None:
    """Say that a check passed."""
    Outcome(check, State.PASSED, detail).say()


def failed(check: str, detail: str) -> None:
    """Say that a check failed."""
    Outcome(check, State.FAILED, detail).say()


def not_run(check: str, reason: str) -> None:
    """Say that a check can't be run here."""
    Outcome(check, State.NOT_RUN, reason).say()
