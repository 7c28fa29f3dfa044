"""Downloads from a server in this process that cuts connections, forgets what Range means, or sends something else."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from resnest_core.errors import DownloadError
from resnest_core.published import PUBLISHED, Published
from resnest_export import commands
from resnest_export.download import ATTEMPTS, download

CONTENT = bytes(range(256)) * 2000
ROW = Published(
    name="mask_rcnn_s50",
    family="Mask R-CNN",
    backbone="ResNeSt-50",
    box_ap=42.6,
    mask_ap=38.1,
    config="mask_rcnn+head",
    date_and_hash=f"20200926_125503-{hashlib.sha256(CONTENT).hexdigest()[:8]}",
)


@dataclass
class Server:
    """What the server does, and what it saw."""

    url: str = ""
    content: bytes = CONTENT
    statuses: list[int] = field(default_factory=list)
    """Answered first, one a request."""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the connection is cut, one a request."""
    ranges: bool = True
    etags: list[str] = field(default_factory=lambda: ['"one"'])
    """The file's tag, one a request; the last stays."""
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """Path, Range and If-Range of each request."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted, validator = self.headers["Range"], self.headers["If-Range"]
            state.requests.append((self.path, wanted, validator))
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            etag = state.etags.pop(0) if len(state.etags) > 1 else state.etags[0]
            start = 0
            if wanted and state.ranges and validator in (None, etag):
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(state.content):
                    self.send_error(416)
                    return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", etag)
            self.end_headers()
            self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
            """Keep the tests' output clean."""

    monkeypatch.setattr("resnest_export.download.BACK_OFF", 0.0)
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{listener.server_port}/resnest"
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
    thread.start()
    yield state
    listener.shutdown()
    thread.join()
    listener.server_close()


def part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def seen_ranges(server: Server) -> list[str | None]:
    return [wanted for _, wanted, _ in server.requests]


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "checkpoints"
    path = download(ROW, folder, base_url=server.url)
    assert path == folder / ROW.checkpoint
    assert path.read_bytes() == CONTENT
    assert download(ROW, folder, base_url=server.url) == path
    assert [path.name for path in folder.iterdir()] == [ROW.checkpoint]
    assert server.requests == [(f"/resnest/mask_rcnn%2Bhead/{ROW.checkpoint.replace('+', '%2B')}", None, None)]


def test_cut_connections_are_resumed(server: Server, tmp_path: Path) -> None:
    server.cuts = [200_000, 100_000]
    assert download(ROW, tmp_path, base_url=server.url).read_bytes() == CONTENT
    assert seen_ranges(server) == [None, "bytes=200000-", "bytes=300000-"]
    assert [validator for *_, validator in server.requests] == [None, '"one"', '"one"']


def test_a_file_that_changed_meanwhile_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.cuts = [200_000]
    server.etags = ['"old"', '"new"']
    assert download(ROW, tmp_path, base_url=server.url).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_weak_tag_is_not_sent_back(server: Server, tmp_path: Path) -> None:
    server.cuts = [200_000]
    server.etags = ['W/"one"']
    assert download(ROW, tmp_path, base_url=server.url).read_bytes() == CONTENT
    assert server.requests[1][1:] == ("bytes=200000-", None)


def test_a_server_without_ranges_sends_it_all_again(server: Server, tmp_path: Path) -> None:
    server.cuts = [200_000]
    server.ranges = False
    assert download(ROW, tmp_path, base_url=server.url).read_bytes() == CONTENT
    assert seen_ranges(server) == [None, "bytes=200000-"]


@pytest.mark.parametrize("kept", [1, 300_000, len(CONTENT)], ids=["a byte", "a half", "all"])
def test_what_an_earlier_run_left_is_used(server: Server, tmp_path: Path, kept: int) -> None:
    part_of(tmp_path / ROW.checkpoint).write_bytes(CONTENT[:kept])
    assert download(ROW, tmp_path, base_url=server.url).read_bytes() == CONTENT
    assert seen_ranges(server) == [f"bytes={kept}-"]


@pytest.mark.parametrize("left", [b"other bytes", b"0" * (len(CONTENT) + 1)], ids=["other", "too long"])
def test_wrong_bytes_of_an_earlier_run_are_dropped(server: Server, tmp_path: Path, left: bytes) -> None:
    part_of(tmp_path / ROW.checkpoint).write_bytes(left)
    assert download(ROW, tmp_path, base_url=server.url).read_bytes() == CONTENT
    assert seen_ranges(server) == [f"bytes={len(left)}-", None]


def test_a_damaged_file_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / ROW.checkpoint).write_bytes(CONTENT[:-1])
    assert download(ROW, tmp_path, base_url=server.url).read_bytes() == CONTENT


def test_another_file_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = b"<html>Sign in to this network</html>"
    with pytest.raises(DownloadError, match=r"another hash.*resnest export mask_rcnn_s50 --checkpoint"):
        download(ROW, tmp_path, base_url=server.url)
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(server: Server, tmp_path: Path, status: int) -> None:
    server.statuses = [status]
    assert download(ROW, tmp_path, base_url=server.url).read_bytes() == CONTENT


def test_attempts_are_bounded_and_the_part_stays(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, *[0] * ATTEMPTS]
    with pytest.raises(DownloadError, match=r"can't be fetched now .*--checkpoint"):
        download(ROW, tmp_path, base_url=server.url)
    assert len(server.requests) == ATTEMPTS
    assert [path.name for path in tmp_path.iterdir()] == [f"{ROW.checkpoint}.part"]
    assert part_of(tmp_path / ROW.checkpoint).read_bytes() == CONTENT[:100_000]


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_told_at_once(server: Server, tmp_path: Path, status: int) -> None:
    server.statuses = [status]
    with pytest.raises(DownloadError, match=f"answered {status}: get http.* --checkpoint FILE"):
        download(ROW, tmp_path, base_url=server.url)
    assert len(server.requests) == 1


def test_a_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnest_export.download.BACK_OFF", 0.0)
    with pytest.raises(DownloadError, match=r"can't be fetched now .*resnest export mask_rcnn_s50 --checkpoint FILE"):
        download(ROW, tmp_path, base_url="http://127.0.0.1:9")


def test_a_folder_that_is_a_file(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_bytes(b"")
    with pytest.raises(DownloadError, match="can't be kept in"):
        download(ROW, folder, base_url=server.url)


def test_the_command_prints_the_path(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, ROW.name, ROW)
    monkeypatch.setattr("resnest_export.download.download.__kwdefaults__", {"base_url": server.url})
    app = typer.Typer()
    commands.register(app)
    answer = CliRunner().invoke(app, ["download", ROW.name, "--folder", str(tmp_path)])
    assert (answer.exit_code, answer.stdout.strip()) == (0, str(tmp_path / ROW.checkpoint))
