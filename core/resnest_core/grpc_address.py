"""The address of a server's gRPC port, as users write it."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from resnest_core.errors import ParameterError

SCHEME = "grpc"
PORT = 8001  # Triton's default
URL = f"{SCHEME}://localhost:{PORT}"
# gRPC's own ways to name servers, such as dns:///host:8001 and unix:/path: they are left as they are.
RESOLVERS = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):(?!\d*$)")


def grpc_address(url: str) -> str:
    """Return what gRPC connects to: `host:port` of `host`, `host:8001` or `grpc://host:8001`.

    Raises:
        ParameterError: it isn't the address of a gRPC port.
    """
    text = url.strip()
    if RESOLVERS.match(text):
        return text
    if _is_ipv6(text):
        text = f"[{text}]"
    try:
        parts = urlsplit(text if "://" in text else f"{SCHEME}://{text}")
        host, port = parts.hostname, PORT if parts.port is None else parts.port
    except ValueError:
        host, port = None, 0
    if not host or not port or re.search(r"\s", text):
        raise _not_an_address(url)
    if parts.scheme != SCHEME or "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise _not_an_address(url)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _not_an_address(url: str) -> ParameterError:
    shown = re.sub(r"//[^/@]*@", "//", url)  # no user's name and password
    return ParameterError(f"{shown} is not an address of gRPC: use one such as {URL}.")
