"""Files by address: a path, or one in an object store (`s3://bucket/key`, `gs://bucket/key`), through pyarrow.

An address holds no credentials and no options: those come from the environment, as the store's own tools read it
(`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, …).
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from resnest_core.errors import ParameterError, UnreachableError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

REMOTE = re.compile(r"(s3|gs)://")
BUCKET = re.compile(r"(s3|gs)://[A-Za-z0-9][A-Za-z0-9_.-]+(/|$)")
WILD = re.compile(r"[*?[]")
PARTIAL = ".partial"  # end of the name of a local file that is being written; such names begin with a dot
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # the first that is set counts, as in boto3
CONNECT_SECONDS = 10
REQUEST_SECONDS = 60
ATTEMPTS = 4

# What pyarrow's errors say, and what that means. Their own texts aren't shown: they repeat addresses of requests.
MISSING_BUCKET = ("NO_SUCH_BUCKET", "NoSuchBucket", "bucket does not exist", "Bucket does not exist")
REFUSED = (
    *("ACCESS_DENIED", "AccessDenied", "Access Denied", "INVALID_ACCESS_KEY_ID", "InvalidAccessKeyId", "HTTP response"),
    *("SIGNATURE_DOES_NOT_MATCH", "SignatureDoesNotMatch", "InvalidClientTokenId", "UNRECOGNIZED_CLIENT"),
    *("EXPIRED_TOKEN", "ExpiredToken", "PERMISSION_DENIED", "UNAUTHENTICATED", "No response body"),
)


def is_remote(address: str) -> bool:
    """Tell whether an address is one of an object store."""
    return REMOTE.match(address) is not None


def checked(address: str) -> str:
    """Return an address without slashes at its end; a local path as an absolute one.

    Raises:
        ParameterError: it is an address of another kind, or holds more than bucket and key.
    """
    if is_remote(address):
        if not BUCKET.match(address):
            raise ParameterError(
                "An address in an object store is s3://bucket/key or gs://bucket/key: credentials, hosts and options "
                "are taken from the environment only."
            )
        return address.rstrip("/")
    if "://" in address:
        scheme = address.partition("://")[0]
        raise ParameterError(f"Addresses of {scheme}:// can't be read: use a path, s3://… or gs://….")
    return str(Path(address).absolute()) if not WILD.search(address) else os.path.abspath(address)  # noqa: PTH100


def join(folder: str, *names: str) -> str:
    """Return the address of what is in a folder."""
    return "/".join((folder.rstrip("/"), *names))


def locate(address: str) -> tuple[FileSystem, str]:
    """Return the file system of an address, and its path there."""
    if not is_remote(address):
        return _file_system("", ""), address
    scheme, _, path = address.partition("://")
    return _file_system(scheme, path.partition("/")[0]), path


@lru_cache(maxsize=64)
def _file_system(scheme: str, bucket: str) -> FileSystem:
    from pyarrow import fs

    if not scheme:
        return fs.LocalFileSystem()
    if scheme == "gs":
        return fs.GcsFileSystem()
    endpoint = next(filter(None, map(os.environ.get, ENDPOINTS)), None)
    region = next(filter(None, map(os.environ.get, REGIONS)), None)
    if region is None and endpoint is None:
        with readable(f"s3://{bucket}"):
            region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        region=region or "us-east-1",
        endpoint_override=endpoint,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


@contextmanager
def readable(address: str, verb: str = "read") -> Iterator[None]:
    """Turn a file system's errors into one sentence.

    Raises:
        ParameterError: there is no such bucket, or a local file can't be used.
        UnreachableError: the object store refuses, or can't be reached.
    """
    try:
        yield
    except FileNotFoundError as error:
        if is_remote(address):
            raise ParameterError(f"There is no bucket, or nothing in it, at {address}: check the address.") from error
        raise ParameterError(f"There is no file or folder {address}.") from error
    except OSError as error:
        if not is_remote(address):
            reason = error.strerror or "it can't be used"
            raise ParameterError(f"{address} can't be {'written' if verb == 'write' else verb} ({reason}).") from error
        text = str(error)
        if any(sign in text for sign in MISSING_BUCKET):
            raise ParameterError(f"There is no bucket at {address}: check the address.") from error
        if any(sign in text for sign in REFUSED):
            raise UnreachableError(
                f"The object store refuses to {verb} {address}: check the credentials in the environment, and their "
                "rights."
            ) from error
        raise UnreachableError(
            f"The object store didn't answer to {verb} {address}: check the network and the endpoint in the "
            "environment."
        ) from error


def read(address: str) -> bytes:
    """Return a file's bytes.

    Raises:
        OSError: as the file system raises it.
    """
    file_system, path = locate(address)
    with file_system.open_input_file(path) as file:
        data: bytes = file.read()
    return data


def write(address: str, data: bytes) -> None:
    """Write a file as a whole: at no time is a part of it under its name. Its folder is made, where it isn't there.

    Raises:
        ParameterError: it can't be written.
        UnreachableError: the object store refuses, or can't be reached.
    """
    with readable(address, "write"):
        if is_remote(address):
            file_system, path = locate(address)
            with file_system.open_output_stream(path) as stream:  # visible once it is closed
                stream.write(data)
            return
        target = Path(address)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}{PARTIAL}")
        try:
            partial.write_bytes(data)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def delete(address: str) -> None:
    """Delete a file, if it is there.

    Raises:
        UnreachableError: the object store refuses, or can't be reached.
    """
    with readable(address, "delete"):
        if not is_remote(address):
            Path(address).unlink(missing_ok=True)
        elif exists(address):
            file_system, path = locate(address)
            file_system.delete_file(path)


def exists(address: str) -> bool:
    """Tell whether there is a file, or anything below an address.

    Raises:
        ParameterError: there is no such bucket.
        UnreachableError: the object store refuses, or can't be reached.
    """
    from pyarrow.fs import FileType

    if not is_remote(address):
        return Path(address).exists()
    with readable(address):
        file_system, path = locate(address)
        return bool(file_system.get_file_info(path).type != FileType.NotFound)


def is_file(address: str) -> bool:
    """Tell whether an address is that of a file; raises as `exists`."""
    from pyarrow.fs import FileType

    if not is_remote(address):
        return Path(address).is_file()
    with readable(address):
        file_system, path = locate(address)
        return bool(file_system.get_file_info(path).type == FileType.File)


def files_below(address: str) -> list[str]:
    """Return the addresses of all files in a folder and the folders in it, sorted; none where there is no folder.

    Raises:
        ParameterError: there is no such bucket.
        UnreachableError: the object store refuses, or can't be reached.
    """
    if not is_remote(address):
        return sorted(
            os.path.join(folder, name)  # noqa: PTH118 - a million of them
            for folder, _, names in os.walk(address)
            for name in names
        )
    from pyarrow.fs import FileSelector, FileType

    with readable(address):
        file_system, path = locate(address)
        if "/" not in path and file_system.get_file_info(path).type == FileType.NotFound:
            raise FileNotFoundError(path)
        found = file_system.get_file_info(FileSelector(path, allow_not_found=True, recursive=True))
    scheme = address.partition("://")[0]
    return sorted(f"{scheme}://{info.path}" for info in found if info.type == FileType.File)


def matching(pattern: str) -> list[str]:
    """Return the addresses of the files that a pattern with `*`, `?`, `[…]` or `**` matches, sorted."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from fsspec.implementations.local import LocalFileSystem

    with readable(pattern):
        if not is_remote(pattern):
            return sorted(path for path in LocalFileSystem().glob(pattern) if Path(path).is_file())
        file_system, path = locate(pattern)
        found = ArrowFSWrapper(file_system).glob(path, detail=True)
    scheme = pattern.partition("://")[0]
    return sorted(f"{scheme}://{name}" for name, info in found.items() if info["type"] == "file")
