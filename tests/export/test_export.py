"""`resnest export`: checkpoints of all kinds into the repository, and nothing there when something is wrong."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import typer
from typer.testing import CliRunner

from resnest_core import cli, load_detector
from resnest_core.card import METADATA_KEY, ModelCard, read_card
from resnest_core.errors import CheckpointError, InvalidModelError, ModelNotFoundError, ParameterError, ResNeStError
from resnest_core.preprocess import PreparedImage
from resnest_core.published import PUBLISHED
from resnest_core.repository import network_path
from resnest_export import check as checking
from resnest_export import commands, pipeline
from resnest_export.check import Reference, check
from resnest_export.checkpoint import Checkpoint, import_weights
from resnest_export.coco_classes import COCO
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.models import ZOO, build
from resnest_export.models.detector import TwoStageDetector
from resnest_export.precision import Precision
from resnest_export.request import ExportRequest
from resnest_export.to_onnx import export_onnx
from tests.export.traces import Traces
from tests.weights import DEMO, REPOSITORY, demo_state_dict

NAMES = ("nut", "bolt", "washer", "rivet")


class Config(dict[str, Any]):
    """Like a training framework's configuration: a mapping with a state of its own."""


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Return what saves a checkpoint."""

    def write(content: object, name: str = "mine.pth", zipped: bool = True) -> Path:
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
        return tmp_path / name

    return write


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a file with the card and no network, unchecked: tracing and comparing take all of the time."""

    def export_onnx(detector: TwoStageDetector, card: ModelCard, path: Path, *, winograd: bool) -> None:
        assert isinstance(detector, TwoStageDetector) and isinstance(winograd, bool)
        model = onnx.helper.make_model(onnx.helper.make_graph([], "nothing", [], []))
        onnx.helper.set_model_props(model, {METADATA_KEY: card.model_dump_json()})
        onnx.save(model, path)

    monkeypatch.setattr(pipeline, "export_onnx", export_onnx)
    monkeypatch.setattr(pipeline, "check", lambda *_: iter(()))


def app() -> typer.Typer:
    """Return a command line of this package alone."""
    built = typer.Typer()
    commands.register(built)
    return built


def run(*arguments: str | Path) -> tuple[int, str, ResNeStError | None]:
    """Run the command; return its exit code, its output, and the error that the command line would tell."""
    result = CliRunner().invoke(app(), ["export", *(str(argument) for argument in arguments)])
    error = result.exception if isinstance(result.exception, ResNeStError) else None
    return result.exit_code, result.output, error


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Export a checkpoint as mmdetection 3 saves them; return the repository and what the command told.

    It has configuration objects, numpy scalars, an optimizer, moving averages, and four classes.
    """
    folder = tmp_path_factory.mktemp("fine_tuned")
    state_dict = demo_state_dict(len(NAMES))
    averages = {f"ema_{key.replace('.', '_')}": value + 1 for key, value in state_dict.items()}
    meta = {"dataset_meta": {"classes": NAMES}, "hook_msgs": Config(best=Config(score=0.4)), "best": np.float64(0.4)}
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.02}]}
    content = {"meta": meta, "state_dict": {**state_dict, **averages}, "optimizer": optimizer}
    torch.save(content, folder / "mine.pth")
    code, output, error = run("demo", "--checkpoint", folder / "mine.pth", "--repository", folder)
    assert code == 0, error or output
    return folder, output


def test_a_fine_tuned_checkpoint(fine_tuned: tuple[Path, str]) -> None:
    repository, output = fine_tuned
    assert output.splitlines()[-1] == str(network_path(repository, "demo"))
    card = read_card(network_path(repository, "demo"))
    assert (card.classes, card.category_ids, card.checkpoint) == (NAMES, (1, 2, 3, 4), "mine.pth")
    photograph = DEMO / "images" / "000000000073.jpg"
    with (
        load_detector("demo", repository=repository) as detector,
        load_detector("demo", repository=REPOSITORY) as whole,
    ):
        found, expected = detector.detect(photograph, score_threshold=0.8), whole.detect(photograph)
    assert found.labels[0] == 3  # a motorcycle, as the demo's fourth class is
    assert np.abs(found.boxes_xyxy[0] - expected.boxes_xyxy[0]).max() < 0.01


def test_figures_of_two_sizes_and_batches(fine_tuned: tuple[Path, str]) -> None:
    figures = [line for line in fine_tuned[1].splitlines() if re.match(r"\d+×", line)]
    sizes = ("480×320", "256×160")
    kinds = ("alone, against PyTorch", "in a batch of 3, against PyTorch", "in a batch of 3, against alone")
    assert [line.partition(":")[0] for line in figures] == [f"{size} {kind}" for size in sizes for kind in kinds]
    assert all("100.0% found again, 0 extra" in line and " 0 detections" not in line for line in figures), figures


def test_check_refuses_another_network(fine_tuned: tuple[Path, str]) -> None:
    path = network_path(fine_tuned[0], "demo")
    card, detector = read_card(path), build(ZOO["demo"].with_classes(len(NAMES)))
    weights = demo_state_dict(len(NAMES))
    for key, change, message in (
        ("roi_head.bbox_head.fc_reg.weight", 1.2, r"differs from PyTorch at 480×320 alone: \d+ detections, \d"),
        ("roi_head.mask_head.conv_logits.weight", 1.2, r"differs from PyTorch at 480×320 alone: .*masks within [1-9]"),
    ):
        detector.load_state_dict({**weights, key: weights[key] * change})
        with pytest.raises(InvalidModelError, match=message):
            list(check(path, Reference(DeployedDetector(detector, card), card), card))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_and_names_from_a_file(save: Callable[..., Path], tmp_path: Path, zipped: bool) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NAMES))
    checkpoint = save({"meta": {"CLASSES": ("a", "b", "c", "d")}, "state_dict": demo_state_dict(4)}, zipped=zipped)
    assert run("demo", "--checkpoint", checkpoint, "--classes", names, "--repository", tmp_path)[0] == 0
    assert read_card(network_path(tmp_path, "demo")).classes == NAMES


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("options", "model"),
    [((), "fruit_v2"), (("--precision", "bf16"), "fruit_v2_bf16")],
)
def test_a_model_has_the_name_that_it_is_given(
    options: tuple[str, ...], model: str, save: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = save({"state_dict": demo_state_dict()})
    repository = tmp_path / "repository"
    code, output, error = run(
        "demo", "--checkpoint", checkpoint, "--repository", repository, "--name", "fruit_v2", *options
    )
    assert code == 0, error or output
    path = network_path(repository, model)
    assert output.splitlines()[-1] == str(path)
    assert read_card(path).name == model
    folders = {model, f"{model}_network", f"{model}_preprocess"}
    assert {folder.name for folder in repository.iterdir()} == folders
    for folder in folders:
        assert f'name: "{folder}"' in (repository / folder / "config.pbtxt").read_text()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a b", "ä", "fruit_network", "fruit_preprocess", "mask_rcnn_s50"]
)
@pytest.mark.parametrize("own", [True, False], ids=["own checkpoint", "published checkpoint"])
def test_a_name_that_can_not_be_one_is_refused_before_anything_is_read(
    name: str, own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("something was read")

    monkeypatch.setattr(commands, "_download", fail)
    monkeypatch.setattr(pipeline, "load_checkpoint", fail)
    checkpoint = ("--checkpoint", tmp_path / "mine.pth") if own else ()
    error = run("faster_rcnn_s50", *checkpoint, "--repository", tmp_path / "repository", "--name", name)[2]
    assert isinstance(error, ParameterError)
    assert repr(name) in str(error) or name in PUBLISHED
    assert not list(tmp_path.iterdir())


def test_published_accuracy_goes_with_the_weights_and_not_with_the_name() -> None:
    row = PUBLISHED["faster_rcnn_s50"]
    published, other = (Checkpoint({}, None, digest * 8) for digest in (row.checkpoint_sha256_prefix, "01234567"))

    def ap(checkpoint: Checkpoint, **options: Any) -> float | None:
        return pipeline.make_card(
            ZOO[row.name], tuple(COCO), tuple(COCO.values()), checkpoint, Path("x.pth"), **options
        ).box_ap

    assert ap(published) == ap(published, name="fruit") == row.box_ap
    assert ap(other) is None and ap(other, name=row.name) is None
    assert ap(published, name="fruit", precision=Precision.BF16) is None


def test_demo_as_committed_comes_of_this_code(tmp_path: Path, traces: Traces) -> None:
    """The same network to the last node, and nothing in it that changes from one export to the next."""
    path = tmp_path / "model.onnx"
    detector = build(ZOO["demo"])
    import_weights(detector, demo_state_dict())
    committed = network_path(REPOSITORY, "demo")
    with traces.shared():
        export_onnx(detector, read_card(committed), path)
    made, stored = onnx.load(path), onnx.load(committed)
    for model in (made, stored):
        # Rebuilt from folded weights, they differ in their last bits.
        del model.graph.initializer[:]
    assert made.SerializeToString() == stored.SerializeToString(), "export the demo again: `make demo-model`"


def bad_checkpoints() -> Iterator[Any]:
    """Yield what makes a bad checkpoint from a folder and a saver, the error, and a part of its sentence."""

    def truncated(_folder: Path, save: Callable[..., Path]) -> Path:
        path = save({"state_dict": demo_state_dict(4)})
        path.write_bytes(path.read_bytes()[:100_000])
        return path

    def other_architecture(_folder: Path, save: Callable[..., Path]) -> Path:
        return save({"state_dict": {**demo_state_dict(4), "roi_head.mask_head.3.upsample.weight": torch.ones(3)}})

    yield pytest.param(truncated, CheckpointError, "damaged, cut short", id="truncated")
    yield pytest.param(other_architecture, CheckpointError, "doesn't fit demo", id="another architecture")
    yield pytest.param(
        lambda _, save: save({"state_dict": demo_state_dict(4)}, "demo_20260101-01234567.pth"),
        CheckpointError,
        "damaged or renamed",
        id="wrong hash",
    )
    yield pytest.param(
        lambda folder, save: save({"state_dict": {**demo_state_dict(4), "evil": Attack(folder / "touched")}}),
        CheckpointError,
        r"plain tensors \(a posix\.system\): evil; save it with plain ones",
        id="malicious",
    )
    yield pytest.param(lambda folder, _: folder / "absent.pth", CheckpointError, "can't be read", id="no file")
    yield pytest.param(
        lambda _, save: save({"state_dict": demo_state_dict(4)}), CheckpointError, "pass --classes FILE", id="no names"
    )


@pytest.mark.parametrize(("make", "kind", "sentence"), bad_checkpoints())
def test_bad_checkpoints(
    make: Callable[[Path, Callable[..., Path]], Path],
    kind: type[ResNeStError],
    sentence: str,
    save: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One sentence, exit code 2, nothing executed, and no trace in the repository."""
    repository = tmp_path / "repository"
    arguments = ["export", "demo", "--checkpoint", make(tmp_path, save), "--repository", repository]
    monkeypatch.setattr(cli, "build", app)
    monkeypatch.setattr(sys, "argv", ["resnest", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert re.fullmatch(rf"resnest: .*({sentence}).*\.\n", told), told
    assert isinstance(ended.value.__context__, kind)
    assert not repository.exists()
    assert not (tmp_path / "touched").exists()


def test_unknown_detector(tmp_path: Path) -> None:
    error = run("mask_rcnn_s49", "--repository", tmp_path)[2]
    assert isinstance(error, ModelNotFoundError)
    assert "mask_rcnn_s50" in str(error)


def test_the_demo_is_not_published(tmp_path: Path) -> None:
    error = run("demo", "--repository", tmp_path)[2]
    assert isinstance(error, ModelNotFoundError)
    assert "--checkpoint" in str(error)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("options", "winograd"), [([], True), (["--no-winograd"], False), (["--precision", "bf16"], False)]
)
def test_convolutions_are_plain_where_that_is_asked_for(
    save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], winograd: bool
) -> None:
    asked: list[bool] = []
    written = vars(pipeline)["export_onnx"]

    def export_onnx(detector: TwoStageDetector, card: ModelCard, path: Path, *, winograd: bool) -> None:
        asked.append(winograd)
        written(detector, card, path, winograd=winograd)

    monkeypatch.setattr(pipeline, "export_onnx", export_onnx)
    checkpoint = save({"state_dict": demo_state_dict()})
    code, output, error = run("demo", "--checkpoint", checkpoint, "--repository", tmp_path, *options)
    assert code == 0, error or output
    assert asked == [winograd]


@pytest.mark.usefixtures("quick")
def test_repository_that_is_a_file(save: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = run("demo", "--checkpoint", save({"state_dict": demo_state_dict()}), "--repository", tmp_path / "file")[2]
    assert isinstance(error, ParameterError)
    assert "name another repository" in str(error)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("failure", [InvalidModelError("It differs."), MemoryError(), KeyboardInterrupt()])
def test_a_file_that_fails_its_check_replaces_nothing(
    save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fail(path: Path, *_: object) -> Iterator[str]:
        assert path.exists()  # it was written, aside
        yield "first figures"
        raise failure

    monkeypatch.setattr(pipeline, "check", fail)
    checkpoint = save({"state_dict": demo_state_dict()})
    path = network_path(tmp_path, "demo")
    for before in (None, b"a good one"):
        if before is not None:
            path.write_bytes(before)
        with pytest.raises(type(failure)):
            pipeline.export_detector(ExportRequest("demo", checkpoint, tmp_path), lambda _: None)
        assert [(file, file.read_bytes()) for file in path.parent.iterdir()] == ([(path, before)] if before else [])


def test_pytorch_answers_once_for_all_files_that_are_compared_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    card = read_card(network_path(REPOSITORY, "demo"))
    widths = []

    def run(_network: object, images: Sequence[PreparedImage], *_: object) -> list[Any]:
        widths.append(images[0].pixels.shape[1])
        return []

    monkeypatch.setattr(checking, "run_network", run)
    reference = Reference(DeployedDetector(torch.nn.Identity(), card), card)
    for _ in range(2):
        assert reference.at(1) is not reference.at(2)
    assert widths == [480, 256]


@pytest.mark.parametrize(("before", "after"), [(None, "passive"), ("active", "active")])
def test_idle_threads_of_pytorch_do_not_spin_unless_told_to(
    before: str | None, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", before or "")
    if before is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    with pytest.raises(ModelNotFoundError):
        commands.export("nothing")
    assert os.environ["OMP_WAIT_POLICY"] == after


def test_pytorch_has_no_more_threads_than_the_quota_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    try:
        for before, cpus, after in ((3, 1, 1), (1, 4, 1)):
            torch.set_num_threads(before)
            monkeypatch.setattr("resnest_core.cpus.allowed_cpus", lambda cpus=cpus: cpus)
            with pytest.raises(ModelNotFoundError):
                commands.export("nothing")
            assert torch.get_num_threads() == after
    finally:
        torch.set_num_threads(threads)
