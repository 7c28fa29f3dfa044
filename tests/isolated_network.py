"""Runs a command in a network of its own that leads nowhere, and records what it tries to reach.

    python -m tests.isolated_network REPORT COMMAND…

Needs Linux, `unshare` and `mount`. Loopback works; the command's name server is this module, which knows no name.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NAMESPACES = ("unshare", "--user", "--map-root-user", "--net", "--mount")
SET_FLAGS, UP = 0x8914, 0x1  # of Linux's ioctl for network devices
NO_SUCH_NAME = b"\x81\x83"  # flags of a response


@dataclass(frozen=True)
class Attempts:
    """A command's result, and what it tried to reach."""

    returncode: int
    output: str
    names: tuple[str, ...]
    """Names that were looked up."""
    unreachable: int
    """Connections and packets to addresses other than loopback's."""


def run_isolated(command: Sequence[str | Path], environment: dict[str, str], seconds: float = 300) -> Attempts:
    """Run a command without a network.

    Raises:
        OSError: this machine permits no namespaces.
    """
    probe = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        raise OSError(f"no network namespace: {probe.stderr.strip()}")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        whole = [*NAMESPACES, sys.executable, "-m", __name__, str(report), *map(str, command)]
        done = subprocess.run(
            whole, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds
        )
        if not report.exists():
            raise OSError(f"no isolated network: {done.stdout}")
        found = json.loads(report.read_text())
    return Attempts(done.returncode, done.stdout, tuple(found["names"]), found["unreachable"])


def main() -> None:
    report, *command = sys.argv[1:]
    _start_loopback()
    with tempfile.TemporaryDirectory() as folder:
        _replace(Path(folder), Path("/etc/resolv.conf"), "nameserver 127.0.0.1\noptions attempts:1 timeout:2\n")
        _replace(Path(folder), Path("/etc/nsswitch.conf"), "hosts: files dns\n")
        names: list[str] = []
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 53))
        threading.Thread(target=_answer, args=(server, names), daemon=True).start()
        code = subprocess.run(command, check=False).returncode
        Path(report).write_text(json.dumps({"names": names, "unreachable": _unreachable()}))
    sys.exit(code)


def _start_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", UP))


def _replace(folder: Path, path: Path, text: str) -> None:
    """Show another file at a path, in this process's mount namespace only."""
    if path.exists():
        new = folder / path.name
        new.write_text(text)
        subprocess.run(["mount", "--bind", str(new), str(path)], check=True)


def _answer(server: socket.socket, names: list[str]) -> None:
    """Answer every query with `no such name`, and record the name."""
    while True:
        query, client = server.recvfrom(4096)
        labels, position = [], 12
        while length := query[position]:
            labels.append(query[position + 1 : position + 1 + length].decode("ascii", "replace"))
            position += 1 + length
        names.append(".".join(labels))
        question = query[12 : position + 5]
        server.sendto(query[:2] + NO_SUCH_NAME + b"\x00\x01" + bytes(6) + question, client)


def _unreachable() -> int:
    """Return how often the kernel had no route for a packet or a connection, of both families."""
    titles, values = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines()[:2]]
    total = int(values[titles.index("OutNoRoutes")])
    if Path("/proc/net/snmp6").exists():
        counters = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
        total += int(counters["Ip6OutNoRoutes"])
    return total


if __name__ == "__main__":
    main()
