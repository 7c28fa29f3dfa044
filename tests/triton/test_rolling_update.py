"""Two gateways behind nginx, two Tritons behind the gateways: each process is restarted, and no request is lost.

Triton's network is a stub that sleeps and answers boxes by an image's size, so that requests are running and queued in
Triton when it is told to end, at little cost; preprocessing, servers and supervisor are the real ones.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.triton.home import Home
from resnest_core import InProcessDetector
from resnest_core.card import read_card
from resnest_core.images import load_image
from resnest_core.repository import network_path
from resnest_core.runtimes import FakeRuntime
from resnest_export.triton_repository.options import Serving
from resnest_export.triton_repository.writer import write_model
from tests.deploy.nginx import Nginx, free_ports, nginx
from tests.deploy.test_nginx import Gateway
from tests.server.test_serve import PHOTOGRAPH, RESNEST
from tests.triton.dns_server import DnsServer
from tests.triton.server import REPOSITORY, TritonServer
from tests.triton.test_gateway import rows

pytestmark = pytest.mark.triton

CLIENTS = 6
NETWORK_SECONDS = 0.15
HOSTS = "127.0.0.1", "127.0.0.2"
# Of docs/operations.md, scaled down: the pause before SIGTERM is longer than connections last and names are kept.
AGE_SECONDS, PAUSE_SECONDS = 1.0, 3.0
STUB = """
import time
from pathlib import Path

from resnest_core.card import read_card
from resnest_core.runtimes import FakeRuntime
from resnest_core.tensors import input_names
from resnest_core.triton_models.network import TritonPythonModel as Network


class TritonPythonModel(Network):
    def initialize(self, args):
        card = read_card(Path(args["model_repository"]) / args["model_version"] / "model.onnx")
        self.runtime = FakeRuntime(card, before_run=self.before_run)
        self.inputs = input_names(card.has_masks)

    def before_run(self, inputs):
        time.sleep({seconds})
        with Path({log!r}).open("a") as log:
            log.write("".join(f"{{height}}x{{width}}\\n" for height, width in inputs["original_sizes"]))
"""


def write_stub(folder: Path) -> tuple[Path, Path]:
    """Return a repository whose network takes one image at a time, and the file in which it notes each one's size."""
    repository, images = folder / "repository", folder / "images"
    path = network_path(repository, "demo")
    path.parent.mkdir(parents=True)
    shutil.copy(network_path(REPOSITORY, "demo"), path)
    write_model(repository, read_card(path), Serving(max_batch=1))
    (path.parent / "model.py").write_text(STUB.format(seconds=NETWORK_SECONDS, log=str(images)))
    return repository, images


def bodies() -> dict[str, bytes]:
    """Return images by their sizes, one for each client; the last is larger than what gRPC keeps for retries."""
    pixels = load_image(PHOTOGRAPH)
    sizes = [(200 + 20 * number, 300) for number in range(CLIENTS - 1)]
    found = {
        f"{height}x{width}": cv2.imencode(".jpg", cv2.resize(pixels, (width, height)))[1].tobytes()
        for height, width in sizes
    }
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    found["400x400"] = cv2.imencode(".png", noise)[1].tobytes()
    assert len(found["400x400"]) > 2**18
    return found


class Stack:
    """The servers, and what was asked of them."""

    def __init__(self, home: Home, project: Path, folder: Path, *, named: bool) -> None:
        self.repository, self.images = write_stub(folder)
        (port,) = free_ports(1)
        self.tritons = [
            TritonServer(
                home,
                project,
                self.repository,
                folder / f"triton-{host}",
                f"--grpc-address={host}",
                f"--grpc-port={port}",
                f"--grpc-max-connection-age={AGE_SECONDS * 1000:.0f}",
                supervised=True,
            )
            for host in HOSTS
        ]
        self.dns = DnsServer()
        self.dns.addresses = HOSTS
        url = self.dns.target(port) if named else f"ipv4:{','.join(f'{host}:{port}' for host in HOSTS)}"
        program = (*RESNEST, "serve", "--runtime", "triton", "--triton-url", url)
        self.gateways = [Gateway(program, port) for port in free_ports(2)]
        self.answered: Counter[str] = Counter()
        card = read_card(network_path(REPOSITORY, "demo"))
        self._local = InProcessDetector(FakeRuntime(card))

    @contextmanager
    def running(self) -> Iterator[None]:
        with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
            stack.enter_context(self.dns.start())
            for triton in self.tritons:
                stack.callback(triton.kill)
            list(pool.map(TritonServer.start, self.tritons))
            for gateway in self.gateways:
                stack.callback(gateway.stop)
            list(pool.map(Gateway.start, self.gateways))
            yield

    @contextmanager
    def load(self, proxy: Nginx) -> Iterator[None]:
        """Clients that send their images one after the other, and compare every answer with the reference."""
        over = threading.Event()

        def repeat(body: bytes) -> int:
            found = self._local.detect(body)
            expected = np.column_stack([found.boxes_xyxy, found.scores, found.labels])
            count = 0
            with proxy.client() as client:
                while not over.is_set():
                    answer = client.post("/v1/detect", content=body, params={"masks": "none"})
                    assert answer.status_code == 200, answer.text
                    assert rows(answer) == pytest.approx(expected, abs=0.01)
                    count += 1
            return count

        images = bodies()
        with ThreadPoolExecutor(len(images)) as pool:
            clients = {size: pool.submit(repeat, body) for size, body in images.items()}
            try:
                time.sleep(1)
                yield
                time.sleep(1)
            finally:
                over.set()
            self.answered.update({size: client.result() for size, client in clients.items()})

    def computed(self) -> Counter[str]:
        """Return how often Triton computed each image; others are the test images of gateways and supervisors."""
        return Counter(size for size in self.images.read_text().split() if size in self.answered)


def restart(triton: TritonServer) -> None:
    """Restart it as Kubernetes does, with SIGTERM, and wait until it is ready."""
    process = triton.process
    triton.close()
    assert process is not None and process.returncode == 0  # it ended by itself
    triton.start()


@pytest.fixture
def stack(triton_home: Home, triton_project: Path, tmp_path: Path) -> Iterator[Callable[[bool], Stack]]:
    with ExitStack() as running:

        def start(named: bool) -> Stack:
            made = Stack(triton_home, triton_project, tmp_path, named=named)
            running.enter_context(made.running())
            return made

        yield start


def ports(stack: Stack) -> tuple[int, int]:
    return stack.gateways[0].port, stack.gateways[1].port


def test_as_in_kubernetes(stack: Callable[[bool], Stack], tmp_path: Path) -> None:
    """A Triton's address leaves the name before it is told to end: it gets no more requests, and none is retried.

    When the second one ends, the gateways must have found the first again.
    """
    servers = stack(True)
    with nginx(_folder(tmp_path), ports(servers)) as proxy:
        with servers.load(proxy):
            for triton, host in zip(servers.tritons, HOSTS, strict=True):
                servers.dns.addresses = tuple(other for other in HOSTS if other != host)
                time.sleep(PAUSE_SECONDS)
                restart(triton)
                servers.dns.addresses = HOSTS
        tries = proxy.tries()
        assert len(tries) == sum(servers.answered.values())
        assert {tuple(statuses) for _, statuses in tries} == {("200",)}  # nginx had nothing to send again
        with servers.load(proxy):
            for gateway in servers.gateways:
                gateway.stop()
                gateway.start()
        tries = proxy.tries()
    assert len(tries) == sum(servers.answered.values())
    assert {status for status, _ in tries} == {"200"}
    assert servers.computed() == servers.answered and min(servers.answered.values()) > 0
    for triton in servers.tritons:
        assert "supervise:" not in triton.log.read_text()


def test_at_fixed_addresses(stack: Callable[[bool], Stack], tmp_path: Path) -> None:
    """Without a notice, what a Triton refuses while it ends is sent to the other; what a killed one had, once more."""
    servers = stack(False)
    with nginx(_folder(tmp_path), ports(servers)) as proxy:
        with servers.load(proxy):
            for triton in servers.tritons:
                restart(triton)
        assert servers.computed() == servers.answered  # none twice, as a Triton completes what it has accepted
        with servers.load(proxy):
            servers.tritons[0].kill()
            time.sleep(2)
            servers.tritons[0].start()
        tries = proxy.tries()
    assert len(tries) == sum(servers.answered.values())
    assert {status for status, _ in tries} == {"200"}
    twice = servers.computed() - servers.answered
    assert not servers.answered - servers.computed() and sum(twice.values()) <= CLIENTS


def _folder(path: Path) -> Path:
    folder = path / "nginx"
    folder.mkdir()
    return folder
