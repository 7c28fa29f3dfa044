"""A worker, without a cluster: what it writes of a part, and what keeps it from working."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from resnest_client.bulk import storage
from resnest_client.bulk.results import ResultFormat
from resnest_client.bulk.sources import Piece
from resnest_client.bulk.worker import Job, PartDetector, printable
from resnest_core.card import read_card
from resnest_core.errors import UnreachableError
from resnest_core.repository import find_model, find_repository
from tests.client.bulk.test_bulk import PHOTOGRAPHS

REPOSITORY = find_repository(None).absolute()
CARD = read_card(find_model("demo", REPOSITORY))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "out").mkdir()
    return Job(
        output=str(tmp_path / "out"),
        format=ResultFormat(),
        card=CARD,
        model="demo",
        repository=str(REPOSITORY),
        repository_is_named=True,
        runtime=None,
        device=None,
        threads=1,
        score_threshold=0.5,
        image_column=None,
        name_column=None,
        local_folders=(str(tmp_path),),
    )


def work(job: Job, pieces: list[Piece]) -> dict[str, Any]:
    batch = {"part": [3], "pieces": [json.dumps(pieces)]}
    return {name: values[0] for name, values in PartDetector(job)(batch).items()}


def test_parquet_becomes_parquet(job: Job, tmp_path: Path) -> None:
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in PHOTOGRAPHS[:2]]
    table = pa.table({"image": [images[0], None, images[1], {"bytes": b"damaged", "path": "x"}]})
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=3)
    address = str(tmp_path / "in.parquet")
    pieces = [Piece("in.parquet", address, 0, 0, 3), Piece("in.parquet", address, 1, 0, 1)]
    assert work(job, pieces) == {"part": 3, "images": 2, "failed": 2, "problem": "", "fatal": False}
    written = parquet.read_table(tmp_path / "out/results/part-00003.parquet")
    assert written.column("row").to_pylist() == [0, 2]
    assert written.column("file").to_pylist() == ["in.parquet#0", "in.parquet#2"]
    assert all(row["score"] >= 0.5 for found in written.column("detections").to_pylist() for row in found)
    assert json.loads(written.schema.metadata[b"resnest_card"])["name"] == "demo"
    errors = [json.loads(line) for line in (tmp_path / "out/errors/part-00003.jsonl").read_text().splitlines()]
    assert [error["row"] for error in errors] == [1, 3]
    assert errors[0]["error"] == "The row holds no image."


def test_a_column_of_addresses(job: Job, tmp_path: Path) -> None:
    parquet.write_table(pa.table({"path": [str(PHOTOGRAPHS[0]), "away.jpg"]}), tmp_path / "in.parquet")
    done = work(replace(job, format=ResultFormat("native")), [Piece("t", str(tmp_path / "in.parquet"), 0, 0, 2)])
    assert (done["images"], done["failed"], done["problem"]) == (1, 1, "")
    (line,) = (tmp_path / "out/results/part-00003.jsonl").read_text().splitlines()
    assert json.loads(line)["file"] == str(PHOTOGRAPHS[0])


def test_the_same_part_gives_the_same_file(job: Job, tmp_path: Path) -> None:
    pieces = [Piece(path.name, str(path)) for path in PHOTOGRAPHS[:2]]
    files = []
    for _ in range(2):
        work(job, pieces)
        files.append((tmp_path / "out/results/part-00003.parquet").read_bytes())
    assert files[0] == files[1]


def test_a_worker_without_the_model(job: Job, tmp_path: Path) -> None:
    done = work(replace(job, repository=str(tmp_path / "models")), [Piece("a", str(PHOTOGRAPHS[0]))])
    assert done["fatal"] and "Copy the model repository to every node" in done["problem"]
    assert not list((tmp_path / "out").iterdir())


def test_a_worker_with_another_model_of_this_name(job: Job, tmp_path: Path) -> None:
    other = replace(job, card=CARD.model_copy(update={"checkpoint_sha256": "0" * 64}))
    done = work(other, [Piece("a", str(PHOTOGRAPHS[0]))])
    assert done["fatal"] and "is another one than where the command runs" in done["problem"]
    assert not list((tmp_path / "out").iterdir())


def test_a_node_that_does_not_see_the_folders(job: Job) -> None:
    done = work(replace(job, local_folders=("/nowhere",)), [Piece("a", str(PHOTOGRAPHS[0]))])
    assert done["fatal"] and "/nowhere isn't there: every node must see" in done["problem"]


def test_a_part_whose_store_does_not_answer_is_left_for_the_next_run(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(address: str) -> bytes:
        raise UnreachableError(f"The object store didn't answer to read {address}.")

    monkeypatch.setattr(storage, "read", away)
    done = work(job, [Piece("a", str(PHOTOGRAPHS[0])), Piece("b", "s3://pictures/b.jpg")])
    assert not done["fatal"] and "didn't answer" in done["problem"]
    assert not list((tmp_path / "out").iterdir())


def test_names_that_are_no_text_are_written() -> None:
    assert printable("café\udce9.jpg") == "café\\xe9.jpg"
