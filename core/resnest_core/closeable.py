"""Context-manager mixin that calls `close()`."""

from __future__ import annotations

from typing_extensions import Self


class Closeable:
    """A context manager that calls `close` on exit."""

    def close(self) -> None:
        """Release resources; the default does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
