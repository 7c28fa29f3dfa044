"""Tables for the terminal and as Markdown."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from resnest_client.bench import all_models, report
from resnest_client.bench.results import Gpu
from resnest_core.published import PUBLISHED
from tests.client.bench.examples import SUBJECT, example_run


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234.5, "1234"),
        (123.4, "123"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.1234, "0.123"),
        (0.01234, "0.0123"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert report.significant(value) == text


def test_a_row_of_rounds_is_their_median() -> None:
    runs = [example_run(number=number, p50=p50) for number, p50 in ((1, 10), (2, 14), (3, 12))]
    [(_, cells)] = report.rows(runs)
    assert dict(zip(report.HEADERS, cells, strict=True))["p50 ms"] == "12.0 (10.0–14.0)"
    assert "Medians of the rounds" in report.notes(runs)[0]


def test_a_row_of_one_round_has_intervals() -> None:
    run = example_run(errors={"busy": 2, "image": 1}, error_examples={"busy": "Full."}, complete=False, stopped="Gone.")
    [(_, cells)] = report.rows([run])
    row = dict(zip(report.HEADERS, cells, strict=True))
    assert row["p50 ms"] == "10.0 (10.0–)"
    assert row["load"] == "1 in flight, not complete"
    assert row["errors"] == "2 busy, 1 image"
    assert "busy: Full; not complete: Gone." in report.notes([run])[1]


def test_markdown_and_screen_tell_the_same() -> None:
    gpu = Gpu(utilization_percent=50, peak_memory_mib=900)
    runs = [example_run(server_stages_ms={"decode": 2.0, "network": 30.5}, gpu=gpu), example_run(rate=2.5)]
    screen = Console(file=io.StringIO(), width=20, highlight=False, soft_wrap=True)
    report.show(runs, screen)
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    page = report.markdown(runs)
    for both in (text, page):
        assert "demo, onnxruntime, fp32, cpu, with masks" in both
        assert "320×448 (100); the server's stages, mean ms: decode 2.0, network 30.5; GPU 50 % used, 900 MiB" in both
    assert page.count("\n| ") == 4 and "| 2.5 images/s sent | 10.0 |" in page
    assert "a CPU, 2 cores" in page and "```\nresnest bench\n```" in page


def test_all_stands_beside_what_was_published() -> None:
    row = PUBLISHED["mask_rcnn_s50"]
    published = SUBJECT.model_copy(
        update={"model": row.name, "checkpoint_sha256": row.checkpoint_sha256_prefix + "0" * 56}
    )
    own = published.model_copy(update={"model": "mask_rcnn_s101"})
    runs = [example_run(subject=subject) for subject in (published, own, SUBJECT)]
    job = all_models.Job("broken", "openvino", "cpu", None, None)  # type: ignore[arg-type]
    page = all_models.markdown(runs, [all_models.Failure(job, "It is damaged.")])
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert lines[2].startswith("| mask_rcnn_s50 | 42.6 | 38.1 | onnxruntime | 10.0 |")
    assert lines[3].startswith("| mask_rcnn_s101† | 45.2 | 40.2 |")
    assert lines[4].startswith("| demo† | – | – |")
    assert "† not the published weights: speed depends on shapes and the number of detections, both printed." in page
    assert "broken in openvino failed: It is damaged." in page
    assert "†" not in all_models.markdown(runs[:1], [])
