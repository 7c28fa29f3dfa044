"""A Ray cluster of two workers with a CPU each, and an S3 server on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

SECRET = "not-to-be-shown-8f1c"
STORE_BYTES = 80 * 2**20


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an S3 server."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def cluster(s3: str) -> Iterator[str]:
    """The address of a cluster whose nodes have the S3 server and credentials in their environment."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        set_store(patch, s3)
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False},
        )
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        cluster.wait_for_nodes()
        yield cluster.address
        cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty bucket."""
    set_store(monkeypatch, s3)
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket="pictures")
    yield "s3://pictures"
    for item in client.list_objects_v2(Bucket="pictures").get("Contents", []):
        client.delete_object(Bucket="pictures", Key=item["Key"])
    client.delete_bucket(Bucket="pictures")


def set_store(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
