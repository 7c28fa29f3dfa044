"""The manifest of an engine: written and read, and compared with a machine by TensorRT's rules."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from resnest_core.card import ModelCard
from resnest_core.errors import EngineMismatchError, InvalidModelError
from resnest_core.runtimes.fake import FAKE_CARD
from resnest_core.runtimes.tensorrt.manifest import EngineManifest, EngineProfile, Flavour, manifest_path, model_of
from tests.core.tensorrt.manifests import MACHINE, make_manifest, write_engine

VERSION = {"version_compatible": True}
AMPERE = {"hardware_compatibility": "ampere_plus"}
SAME = {"hardware_compatibility": "same_compute_capability"}
RTX = {"tensorrt_flavour": "tensorrt-rtx", "tensorrt_version": "1.7.1.116", "gpu_name": None}
RTX_MACHINE = {"tensorrt_flavour": Flavour.RTX, "tensorrt_version": "1.7.1.116"}
BOTH = {"compute_capabilities": ["8.6", "8.9"]}


def test_a_file_holds_it_whole(tmp_path: Path) -> None:
    manifest = make_manifest(build_options={"version_compatible": True, "workspace_bytes": 1 << 32})
    path = manifest_path(tmp_path / "model.plan")
    manifest.write(path)
    assert path.name == "model.plan.json"
    assert EngineManifest.read(path) == manifest


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "can't be read"),
        ("", "is damaged"),
        ("{}", "is damaged"),
        (make_manifest().model_dump_json()[:-2], "is damaged"),
        (make_manifest().model_dump_json().replace('"8.9"', '"new"'), "is damaged"),
        (make_manifest().model_dump_json().replace("0" * 64, "abc"), "is damaged"),
        (make_manifest().model_dump_json().replace('"tensorrt"', '"onnx"'), "is damaged"),
    ],
    ids=["absent", "empty", "no fields", "cut short", "no capability", "no hash", "no flavour"],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str | None, sentence: str) -> None:
    path = tmp_path / "model.plan.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidModelError, match=sentence) as caught:
        EngineManifest.read(path)
    assert str(path) in str(caught.value) and "export the engine again" in str(caught.value)


@pytest.mark.parametrize(
    ("built", "here"),
    [
        ({}, {}),
        ({}, {"cuda_version": "13.2"}),
        ({"cuda_version": "12.9"}, {}),
        ({"gpu_name": None}, {"gpu_name": "NVIDIA L40S"}),
        ({"build_options": VERSION}, {"tensorrt_version": "10.14.0.1"}),
        ({"build_options": VERSION}, {"tensorrt_version": "11.4.0.106"}),
        ({"build_options": SAME}, {"gpu_name": "NVIDIA L40S"}),
        ({"build_options": AMPERE}, {"gpu_name": "NVIDIA A100", "compute_capability": "8.0"}),
        ({"build_options": AMPERE}, {"gpu_name": "NVIDIA B200", "compute_capability": "10.0"}),
        (RTX, {**RTX_MACHINE, "gpu_name": "any"}),
        (RTX | {"build_options": BOTH}, {**RTX_MACHINE, "compute_capability": "8.6"}),
    ],
)
def test_an_engine_that_fits(built: dict[str, Any], here: dict[str, Any]) -> None:
    make_manifest(**built).check(replace(MACHINE, **here))


@pytest.mark.parametrize(
    ("built", "here", "reason"),
    [
        ({}, {"tensorrt_version": "10.13.3.9"}, "was built with TensorRT 10.13.2.6, and TensorRT 10.13.3.9 is install"),
        ({"build_options": VERSION}, {"tensorrt_version": "10.9.0.34"}, "and TensorRT 10.9.0.34 is installed here"),
        ({"build_options": VERSION}, {"tensorrt_version": "12.0.0.1"}, "and TensorRT 12.0.0.1 is installed here"),
        ({}, RTX_MACHINE, "was built with TensorRT 10.13.2.6, and TensorRT-RTX 1.7.1.116 is installed here"),
        (RTX | {"build_options": VERSION}, {**RTX_MACHINE, "tensorrt_version": "1.8.0.1"}, "TensorRT-RTX 1.8.0.1 is"),
        (
            {},
            {"compute_capability": "9.0", "gpu_name": "NVIDIA H100"},
            "for compute capability 8.9, and the NVIDIA H",
        ),
        ({}, {"gpu_name": "NVIDIA L40S"}, "was built for the NVIDIA L4, and the GPU here is the NVIDIA L40S"),
        ({"build_options": SAME}, {"compute_capability": "8.6"}, "for compute capability 8.9, and the NVIDIA L4 here"),
        ({"build_options": AMPERE}, {"compute_capability": "7.5"}, "needs compute capability 8.0 or later, and the"),
        (
            RTX,
            {**RTX_MACHINE, "compute_capability": "12.0"},
            "for compute capability 8.9, and the NVIDIA L4 here has",
        ),
        (RTX | {"build_options": BOTH}, {**RTX_MACHINE, "compute_capability": "8.0"}, "capability 8.6, 8.9, and the"),
        ({}, {"cuda_version": "12.9"}, "needs CUDA 13.0, and the driver here runs 12.9"),
    ],
)
def test_one_that_does_not_is_refused_in_a_sentence(built: dict[str, Any], here: dict[str, Any], reason: str) -> None:
    with pytest.raises(EngineMismatchError) as caught:
        make_manifest(**built).check(replace(MACHINE, **here))
    sentence = str(caught.value)
    assert reason in sentence and "\n" not in sentence
    assert sentence.startswith("The engine of mask_rcnn_s50 ")
    assert sentence.endswith("run `resnest export mask_rcnn_s50 --to tensorrt --precision fp16` on this machine.")


PUBLISHED_CARD = FAKE_CARD.model_copy(
    update={
        "name": "mask_rcnn_s50_fp16",
        "backbone": "ResNeSt-50",
        "precision": "fp16",
        "checkpoint_sha256": "8a2c3d47" + 56 * "0",
    }
)
OWN_CARD = PUBLISHED_CARD.model_copy(
    update={"name": "fruit_v2_fp16", "checkpoint": "epoch 12.pth", "checkpoint_sha256": "0" * 64}
)


@pytest.mark.parametrize(
    ("card", "fields", "command"),
    [
        (PUBLISHED_CARD, {}, "mask_rcnn_s50"),
        (PUBLISHED_CARD.model_copy(update={"name": "fruit_fp16"}), {}, "mask_rcnn_s50 --name fruit"),
        (OWN_CARD, {}, "mask_rcnn_s50 --checkpoint 'epoch 12.pth' --name fruit_v2"),
        # As it was written before models had names of their own.
        (OWN_CARD, {"detector": None}, "mask_rcnn_s50 --checkpoint 'epoch 12.pth' --name fruit_v2"),
        (OWN_CARD, {"detector": "demo"}, "demo --checkpoint 'epoch 12.pth' --name fruit_v2"),
    ],
    ids=["published", "renamed", "fine-tuned", "older manifest", "another detector"],
)
def test_the_remedy_is_the_command_that_makes_this_model(
    card: ModelCard, fields: dict[str, Any], command: str, tmp_path: Path
) -> None:
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(b"a network")
    plan = tmp_path / "model.plan"
    if fields.get("detector") != "demo":  # without a manifest only the card tells
        with pytest.raises(
            InvalidModelError, match=re.escape(f"`resnest export {command} --to tensorrt --precision fp16`")
        ):
            EngineManifest.find(plan, card)
    write_engine(onnx, **{"model": "mask_rcnn_s50", "detector": "mask_rcnn_s50"} | fields)
    manifest = EngineManifest.find(plan, card)
    assert manifest.remedy == f"run `resnest export {command} --to tensorrt --precision fp16` on this machine"
    assert manifest.model == card.name.removesuffix("_fp16")


def test_a_name_that_ends_like_a_precision_stays_whole() -> None:
    card = PUBLISHED_CARD.model_copy(update={"name": "fruit_fp32", "precision": "fp32"})
    assert model_of(card) == "fruit_fp32"


@pytest.mark.parametrize(
    ("built", "here", "runs"),
    [
        ("10.13.2.6", "10.13.2.10", True),
        ("10.9.0.34", "10.13.2.6", True),
        ("10.13.2.6", "10.13.2.6.post1", True),
        ("10.13.2.6", "10.13.2.6b1", False),
        ("8.6.1", "11.0.0", False),
        ("10.13.2.6", "of a friend", False),
    ],
)
def test_later_versions_run_a_version_compatible_engine(built: str, here: str, runs: bool) -> None:
    manifest = make_manifest(tensorrt_version=built, build_options=VERSION)
    machine = replace(MACHINE, tensorrt_version=here)
    if runs:
        manifest.check(machine)
    else:
        with pytest.raises(EngineMismatchError, match="is installed here"):
            manifest.check(machine)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_only_the_same_version_runs_an_ordinary_engine(ours: list[int], theirs: list[int]) -> None:
    built, here = ".".join(map(str, ours)), ".".join(map(str, theirs))
    manifest = make_manifest(tensorrt_version=built)
    machine = replace(MACHINE, tensorrt_version=here)
    if built == here:
        manifest.check(machine)
    else:
        with pytest.raises(EngineMismatchError):
            manifest.check(machine)


def test_files_are_those_that_belong_together(tmp_path: Path) -> None:
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(b"a network")
    plan = write_engine(onnx)
    manifest = EngineManifest.read(manifest_path(plan))
    manifest.check_files(plan)
    onnx.write_bytes(b"another network")
    with pytest.raises(EngineMismatchError, match=r"was built from another model\.onnx"):
        manifest.check_files(plan)
    plan.write_bytes(b"an eng")
    with pytest.raises(InvalidModelError, match="is damaged or cut short: run `resnest export mask_rcnn_s50"):
        manifest.check_files(plan)
    plan.unlink()
    with pytest.raises(InvalidModelError, match=r"model\.plan can't be read"):
        manifest.check_files(plan)


def test_a_profile_has_its_shapes_in_order() -> None:
    profile = EngineProfile(min=(1, 320, 320), opt=(2, 320, 544), max=(4, 544, 544))
    assert profile.holds((1, 320, 320)) and profile.holds((4, 544, 544)) and profile.holds((3, 352, 320))
    assert not profile.holds((5, 320, 320)) and not profile.holds((1, 288, 320)) and not profile.holds((1, 320, 576))
    for bad in ({"min": (0, 1, 1)}, {"opt": (5, 320, 320)}, {"max": (4, 544, 320)}):
        with pytest.raises(ValidationError):
            EngineProfile.model_validate(profile.model_dump() | bad)
    with pytest.raises(ValidationError):
        make_manifest(profiles=())
