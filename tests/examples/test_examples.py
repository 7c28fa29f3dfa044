"""The examples run as they stand, on the demo model: as scripts, in a notebook, in a browser, in a Java machine."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from resnest_core.images import load_image
from tests.browser import Watch
from tests.server.test_serve import ROOT, free_port, serving

EXAMPLES = ROOT / "examples"
IMAGES = ROOT / "tests/data/demo/images"
MOTORCYCLES = IMAGES / "000000000073.jpg"
PEOPLE = IMAGES / "000000491525.jpg"
FRAMES = 8


@pytest.fixture(scope="module")
def page_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def gateway(page_port: int) -> Iterator[str]:
    with serving(RESNEST_CORS_ORIGINS=f"http://127.0.0.1:{page_port}", RESNEST_LOG_LEVEL="warning") as (url, _):
        yield url


def run(*command: str | Path, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done


def installed(program: str, package: str) -> str:
    """Return the path of a program, after installing its Debian package where it is missing."""
    if shutil.which(program) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        install = f"apt-get update -qq && apt-get install -y -qq --no-install-recommends {package}"
        subprocess.run(install, shell=True, capture_output=True, check=False)
    path = shutil.which(program)
    assert path is not None, f"There is no {program} on PATH: install it, on Debian with `apt-get install {package}`."
    return path


@contextmanager
def files_at(port: int, folder: Path) -> Iterator[tuple[str, list[str | None]]]:
    """Serve a folder, and give its address and the `Authorization` of each request."""
    keys: list[str | None] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers["Authorization"])
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", keys
    server.shutdown()
    server.server_close()


def lines_of_code(example: Path) -> int:
    if example.suffix == ".ipynb":
        cells = json.loads(example.read_text(encoding="utf-8"))["cells"]
        return sum(len(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return len(example.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("example", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_an_example_is_short_listed_and_run_here(example: Path) -> None:
    assert lines_of_code(example) < 40
    assert f"](../examples/{example.name})" in (ROOT / "docs/examples.md").read_text(encoding="utf-8")
    assert f'"{example.name}"' in Path(__file__).read_text(encoding="utf-8")


def test_objects_of_a_video_are_followed(tmp_path: Path) -> None:
    source, target = tmp_path / "street.mp4", tmp_path / "street.annotated.mp4"
    photograph = load_image(PEOPLE)
    height, width = (side // 2 * 2 for side in photograph.shape[:2])
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"mp4v"), 8, (width, height))
    for shift in range(FRAMES):
        moved = np.roll(photograph, 2 * shift, axis=1)[:height, :width]
        writer.write(np.ascontiguousarray(moved[..., ::-1]))
    writer.release()
    done = run(sys.executable, EXAMPLES / "track_video.py", source, target)
    followed = re.match(r"(\d+) objects were followed", done.stdout)
    assert followed and 1 <= int(followed[1]) <= 5  # one number per object, not one per frame
    assert "Warning" not in done.stderr
    before, after = cv2.VideoCapture(str(source)), cv2.VideoCapture(str(target))
    for _ in range(FRAMES):
        (_, plain), (read, drawn) = before.read(), after.read()
        assert read and plain.shape == drawn.shape
    assert np.abs(plain.astype(int) - drawn).max() > 100
    assert not after.read()[0]


def test_objects_in_a_zone_are_counted() -> None:
    def counted(polygon: str) -> tuple[int, int]:
        done = run(sys.executable, EXAMPLES / "count_in_zone.py", polygon, PEOPLE)
        match = re.search(r": (\d+) of (\d+) in the zone", done.stdout)
        assert match, done.stdout
        return int(match[1]), int(match[2])

    height, width = load_image(PEOPLE).shape[:2]
    middle = width // 2
    left, found = counted(f"0,0,{middle},0,{middle},{height},0,{height}")
    right, _ = counted(f"{middle},0,{width},0,{width},{height},{middle},{height}")
    assert left + right == found > 0


def test_label_studio_gets_boxes_in_per_cent(gateway: str) -> None:
    with files_at(0, IMAGES) as (studio, keys):
        port = free_port()
        variables = {"LABEL_STUDIO_URL": studio, "LABEL_STUDIO_API_KEY": "secret", "RESNEST_URL": gateway}
        command = [sys.executable, "-m", "uvicorn", "--app-dir", "examples", "--port", str(port)]
        module = Path(EXAMPLES, "label_studio_backend.py").stem
        with subprocess.Popen(
            [*command, f"{module}:app"], cwd=ROOT, env={**os.environ, **variables}, stderr=subprocess.DEVNULL
        ) as process:
            try:
                client = httpx.Client(
                    base_url=f"http://127.0.0.1:{port}", timeout=60, transport=httpx.HTTPTransport(retries=10)
                )
                assert client.get("/health").json()["status"] == "UP"
                assert client.post("/setup", json={"project": "1.0"}).json()["model_version"] == "demo"
                task = {"id": 7, "data": {"image": f"/{MOTORCYCLES.name}"}}
                answer = client.post("/predict", json={"tasks": [task], "project": "1.0", "label_config": "<View/>"})
                elsewhere = {"id": 8, "data": {"image": "http://127.0.0.1:9/a.jpg"}}
                assert client.post("/predict", json={"tasks": [elsewhere]}).status_code == 422
            finally:
                process.terminate()
    assert keys == ["Token secret"]
    (result,) = answer.json()["results"]
    direct = httpx.post(f"{gateway}/v1/detect?score_threshold=0.5", content=MOTORCYCLES.read_bytes(), timeout=60).json()
    width, height = direct["image"]["width"], direct["image"]["height"]
    for region, one in zip(result["result"], direct["detections"], strict=True):
        value = region["value"]
        corners = [value["x"], value["y"], value["x"] + value["width"], value["y"] + value["height"]]
        pixels = np.array(corners) / 100 * [width, height, width, height]
        np.testing.assert_allclose(pixels, one["box"], atol=0.01)
        assert value["rectanglelabels"] == [one["class"]] == ["motorcycle"]
        assert region["type"] == "rectanglelabels"
    assert result["result"]


def test_the_notebook_runs_and_shows_a_picture(tmp_path: Path) -> None:
    executed = tmp_path / "executed.ipynb"
    command = (sys.executable, "-c", "from nbclient.cli import main; main()", f"--output={executed}", "--timeout=120")
    run(*command, EXAMPLES / "detect.ipynb", PYTHONPATH=os.pathsep.join(sys.path), IMAGES=str(IMAGES))
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    shown = ["".join(output["data"]["text/html"]) for cell in cells for output in cell.get("outputs", [])]
    assert "data:image/jpeg;base64," in shown[0]
    assert "person" in shown[1]


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = json.loads((EXAMPLES / "detect.ipynb").read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_curl_and_jq(gateway: str, tmp_path: Path) -> None:
    installed("curl", "curl"), installed("jq", "jq")
    done = run("sh", EXAMPLES / "detect.sh", gateway, MOTORCYCLES, PEOPLE)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert {row[0] for row in rows} == {str(MOTORCYCLES), str(PEOPLE)}
    assert {row[1] for row in rows if row[0] == str(MOTORCYCLES)} == {"motorcycle"}
    assert all(re.fullmatch(r"\d+ %", row[2]) and len(row[3].split()) == 4 for row in rows)
    text = tmp_path / "no.jpg"
    text.write_text("not an image")
    failed = run("sh", EXAMPLES / "detect.sh", gateway, text, status=1)
    assert "image" in failed.stderr


@pytest.mark.browser
def test_fetch_in_a_page(gateway: str, page_port: int, browser: Browser) -> None:
    with files_at(page_port, EXAMPLES) as (address, _):
        page = browser.new_page()
        watch = Watch(page)
        page.goto(f"{address}/" + "fetch.html" + f"?gateway={gateway}")
        page.set_input_files("#file", MOTORCYCLES)
        expect(page.locator("li").first).to_contain_text("motorcycle", timeout=30_000)
        page.set_input_files("#file", {"name": "no.jpg", "mimeType": "image/jpeg", "buffer": b"no"})
        expect(page.locator("#error")).to_contain_text("image", timeout=30_000)
        assert watch.complaints == []
        page.close()


def test_java(gateway: str, tmp_path: Path) -> None:
    java = installed("java", "default-jdk-headless")
    drawn = tmp_path / "drawn.png"
    done = run(java, EXAMPLES / "Detect.java", gateway, MOTORCYCLES, drawn)
    assert {one["class"] for one in json.loads(done.stdout)["detections"]} == {"motorcycle"}
    assert load_image(drawn).shape == load_image(MOTORCYCLES).shape
