"""Description of the machine and command; it contains no secrets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import resnest_core
from resnest_client.bench.machine import command_line, describe_machine, git_commit, package_versions
from resnest_client.detector_options import without_user


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["--api-key", "secret", "--count", "3"], "resnest bench --api-key … --count 3"),
        (["--api-key=secret"], "resnest bench --api-key=…"),
        (["--url", "http://me:secret@host:1/x"], "resnest bench --url http://host:1/x"),
        (["--url=https://secret@host"], "resnest bench --url=https://host"),
        (["--images", "my photographs"], "resnest bench --images 'my photographs'"),
    ],
)
def test_keys_and_passwords_are_hidden(given: list[str], shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/resnest", "bench", *given])
    assert "secret" not in command_line()
    assert command_line().replace("'…'", "…").replace("'--api-key=…'", "--api-key=…") == shown


def test_an_address_without_a_user_stays() -> None:
    assert without_user("grpc://localhost:8001") == "grpc://localhost:8001"
    assert without_user("a@b") == "a@b"


def test_the_machine_has_a_name() -> None:
    machine = describe_machine()
    assert machine["cpu"] and int(machine["cores"]) >= 1 and float(machine["memory_gib"]) > 0
    assert "numpy" in package_versions()


def test_the_commit_is_that_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "core" / "resnest_core" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.touch()
    monkeypatch.setattr(resnest_core, "__file__", str(package))
    assert git_commit() is None
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "--message", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    commit = git_commit()
    assert commit is not None and re.fullmatch("[0-9a-f]{40}", commit)
    package.write_text("changed")
    assert git_commit() == f"{commit}-dirty"
