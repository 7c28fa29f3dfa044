"""`resnest detect --ray` on a real cluster of two workers, with the demo model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import psutil
import pyarrow as pa
import pytest
import typer
from pyarrow import parquet
from typer.testing import CliRunner, Result

from resnest_client import commands
from resnest_client.bulk import detect_dataset
from resnest_core import load_detector
from resnest_core.errors import ParameterError
from tests.client.bulk.conftest import SECRET

PHOTOGRAPHS = sorted((Path(__file__).parents[2] / "data" / "demo" / "images").glob("*.jpg"))


def detect(*arguments: str | Path) -> Result:
    app = typer.Typer()
    commands.register(app)
    return CliRunner().invoke(app, ["detect", *map(str, arguments)])


def rows(output: str | Path) -> list[dict[str, Any]]:
    files = sorted(Path(output, "results").glob("*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def copies(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:03}.jpg").write_bytes(PHOTOGRAPHS[number % len(PHOTOGRAPHS)].read_bytes())
    return folder


def workers() -> list[psutil.Process]:
    """The processes of this machine's cluster that hold a detector: descendants of this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ray::MapWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            pass
    return found


def test_results_are_those_of_detect_and_bad_files_are_listed(cluster: str, tmp_path: Path) -> None:
    folder = copies(tmp_path / "images", 3)
    (folder / "deep").mkdir()
    (folder / "deep" / "000.jpg").write_bytes(PHOTOGRAPHS[0].read_bytes())
    (folder / "bad.jpg").write_bytes(b"no image")
    result = detect("--ray", cluster, folder, "--output", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert "1 of 5 images couldn't be used" in result.output
    found = {Path(row["file"]).relative_to(folder).as_posix(): row for row in rows(tmp_path / "out")}
    assert sorted(found) == ["000.jpg", "001.jpg", "002.jpg", "deep/000.jpg"]
    with load_detector("demo") as detector:
        for name, row in found.items():
            expected = detector.detect(folder / name)
            assert [one["label"] for one in row["detections"]] == expected.labels.tolist()
            boxes = np.array([one["box_xyxy"] for one in row["detections"]])
            assert np.allclose(boxes, expected.boxes_xyxy, atol=0.01)
            assert np.allclose([one["score"] for one in row["detections"]], expected.scores, atol=1e-4)
            assert all(one["mask"]["size"] == [row["height"], row["width"]] for one in row["detections"])
            assert (row["model"], row["checkpoint_sha256"]) == ("demo", detector.card.checkpoint_sha256)
    errors = [json.loads(line) for file in (tmp_path / "out" / "errors").iterdir() for line in file.open()]
    assert [Path(error["file"]).name for error in errors] == ["bad.jpg"]
    again = detect("--ray", cluster, folder, "--output", tmp_path / "out")
    assert "5 of 5 images are done already" in again.output
    other = detect("--ray", cluster, folder, "--output", tmp_path / "out", "--score-threshold", "0.5")
    assert isinstance(other.exception, ParameterError)
    assert "another run, which differs in score threshold" in str(other.exception)


def test_a_killed_worker_loses_nothing_and_doubles_nothing(cluster: str, tmp_path: Path) -> None:
    folder = copies(tmp_path / "images", 32)
    killed: list[int] = []

    def kill() -> None:
        for _ in range(600):
            if any((tmp_path / "out" / "results").glob("*.parquet")) and (found := workers()):
                killed.append(found[0].pid)
                found[0].send_signal(signal.SIGKILL)
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    result = detect_dataset([str(folder)], str(tmp_path / "out"), address=cluster, part_size=4)
    killer.join()
    assert killed
    assert (result.images, result.failed) == (32, 0)
    assert sorted(Path(row["file"]).name for row in rows(tmp_path / "out")) == [f"{n:03}.jpg" for n in range(32)]


def test_an_interrupted_run_is_continued(cluster: str, tmp_path: Path) -> None:
    folder, output = copies(tmp_path / "images", 32), tmp_path / "out"
    code = (
        "import sys; from resnest_client.bulk import detect_dataset; "
        "detect_dataset([sys.argv[1]], sys.argv[2], address=sys.argv[3], part_size=4)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, str(folder), str(output), cluster])
    while driver.poll() is None and len(list((output / "results").glob("*.parquet"))) < 2:
        time.sleep(0.02)
    assert driver.poll() is None, "it ended before it could be interrupted"
    driver.kill()
    driver.wait()
    time.sleep(2)  # Ray ends the workers of a driver that is gone
    before = {file.name: file.stat().st_mtime_ns for file in (output / "results").glob("part-*.parquet")}
    result = detect_dataset([str(folder)], str(output), address=cluster, part_size=4)
    assert 8 <= result.done_before < 32
    assert result.images == 32 - result.done_before
    assert {name: (output / "results" / name).stat().st_mtime_ns for name in before} == before
    assert sorted(Path(row["file"]).name for row in rows(output)) == [f"{n:03}.jpg" for n in range(32)]


def test_parquet_and_object_store(cluster: str, bucket: str, s3: str, tmp_path: Path) -> None:
    data = [photograph.read_bytes() for photograph in PHOTOGRAPHS[:2]] + [b"no image", None]
    table = pa.table({"number": [1, 2, 3, 4], "name": ["same", "same", "bad", "none"], "picture": data})
    parquet.write_table(table, tmp_path / "in.parquet")
    client = boto3.client("s3", endpoint_url=s3)
    client.upload_file(str(tmp_path / "in.parquet"), "pictures", "in/table.parquet")
    result = detect("--ray", cluster, f"{bucket}/in", "--output", f"{bucket}/out", "--format", "native")
    assert "2 of 4 images couldn't be used" in result.output, result.output
    keys = [item["Key"] for item in client.list_objects_v2(Bucket="pictures", Prefix="out/")["Contents"]]
    texts = {key: client.get_object(Bucket="pictures", Key=key)["Body"].read() for key in keys}
    lines = [json.loads(line) for key, text in texts.items() if "results/" in key for line in text.splitlines()]
    assert [(line["file"], line["address"], line["row"]) for line in lines] == [
        ("same", "s3://pictures/in/table.parquet", 0),
        ("same", "s3://pictures/in/table.parquet", 1),
    ]
    assert all(line["detections"] for line in lines)
    assert SECRET not in result.output
    assert not any(SECRET.encode() in text for text in texts.values())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing"], "There is no file or folder missing."),
        (["empty"], "holds no images"),
        (["damaged.parquet"], "can't be read as a Parquet file"),
        (["numbers.parquet"], "number (int64)"),
        (["texts.parquet", "--image-column", "data"], "bytes that aren't images"),
        (["s3://somebody:secret@pictures/a"], "taken from the environment only"),
        (["s3://no-such-bucket/a"], "There is no"),
        (["images", "--tiles", "512"], "--tiles can't be used with --ray"),
        (["images", "--url", "http://localhost"], "--url can't be used with --ray"),
        (["images", "--format", "coco"], "one list, not lines"),
        (["images", "--model", "nobody"], "There is no model 'nobody'"),
        (["images", "--output", "images/out"], "is in the source"),
        (["images", "--output", "other"], "isn't empty"),
        (["--ray=127.0.0.1:1", "images"], "There is no Ray cluster at 127.0.0.1:1"),
    ],
)
@pytest.mark.usefixtures("bucket")
def test_what_cannot_be_used_is_refused(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copies(tmp_path / "images", 1)
    for name in ("empty", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 no")
    parquet.write_table(pa.table({"number": [1]}), tmp_path / "numbers.parquet")
    parquet.write_table(pa.table({"data": [b"text"]}), tmp_path / "texts.parquet")
    extra = [] if "--output" in arguments else ["--output", "out"]
    result = detect(*([] if arguments[0].startswith("--ray") else ["--ray"]), *arguments, *extra)
    assert isinstance(result.exception, Exception), result.output
    assert sentence in str(result.exception)
    assert "secret" not in str(result.exception)


def test_ray_is_imported_only_when_it_is_used() -> None:
    code = "import sys, resnest_client.commands; assert not {'ray', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
