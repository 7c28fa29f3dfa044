"""Images from an address, from a real server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from resnest_client import fetch_image
from resnest_core.errors import DownloadError, ImageTooLargeError

IMAGE = bytes(range(256)) * 40


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/image")
            self.end_headers()
            return
        self.send_response(200 if self.path == "/image" else 404)
        self.end_headers()
        self.wfile.write(IMAGE)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("path", ["image", "moved"])
def test_the_bytes_come(url: str, path: str) -> None:
    assert fetch_image(f"{url}/{path}") == IMAGE


def test_what_cannot_be_fetched(url: str) -> None:
    with pytest.raises(DownloadError, match="answered 404 Not Found: check the address"):
        fetch_image(f"{url}/absent")
    with pytest.raises(ImageTooLargeError, match="more than 1,000 bytes"):
        fetch_image(f"{url}/image", max_bytes=1000)
    for address in ("http://127.0.0.1:1/image", "ftp://127.0.0.1/image", "http://[", "no address"):
        with pytest.raises(DownloadError, match="can't be fetched"):
            fetch_image(address)
