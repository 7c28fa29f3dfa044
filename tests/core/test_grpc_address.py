"""Addresses of gRPC ports as users write them."""

from __future__ import annotations

import pytest

from resnest_core.errors import ParameterError
from resnest_core.grpc_address import grpc_address


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("grpc://host", "host:8001"),
        ("grpc://host:9/", "host:9"),
        ("GRPC://host:9", "host:9"),
        (" grpc://host:9\n", "host:9"),
        ("grpc://10.0.0.1:9000", "10.0.0.1:9000"),
        ("grpc://[::1]:9", "[::1]:9"),
        ("grpc://[::1]", "[::1]:8001"),
        ("host", "host:8001"),
        ("host:8001", "host:8001"),
        ("host:", "host:8001"),
        ("triton.models.svc.cluster.local:9001", "triton.models.svc.cluster.local:9001"),
        ("10.0.0.1", "10.0.0.1:8001"),
        ("[::1]:9", "[::1]:9"),
        ("::1", "[::1]:8001"),
        ("fd00::2", "[fd00::2]:8001"),
        ("dns", "dns:8001"),
        ("dns:9", "dns:9"),
        ("dns:///triton:8001", "dns:///triton:8001"),
        ("unix:/run/triton.sock", "unix:/run/triton.sock"),
        ("ipv4:10.0.0.1:8001,10.0.0.2:8001", "ipv4:10.0.0.1:8001,10.0.0.2:8001"),
    ],
)
def test_addresses(url: str, expected: str) -> None:
    assert grpc_address(url) == expected


@pytest.mark.parametrize(
    "url",
    ["", "  ", "http://host", "https://host:8001", "http://host:8000", "tcp://10.0.0.1:8001", "grpc://", "grpc://:8001",
     "grpc://host:x", "grpc://host:70000", "grpc://host:0", "grpc://[::1", "grpc://user@host", "grpc://host/path",
     "grpc://host?a=b", "host/path", "user@host:8001", "two hosts:8001"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ParameterError, match="is not an address of gRPC: use one such as grpc://localhost:8001"):
        grpc_address(url)


def test_secrets_of_an_address_are_not_shown() -> None:
    with pytest.raises(ParameterError) as error:
        grpc_address("grpc://user:secret@host:8001")
    assert "secret" not in str(error.value)
