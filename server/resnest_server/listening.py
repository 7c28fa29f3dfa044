"""The sockets that the gateway listens on."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from contextlib import ExitStack
from typing import Any

from resnest_core.errors import ParameterError

BACKLOG = 2048  # connections waiting to be accepted
EVERY = {"::": ("::", "0.0.0.0")}
"""Hosts that stand for several. One socket of both families would show clients of IPv4 as `::ffff:10.0.0.1`."""
ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # where IPv6 is turned off, `localhost` may still resolve to it


def listen(host: str, port: int, backlog: int = BACKLOG) -> list[socket.socket]:
    """Return a listening socket for each of a host's addresses; `::` is every address of IPv6 and IPv4.

    Args:
        host: an address or a name.
        port: 0: a free one, the same for all addresses.
        backlog: connections that may wait to be accepted, of each socket.

    Raises:
        ParameterError: this machine has none of the addresses, or one of its own can't be listened on.
    """
    listeners: list[socket.socket] = []
    absent: OSError | None = None
    with ExitStack() as opened:
        try:
            for family, address in _addresses(host):
                try:
                    place = (address[0], port, *address[2:])
                    listener = socket.create_server(place, family=family, backlog=backlog)
                except OSError as error:
                    if error.errno not in ABSENT:
                        raise
                    absent = error
                    continue
                listeners.append(opened.enter_context(listener))
                port = port or listener.getsockname()[1]
            if absent and not listeners:
                raise absent
        except (OSError, ValueError) as error:  # ValueError: the name is none that could be looked up
            code = error.errno if isinstance(error, OSError) else None
            reason = os.strerror(code).lower() if code is not None and code > 0 else "the name is unknown"
            raise ParameterError(f"{authority(host, port)} can't be listened on: {reason}; choose another.") from error
        opened.pop_all()
    return listeners


def authority(host: str, port: int) -> str:
    """Return host and port as they are written in a URL."""
    try:
        is_ipv6 = ipaddress.ip_address(host).version == 6
    except ValueError:
        is_ipv6 = False
    return f"[{host}]:{port}" if is_ipv6 else f"{host}:{port}"


def _addresses(host: str) -> list[tuple[int, tuple[Any, ...]]]:
    """Return family and address of each socket."""
    found: list[tuple[int, tuple[Any, ...]]] = [
        (family, address)
        for name in EVERY.get(host, (host,))
        for family, _, _, _, address in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    ]
    return list(dict.fromkeys(found))
