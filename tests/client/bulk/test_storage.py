"""Files by address: paths, and an object store on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from resnest_client.bulk import storage
from resnest_core.errors import ParameterError, UnreachableError
from tests.client.bulk.conftest import SECRET


@pytest.fixture(params=["path", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "path" else f"{request.getfixturevalue('bucket')}/folder"


@pytest.fixture
def strict(s3: str, bucket: str) -> Iterator[str]:
    """The bucket of a store that knows none of our keys."""
    httpx.post(f"{s3}/moto-api/reset-auth", content=b"0").raise_for_status()
    yield bucket
    httpx.post(f"{s3}/moto-api/reset-auth", content=b"inf").raise_for_status()


def test_what_is_written_is_read_found_and_deleted(folder: str) -> None:
    names = [storage.join(folder, *parts) for parts in (("a.jpg",), ("deep", "b.jpg"), ("c.txt",))]
    for number, name in enumerate(names):
        assert not storage.exists(name)
        storage.write(name, bytes([number]))
        storage.write(name, bytes([number]) * 3)
        assert storage.exists(name) and storage.is_file(name)
    assert [storage.read(name) for name in names] == [b"\0\0\0", b"\1\1\1", b"\2\2\2"]
    assert storage.files_below(folder) == sorted(names)
    assert storage.matching(f"{folder}/*.jpg") == names[:1]
    assert storage.matching(f"{folder}/**/*.jpg") == sorted(names[:2])
    storage.delete(names[0])
    storage.delete(names[0])
    assert storage.files_below(folder) == sorted(names[1:])
    assert not storage.is_file(folder)


@pytest.mark.parametrize(
    "address", ["s3://", "s3:///key", "s3://key:secret@bucket/a", "s3://bucket?region=x", "ftp://a/b"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ParameterError) as refused:
        storage.checked(address)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("verb", ["files_below", "exists", "write"])
def test_a_store_that_refuses(verb: str, strict: str) -> None:
    arguments = (b"data",) if verb == "write" else ()
    with pytest.raises(UnreachableError, match=r"refuses to .*: check the credentials in the environment") as refused:
        getattr(storage, verb)(f"{strict}/folder", *arguments)
    assert SECRET not in str(refused.value)


def test_a_store_that_is_not_there(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(storage, "ATTEMPTS", 1)
    storage._file_system.cache_clear()
    try:
        with pytest.raises(UnreachableError, match="didn't answer"):
            storage.files_below(bucket)
    finally:
        storage._file_system.cache_clear()


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("verb", ["files_below", "write"])
def test_a_bucket_that_is_not_there(verb: str) -> None:
    address, *data = ("s3://no-such-bucket/a", b"data") if verb == "write" else ("s3://no-such-bucket",)
    with pytest.raises(ParameterError, match=r"There is no bucket.*s3://no-such-bucket"):
        getattr(storage, verb)(address, *data)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ParameterError, match="can't be written"):
        storage.write(str(tmp_path / "file" / "a"), b"")
