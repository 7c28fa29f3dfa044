"""`resnest detect` on a video: lines, an annotated video, and what can't be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from rich.console import Console

from resnest_client import GrpcDetector, HttpDetector
from resnest_client.outputs import AnswerWriter
from resnest_client.video.run import VideoOptions, detect_in_video
from resnest_core import Detector, InProcessDetector
from resnest_core.errors import ParameterError
from resnest_core.runtimes import FakeRuntime
from resnest_core.tiles import Tiles
from tests.client.fake_triton import Triton
from tests.client.served import Serve
from tests.client.test_detect import detect
from tests.client.video.clips import RATE, SIZE_HW, picture, turn, write_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", audio=True)


@pytest.fixture(params=["process", "HTTP", "gRPC"])
def detector(request: pytest.FixtureRequest, serve: Serve, fake_triton: Triton) -> Detector:
    runtime = FakeRuntime()
    if request.param == "process":
        return InProcessDetector(runtime)
    made: Detector = (
        HttpDetector(serve(runtime).url) if request.param == "HTTP" else GrpcDetector(fake_triton(runtime).url)
    )
    request.addfinalizer(made.close)
    return made


def run(detector: Detector, source: Path, output: Path, answer_format: str = "native", **options: Any) -> bool:
    writer = AnswerWriter.named(answer_format, options.pop("masks", "rle"))
    console = Console(stderr=True)
    return detect_in_video(str(source), detector, VideoOptions(**options), output, writer, console, None)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def frames(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_a_line_per_frame(detector: Detector, clip: Path, tmp_path: Path) -> None:
    assert run(detector, clip, tmp_path / "out.jsonl")
    answers = lines(tmp_path / "out.jsonl")
    assert [answer["frame"] for answer in answers] == list(range(12))
    assert answers[7]["time_s"] == pytest.approx(0.7, abs=0.002) and answers[7]["file"] == str(clip)
    assert answers[7]["model"] == "fake" and len(answers[7]["detections"]) == 3
    assert answers[7]["image"] == {"width": SIZE_HW[1], "height": SIZE_HW[0]}


def test_an_annotated_video_keeps_times_and_audio(detector: Detector, clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    assert run(detector, clip, output, every=3)
    written = frames(output)
    assert [frame.time for frame in written] == pytest.approx([index / RATE for index in range(12)], abs=0.002)
    pixels = written[4].to_ndarray(format="rgb24").astype(int)
    assert pixels.shape == (*SIZE_HW, 3) and np.abs(pixels - picture(4)).max() > 100  # boxes are drawn in
    with av.open(str(clip)) as before, av.open(str(output)) as after:
        sounds = [[bytes(packet) for packet in each.demux(audio=0) if packet.size] for each in (before, after)]
    assert len(sounds[0]) > 5 and sounds[0] == sounds[1]


def test_of_each_nth_frame(clip: Path, tmp_path: Path) -> None:
    runtime = FakeRuntime()
    assert run(InProcessDetector(runtime), clip, tmp_path / "out.jsonl", every=5, start_s=0.2)
    assert [answer["frame"] for answer in lines(tmp_path / "out.jsonl")] == [2, 7]
    assert len(runtime.calls) == 2


def test_a_part_is_annotated_from_time_0_with_its_sound(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    assert run(InProcessDetector(FakeRuntime()), clip, output, start_s=0.5, end_s=1.0)
    assert [frame.time for frame in frames(output)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=0.01)


def test_a_turned_video_is_annotated_upright(tmp_path: Path) -> None:
    turn(clip := write_clip(tmp_path / "clip.mp4", 3))
    output = tmp_path / "out.webm"
    assert run(InProcessDetector(FakeRuntime()), clip, output)
    assert {(frame.height, frame.width) for frame in frames(output)} == {(SIZE_HW[1], SIZE_HW[0])}


def test_objects_keep_their_numbers(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 12)
    detector = InProcessDetector(FakeRuntime(count=2))
    for answer_format, rows, key in (("native", "detections", "track"), ("roboflow", "predictions", "tracker_id")):
        output = tmp_path / f"{answer_format}.jsonl"
        assert run(detector, clip, output, answer_format, track=True, masks="none")
        numbers = [[one.get(key) for one in answer[rows]] for answer in lines(output)]
        assert numbers[-1] == numbers[5] and None not in numbers[-1] and len(set(numbers[-1])) == 2
    assert run(detector, clip, tmp_path / "out.mp4", track=True)


def test_in_tiles(clip: Path, tmp_path: Path) -> None:
    runtime = FakeRuntime()
    assert run(InProcessDetector(runtime), clip, tmp_path / "out.jsonl", every=6, tiles=Tiles(64, 0.2))
    assert len(lines(tmp_path / "out.jsonl")) == 2
    assert sum(len(call["images"]) for call in runtime.calls) == 4  # two windows of a frame


def test_a_video_that_is_cut_short_gives_what_there_is_and_exit_code_2(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 30)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    output = tmp_path / "out.jsonl"
    result = detect(str(clip), "--model", "demo", "--output", output, "--masks", "none")
    assert result.exit_code == 2
    assert "cut short" in result.stderr or "ended" in result.stderr or "damaged" in result.stderr
    assert 3 < len(lines(output)) < 30


def test_a_size_that_changes_on_the_way(tmp_path: Path) -> None:
    parts = [write_clip(tmp_path / f"{index}.ts", 4) for index in range(2)]
    with av.open(str(parts[1]), "w") as container:
        video = container.add_stream("libx264", rate=RATE)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for index in range(4):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(index)[:48, :64], format="rgb24")))
        container.mux(video.encode(None))
    clip = tmp_path / "both.ts"
    clip.write_bytes(b"".join(part.read_bytes() for part in parts))
    output = tmp_path / "out.mp4"
    run(InProcessDetector(FakeRuntime()), clip, output)
    assert {(frame.height, frame.width) for frame in frames(output)} == {SIZE_HW}
    run(InProcessDetector(FakeRuntime()), clip, tmp_path / "out.jsonl")
    sizes = {(answer["image"]["height"], answer["image"]["width"]) for answer in lines(tmp_path / "out.jsonl")}
    assert sizes == {SIZE_HW, (48, 64)}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--every", "0"], "--every must be at least 1"),
        (["--start", "2", "--end", "1"], "must be after --start"),
        (["--start", "-1"], "at least 0 seconds"),
        (["--format", "coco"], "one list, not lines"),
        (["--output", "folder"], "must be a FILE.jsonl, or an annotated video"),
        (["--output", "out.json"], "must be a FILE.jsonl, or an annotated video"),
        (["--annotations", "a.json"], "leave it out"),
        (["other.mp4"], "by itself"),
        (["--tiles", "8"], "at least 64"),
    ],
)
def test_what_cannot_be_asked(options: list[str], match: str, clip: Path, tmp_path: Path) -> None:
    arguments = [str(tmp_path / option) if option in ("folder", "out.json") else option for option in options]
    result = detect(str(clip), "--model", "demo", *arguments)
    assert isinstance(result.exception, ParameterError) and match in str(result.exception)


def test_images_have_no_tracks() -> None:
    for options in (["--track"], ["--every", "2"], ["--start", "1"], ["--end", "1"]):
        result = detect("photo.jpg", *options)
        assert isinstance(result.exception, ParameterError) and "are for videos" in str(result.exception)


def test_nothing_is_overwritten(clip: Path, tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.mp4"):
        (tmp_path / name).write_text("precious")
        with pytest.raises(ParameterError, match="is there already"):
            run(InProcessDetector(FakeRuntime()), clip, tmp_path / name)
        assert (tmp_path / name).read_text() == "precious"


def test_audio_that_the_container_cannot_hold_is_left_out(clip: Path, tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "out.webm"  # which has no AAC
    assert run(InProcessDetector(FakeRuntime()), clip, output)
    assert "audio can't be copied into .webm" in capsys.readouterr().err
    with av.open(str(output)) as container:
        assert not container.streams.audio and len(list(container.decode(video=0))) == 12
