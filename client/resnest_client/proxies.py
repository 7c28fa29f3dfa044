"""Proxies named by the environment: requests to this machine itself don't go through them."""

from __future__ import annotations

import ipaddress

import httpx


def direct_mounts(url: httpx.URL) -> dict[str, None]:
    """Return the argument `mounts` of httpx's clients for a server's address.

    A proxy would take a loopback address for its own machine's.
    """
    return {f"all://{url.netloc.decode().rpartition('@')[2]}": None} if _is_loopback(url.host) else {}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
