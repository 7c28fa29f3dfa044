"""A model whose process dies or stops is loaded again within seconds, under load, with every answer right."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.triton import supervise
from deploy.triton.home import Home
from tests.server.test_serve import serving
from tests.triton.server import REPOSITORY, TritonServer
from tests.triton.test_gateway import post, rows, rows_of

RECOVERY_SECONDS = 30
CLIENTS = 3


@pytest.fixture(scope="module")
def supervised(
    triton_home: Home, triton_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("supervised")
    shutil.copytree(REPOSITORY, folder / "repository", ignore=shutil.ignore_patterns("__pycache__"))
    with TritonServer(triton_home, triton_project, folder / "repository", folder / "log", supervised=True) as server:
        yield server.start()
        server.kill()  # it would wait long for the processes that were killed before


@pytest.fixture(scope="module")
def url(supervised: TritonServer) -> Iterator[str]:
    with serving("--runtime", "triton", "--triton-url", supervised.grpc) as (url, _):
        yield url


def processes(server: TritonServer, model: str) -> list[psutil.Process]:
    """Return the living processes of a Python model."""
    assert server.process is not None
    found = []
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended since it was listed
            if process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED):
                found += [process] if any(f"/{model}/" in argument for argument in process.cmdline()) else []
    return found


@pytest.mark.triton
@pytest.mark.parametrize(
    ("model", "number"),
    [
        ("demo_network", signal.SIGKILL),
        ("demo_preprocess", signal.SIGKILL),  # one of its two instances
        ("demo_network", signal.SIGSTOP),
    ],
)
def test_a_model_is_mended_under_load(
    supervised: TritonServer, url: str, model: str, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = rows_of(post(url).json()["detections"])
    before = processes(supervised, model)
    stop = threading.Event()
    statuses: Counter[int] = Counter()

    def ask() -> None:
        while not stop.is_set():
            answer = post(url)
            statuses[answer.status_code] += 1
            if answer.status_code == 200:
                assert rows(answer) == pytest.approx(expected, abs=0.01)
            else:
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
                time.sleep(0.2)

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(ask) for _ in range(CLIENTS)]
        try:
            time.sleep(0.5)
            os.kill(before[0].pid, number)
            start = time.monotonic()
            while before[0] in (now := processes(supervised, model)) or len(now) < len(before):
                assert time.monotonic() - start < RECOVERY_SECONDS, supervised.log.read_text()[-3000:]
                time.sleep(0.1)
            while httpx.get(f"{url}/health/ready").status_code != 200:
                assert time.monotonic() - start < RECOVERY_SECONDS
                time.sleep(0.1)
            seconds = time.monotonic() - start
            while post(url).status_code != 200:
                assert time.monotonic() - start < RECOVERY_SECONDS
            answered = statuses[200]
            while statuses[200] == answered:  # the clients' retries may still wait
                assert time.monotonic() - start < RECOVERY_SECONDS
                time.sleep(0.1)
        finally:
            stop.set()
        for client in clients:
            client.result()
    with capsys.disabled():
        print(f" {model}, {number.name}: {seconds:.1f} s, {dict(statuses)}")
    assert statuses[200] > 0
    assert f"supervise: {model}: its process {before[0].pid} died or was stopped" in supervised.log.read_text()
    assert supervise.check(supervised.http_port) is None


class FakeApi(supervise.Api):
    """Statistics of an ensemble as they are set; remembers what was asked of it."""

    def __init__(self) -> None:
        super().__init__(0)
        self.answered, self.hangs = 1, False
        self.loaded: list[str] = []

    def ask(self, path: str, body: bytes | None = None, *, seconds: float = 5.0, **_: str) -> object:  # noqa: ARG002
        if path == "/v2/models/stats":
            success = {"count": self.answered, "ns": int(1e9)}
            return {"model_stats": [{"name": name, "inference_stats": {"success": success}} for name in ("m", "other")]}
        if path == "/v2/models/m/config":
            steps = [{"model_name": name} for name in ("m_preprocess", "m_network")]
            return {"parameters": {supervise.CARD: {}}, "ensemble_scheduling": {"step": steps}}
        return {}

    def detect(self, model: str, seconds: float) -> None:  # noqa: ARG002
        if self.hangs:
            raise TimeoutError("timed out")
        self.answered += 1

    def load_again(self, model: str) -> None:
        self.loaded.append(model)


class FakeServer:
    pid = 0
    ended = False

    def terminate(self) -> None:
        self.ended = True


def test_a_model_that_hangs_is_loaded_again_and_at_last_the_server_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "PROBE_SECONDS", 0.0)
    api, server = FakeApi(), FakeServer()
    watched = supervise.Supervisor(server, api, 1)  # type: ignore[arg-type]

    def look(times: int) -> None:
        for _ in range(times):
            watched._look()
            if probe := watched._ensembles["m"].probe:
                probe.join()

    look(4)
    assert not api.loaded
    api.hangs = True
    look(4)
    assert api.loaded[:2] == ["m_preprocess", "m_network"]
    look(20)
    assert server.ended
    assert len(api.loaded) == 2 * supervise.MAX_RELOADS
    supervise.trouble_file(1).unlink(missing_ok=True)


def test_a_server_that_ends_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of its models end too: they are not to be loaded again."""

    class EndingServer(FakeServer):
        looks = 3

        def wait(self, timeout: float) -> int:
            self.looks -= 1
            if self.looks:
                raise subprocess.TimeoutExpired("tritonserver", timeout)
            return 0

    watched = supervise.Supervisor(EndingServer(), FakeApi(), 1)  # type: ignore[arg-type]
    looked: list[None] = []
    monkeypatch.setattr(watched, "_look", lambda: looked.append(None))
    watched.is_ending = True
    assert watched.run() == 0 and not looked
    watched.is_ending, EndingServer.looks = False, 3
    watched._server = EndingServer()  # type: ignore[assignment]
    assert watched.run() == 0 and looked


def test_the_small_image_is_an_image() -> None:
    from resnest_core.images import decode_image

    assert decode_image(supervise.small_png()).shape == (24, 640, 3)


def test_dead_processes_are_told_once(tmp_path: Path) -> None:
    def put(pid: int, state: str, name: str = supervise.STUB, parent: int = 7) -> None:
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) {state} {parent} 0")
        (tmp_path / str(pid) / "cmdline").write_bytes(b"stub\0/models/m_network/1/model.py\0x" if state == "S" else b"")

    stubs = supervise.Stubs(7, tmp_path)
    for pid in (1, 2, 3):
        put(pid, "S")
    put(4, "Z", name="python")
    put(5, "S", parent=8)
    assert stubs.broken() == {}
    put(1, "Z")
    put(2, "T")
    put(5, "Z", parent=8)
    assert stubs.broken() == {}  # it may be unloaded
    assert stubs.broken() == {1: "m_network", 2: "m_network"}
    assert stubs.broken() == {}
    put(3, "Z")
    stubs.broken()
    put(3, "S")
    assert stubs.broken() == {}


@pytest.mark.triton
def test_a_model_that_can_not_be_loaded_at_first_is_tried_again(supervised: TritonServer, url: str) -> None:
    """Memory may still be short after the kernel has killed a process."""
    expected = rows_of(post(url).json()["detections"])
    code = supervised.repository / "demo_network" / "1" / "model.py"
    good = code.read_text()
    code.write_text("raise MemoryError('this once')\n")
    try:
        processes(supervised, "demo_network")[0].kill()
        end = time.monotonic() + RECOVERY_SECONDS
        while "can't be loaded" not in supervised.log.read_text():
            assert time.monotonic() < end
            time.sleep(0.1)
        assert "demo_network" in (supervise.check(supervised.http_port) or "")
    finally:
        code.write_text(good)
    while (answer := post(url)).status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert rows(answer) == pytest.approx(expected, abs=0.01)
