"""A name server on loopback for one name, whose addresses change: what a headless Service is in Kubernetes."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

from typing_extensions import Self

from resnest_core.closeable import Closeable

ADDRESS_OF_IPV4 = 1  # the type of a question
TTL_SECONDS = 0


class DnsServer(Closeable):
    """Answers every question for IPv4 with `addresses`, and others with none; `target` is for gRPC."""

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> Self:
        self._thread.start()
        return self

    def target(self, port: int) -> str:
        return f"dns://127.0.0.1:{self._socket.getsockname()[1]}/triton:{port}"

    def close(self) -> None:
        with suppress(OSError):  # it has no peer, but the thread wakes up
            self._socket.shutdown(socket.SHUT_RD)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                question, client = self._socket.recvfrom(512)
            except OSError:
                return
            if not question:  # it is shut down
                return
            self._socket.sendto(self._answer(question), client)

    def _answer(self, question: bytes) -> bytes:
        """Return a message of RFC 1035, 4: header, question, and a record for each address."""
        end = question.index(0, 12) + 5
        (kind,) = struct.unpack(">H", question[end - 4 : end - 2])
        addresses = self.addresses if kind == ADDRESS_OF_IPV4 else ()
        header = question[:2] + struct.pack(">5H", 0x8580, 1, len(addresses), 0, 0)
        # The name is a pointer to that of the question.
        record = struct.pack(">3HIH", 0xC00C, ADDRESS_OF_IPV4, 1, TTL_SECONDS, 4)
        return header + question[12:end] + b"".join(record + socket.inet_aton(address) for address in addresses)
