"""The gateway where nothing can be written: a read-only root file system without /tmp."""

from __future__ import annotations

import base64
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.server.test_serve import ENVIRONMENT, PHOTOGRAPH, RESNEST, ROOT, free_port

SHELL = """
mount --make-rprivate / || exit 9
for folder in /tmp /var/tmp /usr/tmp /dev/shm "$PWD"; do
    [ ! -d "$folder" ] || { mount --bind "$folder" "$folder" && mount -o remount,bind,ro "$folder"; } || exit 9
done
mount -o remount,bind,ro / || exit 9
cd "$PWD"
exec "$@"
"""
READ_ONLY = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SHELL, "sh")
VARIABLES = {**{name: value for name, value in ENVIRONMENT.items() if name != "TMPDIR"}, "HOME": "/proc/nowhere"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    script = "import tempfile\ntry: tempfile.gettempdir()\nexcept FileNotFoundError: print('none')"
    probe = [*READ_ONLY, RESNEST[0], "-c", script]
    done = subprocess.run(probe, cwd=ROOT, env=VARIABLES, capture_output=True, text=True, check=False)
    if done.returncode == 9 or "unshare" in done.stderr:
        if os.environ.get("CI"):
            pytest.fail(done.stderr)
        pytest.skip(f"This machine permits no mounts: {done.stderr}")
    assert done.stdout == "none\n", done.stderr
    port = free_port()
    command = [*READ_ONLY, *RESNEST, "serve", "--port", str(port), "--runtime", "onnxruntime"]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, cwd=ROOT, env=VARIABLES, stderr=log) as process,
    ):
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                assert process.poll() is None, log.seek(0) or log.read().decode()
                try:
                    if httpx.get(f"{url}/health/ready").is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=30)


BODY = PHOTOGRAPH.read_bytes()


@pytest.mark.parametrize("body", ["image", "drawing", "form", "large form", "JSON"])
def test_every_body_is_answered(url: str, body: str) -> None:
    requests = {
        "image": {"content": BODY},
        "drawing": {"content": BODY, "headers": {"Accept": "image/png"}},
        "form": {"files": [("file", BODY)]},
        "large form": {"files": [("file", BODY + bytes(3_000_000))]},
        "JSON": {"json": {"image": base64.b64encode(BODY).decode()}},
    }
    answer = httpx.post(f"{url}/v1/detect", timeout=60, **requests[body])  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ["/", "/docs", "/metrics", "/v1/models"])
def test_everything_else_is_answered(url: str, path: str) -> None:
    assert httpx.get(url + path).status_code == 200
