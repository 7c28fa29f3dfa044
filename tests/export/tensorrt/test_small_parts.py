"""Locating TensorRT-RTX's library, progress bars, and options."""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from resnest_core.errors import MissingExtraError, ParameterError, RuntimeUnavailableError
from resnest_export.kernels.contracts import NMS, ROI_ALIGN
from resnest_export.tensorrt import rtx_library
from resnest_export.tensorrt.cli_options import compute_capabilities
from resnest_export.tensorrt.operators import offered
from resnest_export.tensorrt.progress import Progress


@pytest.mark.parametrize("text", ["8.9", "89", "sm_89", "SM89"])
def test_compute_capabilities_are_read_as_people_write_them(text: str) -> None:
    assert compute_capabilities([text, "120"]) == ("8.9", "12.0")


def test_what_is_no_compute_capability_is_told() -> None:
    with pytest.raises(ParameterError, match="'ampere' isn't a compute capability"):
        compute_capabilities(["ampere"])


@pytest.mark.parametrize(
    ("channels", "channels_last"),
    [
        (256, {"float32", "float16", "bfloat16"}),
        (12, {"float32"}),  # of 16 bits TensorRT would pad 12 channels to 16
        (-1, {"float32"}),  # a number that isn't known
    ],
)
def test_each_type_of_maps_is_offered_in_one_layout(channels: int, channels_last: set[str]) -> None:
    maps = [each.outputs[0] for each in offered(ROI_ALIGN, channels)]
    assert sorted(each.dtype for each in maps) == ["bfloat16", "float16", "float32"]
    assert {each.dtype for each in maps if each.channels_last} == channels_last
    assert offered(NMS, 3840) == NMS.signatures


@pytest.mark.rtx
def test_children_find_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rtx_library.VARIABLE, "/elsewhere")
    load = [sys.executable, "-c", f"import ctypes; ctypes.CDLL({rtx_library.WANTED!r})"]
    with rtx_library.findable_by_children():
        subprocess.run(load, check=True)
    assert os.environ[rtx_library.VARIABLE] == "/elsewhere"


def test_a_link_beside_the_library_lets_this_process_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "libtensorrt_rtx.so.1"
    library.touch()
    monkeypatch.setattr(rtx_library, "library", lambda: library)
    monkeypatch.setattr(ctypes, "CDLL", _not_found)
    rtx_library.make_findable()
    rtx_library.make_findable()
    assert (tmp_path / "libtensorrt_rtx.so").readlink() == Path(library.name)


def test_where_no_link_can_be_made_the_sentence_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtx_library, "library", lambda: tmp_path / "absent" / "libtensorrt_rtx.so.1")
    monkeypatch.setattr(ctypes, "CDLL", _not_found)
    with pytest.raises(RuntimeUnavailableError, match=r"run `ln -s libtensorrt_rtx\.so\.1 "):
        rtx_library.make_findable()


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtx_library, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"resnest-serving\[rtx\]"):
        rtx_library.library()


def test_a_missing_extra_is_told_across_processes() -> None:
    error = MissingExtraError("triton", "tensorrt")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_phases_are_shown_while_they_last() -> None:
    screen = io.StringIO()
    with Progress(Console(file=screen, force_terminal=True, width=80)) as progress:
        progress.start("Building", None, 2)
        progress.start("Tactics", "Building", 10)
        assert progress.step("Tactics", 4)
        progress.finish("Tactics")
        progress.step("Building", 1)
        progress.finish("Building")
        progress.finish("Building")  # of an unknown phase nothing is shown
    assert "Building" in screen.getvalue()


def _not_found(name: str) -> None:
    raise OSError(name)
