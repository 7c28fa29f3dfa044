"""What is used in a `with` statement, and closes at its end."""

from __future__ import annotations

from typing_extensions import Self


class Closeable:
    """A context manager whose end is `close`."""

    def close(self) -> None:
        """Give back what is held; by itself nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
