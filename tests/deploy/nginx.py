"""Debian's nginx with the block that docs/operations.md shows."""

from __future__ import annotations

import random
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

import httpx

from tests.deploy.debian import tool
from tests.deploy.files import ROOT

# Below the ports that the system gives to clients: one of theirs could take a gateway's port while it restarts.
PORTS = range(20000, 32000)

MAIN = """\
daemon off;
worker_processes 1;
user {user};
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    log_format tries '$status $upstream_status';
    access_log {folder}/access.log tries;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    include {folder}/resnest.conf;
}}
"""
"""What surrounds the block, and by default would be in folders that only root may write."""


@dataclass(frozen=True)
class Nginx:
    """A running nginx."""

    url: str
    certificate: Path
    folder: Path

    def client(self) -> httpx.Client:
        """Return a client that keeps its connection, doesn't retry, and checks the certificate."""
        trusted = ssl.create_default_context(cafile=str(self.certificate))
        return httpx.Client(base_url=self.url, verify=trusted, timeout=60)

    def tries(self) -> list[tuple[str, list[str]]]:
        """Return the status of each request so far that reached a gateway, and the statuses of its tries."""
        lines = (line.partition(" ") for line in (self.folder / "access.log").read_text().splitlines())
        return [(status, tries.split(", ")) for status, _, tries in lines if tries != "-"]

    def errors(self) -> str:
        """Return what nginx logged as errors: failed tries too."""
        return (self.folder / "error.log").read_text()


def documented_block() -> str:
    """Return nginx's configuration in docs/operations.md."""
    (block,) = re.findall(r"^```nginx\n(.+?)^```$", (ROOT / "docs/operations.md").read_text(), re.DOTALL | re.MULTILINE)
    return str(block)


def free_ports(count: int) -> list[int]:
    """Return ports of loopback on which nothing listens."""
    found = []
    for port in random.sample(PORTS, len(PORTS)):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("All ports are taken.")


@contextmanager
def nginx(folder: Path, gateways: tuple[int, int], changes: Mapping[str, str] = {}) -> Iterator[Nginx]:
    """Run the block that the docs show, with a certificate made for it, in front of gateways on two ports.

    Args:
        folder: an empty folder for its files.
        gateways: ports of loopback.
        changes: parts of the block to replace, such as times that would take a test too long.
    """
    (port,) = free_ports(1)
    certificate, key = folder / "detect.pem", folder / "detect.key"
    _make_certificate(certificate, key)
    block = documented_block()
    places = {
        "127.0.0.1:8000": f"127.0.0.1:{gateways[0]}",
        "127.0.0.1:8001": f"127.0.0.1:{gateways[1]}",
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/ssl/detect.pem": str(certificate),
        "/etc/ssl/detect.key": str(key),
    }
    for old, new in {**places, **changes}.items():
        assert block.count(old) == 1, old
        block = block.replace(old, new)
    (folder / "resnest.conf").write_text(block)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=getuser()))
    command = [tool("usr/sbin/nginx", "nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with (folder / "stderr").open("wb") as stderr, subprocess.Popen(command, stderr=stderr) as process:
        try:
            _await_listening(port, process, folder)
            yield Nginx(f"https://127.0.0.1:{port}", certificate, folder)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _make_certificate(certificate: Path, key: Path) -> None:
    names = ["-subj", "/CN=detect.example.com", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["-x509", "-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = [tool("usr/bin/openssl", "openssl"), "req", *kind, *names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)


def _await_listening(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, (folder / "stderr").read_text() + (folder / "error.log").read_text()
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError("nginx doesn't listen.")
