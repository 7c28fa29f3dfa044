"""Frames with their numbers, times and sides, whatever the video."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from resnest_client.video.reader import VideoReader, is_video
from resnest_core.errors import MissingExtraError, NotAnImageError, RuntimeUnavailableError
from tests.client.video.clips import RATE, SIZE_HW, picture, turn, write_clip


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_frames_come_with_their_numbers_and_times(name: str, tmp_path: Path) -> None:
    with VideoReader(str(write_clip(tmp_path / name))) as reader:
        assert reader.expected_frames == 12
        frames = list(reader)
    assert reader.problem is None
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.time_s for frame in frames] == pytest.approx([index / RATE for index in range(12)], abs=0.002)
    pixels = frames[5].pixels()
    assert pixels.shape == (*SIZE_HW, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - picture(5)).mean() < 8


def test_times_of_a_variable_rate_are_kept(tmp_path: Path) -> None:
    times = [0, 0.1, 0.15, 0.6, 1.7]
    with VideoReader(str(write_clip(tmp_path / "clip.mp4", 5, times=times))) as reader:
        assert [frame.time_s for frame in reader] == pytest.approx(times, abs=0.002)


def test_a_turned_video_is_upright(tmp_path: Path) -> None:
    turn(path := write_clip(tmp_path / "clip.mp4"))
    with VideoReader(str(path)) as reader:
        pixels = next(iter(reader)).pixels()
    assert pixels.shape == (SIZE_HW[1], SIZE_HW[0], 3)
    reds = np.argwhere((pixels[..., 0] > 150) & (pixels[..., 1] < 90))
    assert reds.mean(0) == pytest.approx([8, SIZE_HW[0] - 8], abs=3)  # the left upper corner is the right upper one


@pytest.mark.parametrize(
    ("start", "end", "indices"),
    [(0.5, None, range(5, 12)), (0, 0.35, range(4)), (0.5, 0.75, range(5, 8)), (5, None, range(0))],
)
def test_a_part_of_a_video(start: float, end: float | None, indices: range, tmp_path: Path) -> None:
    with VideoReader(str(write_clip(tmp_path / "clip.mp4")), start_s=start, end_s=end) as reader:
        assert [frame.index for frame in reader] == [*indices]
        assert reader.expected_frames == pytest.approx(len(indices), abs=1)


def test_a_file_that_is_cut_short_gives_what_there_is(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 40, g="1")
    fast = tmp_path / "fast.mp4"
    _fast_start(path, fast)
    fast.write_bytes(fast.read_bytes()[: fast.stat().st_size * 3 // 4])
    with VideoReader(str(fast)) as reader:
        count = sum(1 for _ in reader)
    assert 5 < count < 40
    assert reader.problem is not None and ("cut short" in reader.problem or "damaged" in reader.problem)


def _fast_start(path: Path, fast: Path) -> None:
    """Copy a clip into a file with its index in front."""
    import av

    with av.open(str(path)) as source, av.open(str(fast), "w", options={"movflags": "faststart"}) as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)


@pytest.mark.parametrize("data", [b"", b"no video", b"\0" * 5000])
def test_what_is_no_video(data: bytes, tmp_path: Path) -> None:
    (path := tmp_path / "clip.mp4").write_bytes(data)
    with pytest.raises(NotAnImageError, match=r"is no video, or is damaged|has no pictures"):
        VideoReader(str(path))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import av

    with av.open(str(path := tmp_path / "sound.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        part = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        part.sample_rate = 8000
        container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    with pytest.raises(NotAnImageError, match="has no pictures"):
        VideoReader(str(path))


def test_a_camera_or_stream_that_is_not_there() -> None:
    for source in ("/dev/video99", "rtsp://127.0.0.1:9/stream", "http://127.0.0.1:9/clip.mp4"):
        with pytest.raises(RuntimeUnavailableError, match="can't be opened"):
            VideoReader(source)


def test_a_streams_password_is_not_shown() -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"rtsp://127\.0\.0\.1:9/stream can't be opened") as refused:
        VideoReader("rtsp://camera:secret@127.0.0.1:9/stream")
    assert "secret" not in str(refused.value) and refused.value.__cause__ is None


def test_longer_audio_is_no_sign_of_a_video_cut_short(tmp_path: Path) -> None:
    with VideoReader(str(write_clip(tmp_path / "clip.mkv", audio=True, audio_s=6))) as reader:
        assert len(list(reader)) == reader.expected_frames == 12
    assert reader.problem is None


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"\[video\]"):
        VideoReader("clip.mp4")


def test_what_is_taken_for_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for source in ("a.mp4", "b/C.MOV", "rtsp://host/a", "https://host/live.m3u8", "/dev/video0", "0"):
        assert is_video(source), source
    for source in ("a.jpg", "folder", "a.gif", "video", "/dev/video", "a.mp4.jpg"):
        assert not is_video(source), source
    (tmp_path / "0").touch()
    assert not is_video("0")
