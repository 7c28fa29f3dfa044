"""Run tritonserver and mend its models: one whose process died or hangs is loaded again, within seconds.

    python deploy/triton/supervise.py [--http-port 8000] -- tritonserver --model-control-mode=explicit --load-model=* …
    python deploy/triton/supervise.py --check [--http-port 8000]

Triton doesn't start a Python model's process again that the kernel has killed, and goes on to call the model ready. So
this process, its parent, looks at those processes every second. A model of which nothing was answered for a while is
sent a small image: one that fails, or isn't answered, is a reason to load it again, too. Where that doesn't help, the
server ends, for Docker or another supervisor to start it again. `--check` is the container's health check.

Needs nothing but Python's standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

POLL_SECONDS = 1.0
PROBE_SECONDS = 10.0  # without an answer, until a small image is sent
PATIENCE_SECONDS = 10.0  # for its answer, at least
FIRST_SECONDS = 60.0  # for the first answer of a model, whose speed isn't known
RETRY_SECONDS = 3.0  # after a model couldn't be loaded
PATIENCE = 10  # times the mean duration of requests, at least: a busy model answers late
LOAD_SECONDS = 600.0
MAX_RELOADS = 3  # one after the other that didn't help
CARD = "resnest_card"  # the parameter that this project's ensembles have
STUB = "triton_python_b"  # the name of a Python model's process, as the kernel cuts it
BROKEN_STATES = "ZTtXx"  # of processes: dead, or stopped

# Not through a proxy: the server is on this machine.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Api:
    """Triton's HTTP interface."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: bytes | None = None, *, seconds: float = 5.0, **headers: str) -> Any:
        """Return the JSON of a response; without a body, of a GET.

        Raises:
            OSError: the server doesn't answer, or answers an error; its words are in the message.
        """
        request = urllib.request.Request(self._url + path, body, headers)
        try:
            with _open(request, timeout=seconds) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            error.msg = error.read(500).decode(errors="replace")
            raise
        return json.loads(content) if content else None

    def load_again(self, model: str) -> None:
        """Unload a model and load it; loading alone does nothing where its files are as before."""
        self.ask(f"/v2/repository/models/{model}/unload", b"{}")
        self.ask(f"/v2/repository/models/{model}/load", b"{}", seconds=LOAD_SECONDS)

    def detect(self, model: str, seconds: float) -> None:
        """Send a small image to an ensemble.

        Raises:
            OSError: it failed, or did not answer in time.
        """
        image = small_png()
        content = struct.pack("<I", len(image)) + image
        tensor = {
            "name": "image",
            "shape": [1, 1],
            "datatype": "BYTES",
            "parameters": {"binary_data_size": len(content)},
        }
        head = json.dumps({"inputs": [tensor], "outputs": [{"name": "num_detections"}]}).encode()
        length = {"Inference-Header-Content-Length": str(len(head))}
        try:
            self.ask(f"/v2/models/{model}/infer", head + content, seconds=seconds, **length)
        except urllib.error.HTTPError as error:
            if error.code < 500 or error.code == 503:  # a refused image, or a full queue: it answers
                return
            raise


def small_png(width: int = 640, height: int = 24) -> bytes:
    """Return a grey image: so narrow that its scaled form costs a network little."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@dataclass
class Stubs:
    """The processes of Python models: those of one server's process id."""

    server: int
    proc: Path = Path("/proc")
    _models: dict[int, str] = field(default_factory=dict)
    _suspects: set[int] = field(default_factory=set)
    _handled: set[int] = field(default_factory=set)

    def broken(self) -> dict[int, str]:
        """Return the models, by process id, whose processes were dead or stopped at two looks, one after the other.

        One look isn't enough: a model that is being unloaded has a dead process for a moment. Each is told once.
        """
        states = self._states()
        dead = {pid for pid, state in states.items() if state in BROKEN_STATES and pid in self._models}
        broken = {pid: self._models[pid] for pid in dead & self._suspects - self._handled}
        self._suspects = dead
        self._handled = (self._handled | set(broken)) & states.keys()  # the number of one that is gone may come again
        self._models = {pid: model for pid, model in self._models.items() if pid in states}
        return broken

    def _states(self) -> dict[int, str]:
        states = {}
        for folder in self.proc.iterdir():
            if not folder.name.isdecimal():
                continue
            try:
                name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
                state, parent = rest.split()[:2]
                if name != STUB or int(parent) != self.server:
                    continue
                pid = int(folder.name)
                states[pid] = state
                if pid not in self._models and (arguments := (folder / "cmdline").read_bytes().split(b"\0"))[0]:
                    self._models[pid] = Path(os.fsdecode(arguments[1])).parts[-3]  # …/<model>/<version>/model.py
            except (OSError, ValueError, IndexError):  # it has ended meanwhile
                continue
        return states


@dataclass
class Progress:
    """What is known of an ensemble: its parts, how many images it has answered, and when."""

    parts: list[str]
    answered: int = 0
    since: float = field(default_factory=time.monotonic)
    mean_seconds: float = 0.0
    probe: threading.Thread | None = None


class Supervisor:
    """Watches one tritonserver."""

    def __init__(self, server: subprocess.Popen[bytes], api: Api, port: int) -> None:
        self._server = server
        self._api = api
        self._trouble = trouble_file(port)
        self._stubs = Stubs(server.pid)
        self._ensembles: dict[str, Progress] = {}
        self._failed: dict[str, str] = {}  # by ensemble; set by probes
        self._reloads: dict[str, int] = {}
        self._broken: dict[str, tuple[str, float]] = {}  # by model: why, and when it is to be loaded again
        self.is_ending = False

    def run(self) -> int:
        """Watch the server until it ends, and return its exit status."""
        self._trouble.unlink(missing_ok=True)
        try:
            while True:
                try:
                    return self._server.wait(POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    if not self.is_ending:  # else the processes of unloaded models are to end
                        self._look()
        finally:
            self._trouble.unlink(missing_ok=True)

    def _look(self) -> None:
        for pid, model in self._stubs.broken().items():
            self._broken.setdefault(model, (f"its process {pid} died or was stopped", 0.0))
            kill(pid)
        for model, (reason, due) in list(self._broken.items()):
            if time.monotonic() >= due:
                self._mend(model, reason)
        try:
            self._probe()
        except (OSError, ValueError, KeyError):
            return  # it starts, or is busy: the next look tells
        for name, reason in list(self._failed.items()):
            del self._failed[name]
            for part in self._ensembles[name].parts:
                self._broken.setdefault(part, (f"{name} failed on a small image ({reason})", 0.0))
            self._ensembles[name].since = time.monotonic()

    def _mend(self, model: str, reason: str) -> None:
        self._reloads[model] = self._reloads.get(model, 0) + 1
        if self._reloads[model] > MAX_RELOADS:
            say(f"{model}: {reason}, and loading it again didn't help: the server ends.")
            self._server.terminate()
            return
        say(f"{model}: {reason}. It is loaded again.")
        self._trouble.write_text(f"{model}: {reason}")
        start = time.monotonic()
        try:
            self._api.load_again(model)
        except OSError as error:
            say(f"{model} can't be loaded: {error}")
            self._broken[model] = f"it couldn't be loaded ({error})", time.monotonic() + RETRY_SECONDS
            return
        say(f"{model} is loaded again, in {time.monotonic() - start:.1f} s.")
        del self._broken[model]
        if not self._broken:
            self._trouble.unlink(missing_ok=True)

    def _probe(self) -> None:
        for row in self._api.ask("/v2/models/stats")["model_stats"]:
            name, statistics = row["name"], row["inference_stats"]["success"]
            if name not in self._ensembles:
                parts = parts_of(self._api.ask(f"/v2/models/{name}/config"))
                if not parts:
                    continue
                self._ensembles[name] = Progress(parts)
            self._follow(name, self._ensembles[name], statistics["count"], statistics["ns"])

    def _follow(self, name: str, known: Progress, answered: int, nanoseconds: int) -> None:
        if answered != known.answered:
            known.answered, known.since = answered, time.monotonic()
            known.mean_seconds = nanoseconds / answered / 1e9 if answered else 0.0
            for part in known.parts:
                self._reloads.pop(part, None)
        is_due = time.monotonic() - known.since > PROBE_SECONDS
        if is_due and (known.probe is None or not known.probe.is_alive()) and name not in self._failed:
            patience = max(PATIENCE_SECONDS, PATIENCE * known.mean_seconds) if known.answered else FIRST_SECONDS
            known.probe = threading.Thread(target=self._detect, args=(name, patience), daemon=True)
            known.probe.start()

    def _detect(self, name: str, patience: float) -> None:
        try:
            self._api.detect(name, patience)
        except OSError as error:
            if not self._broken:  # else it fails because of what is being mended
                self._failed[name] = str(error) or type(error).__name__


def parts_of(config: Mapping[str, Any]) -> list[str]:
    """Return the models that an ensemble of this project consists of; none: it is no such ensemble."""
    if CARD not in config.get("parameters", {}) or "ensemble_scheduling" not in config:
        return []
    return list(dict.fromkeys(step["model_name"] for step in config["ensemble_scheduling"]["step"]))


def kill(pid: int) -> None:
    """End what remains of a process: one that was stopped holds its memory."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def trouble_file(port: int) -> Path:
    """Return the file that says which model is being mended; there is none while all are well."""
    return Path(tempfile.gettempdir()) / f"resnest-triton-{port}"


def check(port: int) -> str | None:
    """Return why the server isn't healthy; None: it is."""
    trouble = trouble_file(port)
    if trouble.exists():
        return trouble.read_text()
    try:
        Api(port).ask("/v2/health/ready", seconds=4)
    except OSError as error:
        return f"Triton isn't ready: {error}"
    return None


def supervise(command: Sequence[str], port: int, environment: Mapping[str, str] | None = None) -> int:
    """Run a server until it ends; SIGTERM and SIGINT are passed on to it. Return its exit status."""
    server = subprocess.Popen(command, env=environment)
    supervisor = Supervisor(server, Api(port), port)

    def pass_on(number: int, _: FrameType | None) -> None:
        supervisor.is_ending = True
        server.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    status = supervisor.run()
    return status if status >= 0 else 128 - status


def say(message: str) -> None:
    print(f"supervise: {message}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="tell by the exit status whether the server is healthy")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("command", nargs="*", help="after --: tritonserver and its options")
    asked = parser.parse_args()
    if asked.check:
        sys.exit(check(asked.http_port))
    sys.exit(supervise(asked.command, asked.http_port))


if __name__ == "__main__":
    main()
