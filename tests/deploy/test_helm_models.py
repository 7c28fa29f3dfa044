"""Where the chart's Triton has its models from: its init containers' commands, run as they are rendered."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from filecmp import dircmp
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped, unused-ignore]
import pytest
from moto.server import ThreadedMotoServer

from tests.deploy.chart import CLAIM, IMAGE, OWN_STORE, STORE, environment, of_kind, pods, render
from tests.deploy.debian import tool
from tests.deploy.files import ROOT

BUCKET, FOLDER = "bucket", "repository"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
SOURCES = {"claim": CLAIM, "store": STORE, "own store": OWN_STORE, "image": IMAGE}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the committed repository, without what interpreters write into it."""
    folder = tmp_path_factory.mktemp("source") / "repository"
    shutil.copytree(ROOT / "model_repository", folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def store(repository: Path) -> Iterator[str]:
    """Run an S3 server on loopback that holds the repository, and return its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    keys = dict(zip(("aws_access_key_id", "aws_secret_access_key"), CREDENTIALS.values(), strict=True))
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    client.create_bucket(Bucket=BUCKET)
    for path in repository.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), BUCKET, f"{FOLDER}/{path.relative_to(repository)}")
    yield endpoint
    server.stop()


def triton(source: dict[str, Any]) -> dict[str, Any]:
    return pods(render({"models": {"source": source}}))["triton"]


def steps(source: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the init containers by name."""
    return {each["name"]: each for each in triton(source).get("initContainers", ())}


def run(container: dict[str, Any], models: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run an init container's command with another folder as /models."""
    command = [part.replace("/models", str(models)) for part in container["command"]]
    if command[0] == "rclone":
        command[0] = tool("usr/bin/rclone", "rclone")
    variables = {"PATH": os.environ["PATH"], **environment(container), **more}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=60)


def own_store(endpoint: str, folder: str = FOLDER) -> dict[str, Any]:
    return {"objectStore": {"url": f"s3://{BUCKET}/{folder}", "endpoint": endpoint}}


def same(left: Path, right: Path) -> bool:
    compared = dircmp(left, right)
    different = compared.left_only + compared.right_only + compared.diff_files + compared.funny_files
    return not different and all(same(left / each, right / each) for each in compared.common_dirs)


def test_the_demo_is_in_the_image() -> None:
    pod = triton({})
    assert "initContainers" not in pod
    assert not [mount for mount in pod["containers"][0]["volumeMounts"] if mount["mountPath"] == "/models"]


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_triton_reads_the_models_that_were_checked(source: dict[str, Any]) -> None:
    pod = triton(source)
    [volume] = [each for each in pod["volumes"] if each["name"] == "models"]
    copied = "persistentVolumeClaim" not in source
    assert list(steps(source)) == ["copy-models", "check-models"][not copied :]
    if copied:
        assert steps(source)["copy-models"]["volumeMounts"] == [{"name": "models", "mountPath": "/models"}]
        assert volume["emptyDir"] == {"sizeLimit": "10Gi"}
    else:
        assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    [container] = pod["containers"]
    [mount] = steps(source)["check-models"]["volumeMounts"]
    assert mount in container["volumeMounts"] and mount["readOnly"] is True
    assert mount.get("subPath") == ("model_repository" if not copied else None)
    assert steps(source)["check-models"]["image"] == container["image"]


def test_a_store_is_copied_file_by_file(store: str, repository: Path, tmp_path: Path) -> None:
    container = steps(own_store(store))["copy-models"]
    done = run(container, tmp_path, **CREDENTIALS)
    assert done.returncode == 0, done.stderr
    assert same(repository, tmp_path)


def test_an_empty_folder_of_a_store_is_refused_with_a_reason(store: str, tmp_path: Path) -> None:
    source = own_store(store, "nothing")
    assert run(steps(source)["copy-models"], tmp_path, **CREDENTIALS).returncode == 0  # as rclone sees it
    checked = run(steps(source)["check-models"], tmp_path)
    assert checked.returncode == 1 and f"s3://{BUCKET}/nothing" in checked.stderr


@pytest.mark.parametrize(
    ("bucket", "credentials", "reason"),
    [("other", CREDENTIALS, "directory not found"), (BUCKET, {}, "NoCredentialProviders")],
    ids=["no such bucket", "no credentials"],
)
def test_a_store_that_refuses_ends_the_start_with_a_reason(
    store: str, tmp_path: Path, bucket: str, credentials: dict[str, str], reason: str
) -> None:
    container = steps({"objectStore": {"url": f"s3://{bucket}/{FOLDER}", "endpoint": store}})["copy-models"]
    once = {"RCLONE_RETRIES": "1", "RCLONE_LOW_LEVEL_RETRIES": "1"}
    nobody = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    done = run(container, tmp_path, **once, **nobody, **credentials)
    assert done.returncode != 0
    assert reason in done.stderr


def test_credentials_come_from_the_secret_only() -> None:
    container = steps(STORE)["copy-models"]
    secret = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each}
    assert secret == {name: {"name": "models-s3", "key": name} for name in CREDENTIALS}
    assert environment(container) == {"RCLONE_S3_PROVIDER": "AWS", "RCLONE_S3_ENV_AUTH": "true"}
    assert not [each for each in steps(OWN_STORE)["copy-models"]["env"] if "valueFrom" in each]  # the pod's identity


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        (None, 443),
        ("https://minio", 443),
        ("http://minio", 80),
        ("http://minio:9000", 9000),
        ("https://[::1]:9443", 9443),
    ],
)
def test_triton_may_reach_the_store(endpoint: str | None, port: int) -> None:
    source = {"objectStore": {"url": "s3://a", **({"endpoint": endpoint} if endpoint else {})}}
    policies = of_kind(render({"models": {"source": source}}), "NetworkPolicy")
    allowed = [each["port"] for rule in policies["triton"]["spec"]["egress"] for each in rule["ports"]]
    assert allowed == [53, 53, port]


def test_an_images_models_are_copied(repository: Path, tmp_path: Path) -> None:
    container = steps({"image": {"reference": "a", "path": "/opt/repository/"}})["copy-models"]
    assert container["command"] == ["cp", "-R", "/opt/repository/.", "/models"]
    container["command"][2] = f"{repository}/."
    assert run(container, tmp_path).returncode == 0
    assert same(repository, tmp_path)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("content", ["nothing", "a folder too high", "a gateway's", "an unreadable one"])
def test_a_repository_without_models_is_refused_with_a_reason(
    source: dict[str, Any], content: str, repository: Path, tmp_path: Path
) -> None:
    if content == "a folder too high":
        (tmp_path / "model_repository").symlink_to(repository)
    elif content == "a gateway's":  # networks without Triton's configuration
        shutil.copytree(repository, tmp_path, ignore=shutil.ignore_patterns("config.pbtxt"), dirs_exist_ok=True)
    elif content == "an unreadable one":
        (tmp_path / "demo").mkdir()
        (tmp_path / "demo/config.pbtxt").symlink_to("nowhere")
    container = steps(source)["check-models"]
    done = run(container, tmp_path)
    assert done.returncode == 1
    assert "has no model for Triton" in done.stderr
    assert next(iter(source)) in done.stderr and next(iter(next(iter(source.values())).values())) in done.stderr
    assert all(path.name in done.stderr for path in tmp_path.iterdir())
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"  # so that `kubectl describe` shows it


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_repository_with_models_passes(source: dict[str, Any], repository: Path) -> None:
    assert run(steps(source)["check-models"], repository).returncode == 0
