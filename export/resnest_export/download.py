"""Downloads published checkpoints: checked against their hash, and resumed after a lost connection."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from resnest_core.errors import DownloadError, MissingExtraError
from resnest_core.hashing import sha256
from resnest_core.published import BASE_URL, Published

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 5
BACK_OFF = 0.5  # seconds before the second attempt, doubled before each further one
TIMEOUT = 20.0  # seconds without receiving data


class _TryAgainError(Exception):
    """The server is overloaded or failed: the request can be retried."""


def download(published: Published, folder: Path, *, base_url: str = BASE_URL) -> Path:
    """Download a published checkpoint into `folder`, check it against the hash in its name, and return its path.

    An existing file with the right hash isn't downloaded again. The file is named `….part` until it is complete and
    checked; this or a later call resumes a partial file.

    Raises:
        DownloadError: the server can't be reached, lacks the file or sends a different one; or writing failed.
        MissingExtraError: httpx isn't installed.
    """
    try:
        import httpx
    except ImportError as error:
        raise MissingExtraError("httpx", "export") from error
    path = folder / published.checkpoint
    part = path.with_name(f"{path.name}.part")
    url = f"{base_url}/{published.checkpoint_path}"
    by_hand = f"get {url} by other means, and pass it with `resnest export {published.name} --checkpoint FILE`"
    try:
        if path.exists() and _is_whole(path, published):
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client, _progress(published.name) as progress:
            transfer = _Transfer(client, url, part, progress)
            for attempt in range(ATTEMPTS):
                if attempt:
                    time.sleep(BACK_OFF * 2 ** (attempt - 1))
                resumed = part.exists()
                try:
                    transfer.run()
                except (httpx.TransportError, _TryAgainError) as error:
                    reason = str(error) or type(error).__name__
                    continue
                if _is_whole(part, published):
                    return part.replace(path)
                part.unlink()
                # The resumed part may have been of another file: retry from the start.
                if not resumed:
                    raise DownloadError(f"The server sent a file with another hash: try again later, or {by_hand}.")
                reason = "the file arrived damaged"
    except httpx.HTTPStatusError as error:
        raise DownloadError(f"The server answered {error.response.status_code}: {by_hand}.") from error
    except httpx.HTTPError as error:
        raise DownloadError(f"The checkpoint can't be fetched ({error}): {by_hand}.") from error
    except OSError as error:
        raise DownloadError(f"The checkpoint can't be kept in {folder} ({error}): name another folder.") from error
    raise DownloadError(f"The checkpoint can't be fetched now ({reason}): try again later, or {by_hand}.")


def _is_whole(path: Path, published: Published) -> bool:
    return published.is_checkpoint(sha256(path))


class _Transfer:
    """Downloads a file; each `run` resumes where the previous one stopped."""

    def __init__(self, client: httpx.Client, url: str, part: Path, progress: Progress) -> None:
        self._client = client
        self._url = url
        self._part = part
        self._progress = progress
        self._etag: str | None = None

    def run(self) -> None:
        """Fetch the missing rest of the file.

        Raises:
            httpx.TransportError: the connection was refused or lost.
            httpx.HTTPStatusError: the server answered with a permanent error.
            _TryAgainError: the server is overloaded or failed.
        """
        start = self._part.stat().st_size if self._part.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if self._etag:
                headers["If-Range"] = self._etag
        with self._client.stream("GET", self._url, headers=headers) as response:
            if start and response.status_code == 416:  # the part is already complete
                return
            if response.status_code == 429 or response.status_code >= 500:
                raise _TryAgainError(f"the server answered {response.status_code}")
            response.raise_for_status()
            etag = response.headers.get("ETag", "")
            self._etag = etag if etag.startswith('"') else None  # a weak ETag doesn't guarantee equal bytes
            self._write(response, start if response.status_code == 206 else 0)

    def _write(self, response: httpx.Response, start: int) -> None:
        task = self._progress.task_ids[0]
        length = response.headers.get("Content-Length")
        self._progress.update(task, completed=start, total=start + int(length) if length else None)
        with self._part.open("ab" if start else "wb") as file:
            for block in response.iter_raw():
                file.write(block)
                self._progress.advance(task, len(block))


@contextmanager
def _progress(name: str) -> Iterator[Progress]:
    """Show a progress bar on stderr if it is a terminal."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(name, total=None)
        yield progress
