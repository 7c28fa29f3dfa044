"""Cameras and streams, which send on while a slow detector works: what it gets is new, and nothing else is lost."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import pytest

from resnest_client.video.live import newest
from resnest_client.video.reader import Frame, VideoReader
from resnest_core import InProcessDetector
from resnest_core.runtimes import FakeRuntime
from tests.client.video.clips import RATE, SIZE_HW, picture, write_clip
from tests.client.video.test_detect_video import frames, lines, run

FRAMES = 45
AT_ONCE = 30  # which is read to find out what the stream is
SLOW = 3 / RATE  # seconds per image


class SlowRuntime(FakeRuntime):
    def run(self, *arguments: Any, **options: Any) -> Any:
        time.sleep(SLOW)
        return super().run(*arguments, **options)


def parts(count: int) -> list[bytes]:
    """MPEG-TS of `count` frames, cut after each."""
    file, made = io.BytesIO(), []
    with av.open(file, "w", format="mpegts") as container:
        video = container.add_stream("libx264", rate=RATE, options={"g": "5", "tune": "zerolatency"})
        video.height, video.width = SIZE_HW
        video.pix_fmt = "yuv420p"
        for index in range(count):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
            made.append(file.getvalue())
            file.seek(0)
            file.truncate()
        container.mux(video.encode(None))
    made.append(file.getvalue())
    return made


@pytest.fixture
def address() -> Iterator[str]:
    """The address of a stream that begins with AT_ONCE frames, sends one each 1/RATE s, and ends."""
    stream = parts(FRAMES)

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            for place, part in enumerate(stream):
                self.wfile.write(part)
                self.wfile.flush()
                time.sleep(0 if place < AT_ONCE else 1 / RATE)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/live"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("every", [1, 4])
def test_a_slow_detector_sees_what_happens_now(every: int, address: str, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert not run(InProcessDetector(SlowRuntime()), cast(Path, address), output, every=every)  # it says that it ended
    found = lines(output)
    numbers = [line["frame"] for line in found]
    assert numbers == sorted(set(numbers))
    assert not any(number % every for number in numbers)
    assert 2 <= len(numbers) < FRAMES / 1.5
    assert numbers[-1] >= FRAMES - 1 - every  # and not what came first
    first = found[0]["frame"] / RATE
    for line in found:
        assert line["time_s"] == pytest.approx(line["frame"] / RATE - first + found[0]["time_s"], abs=0.01)


def test_an_annotated_video_of_a_stream_keeps_its_times(address: str, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    run(InProcessDetector(SlowRuntime()), cast(Path, address), output)
    times = [frame.time or 0 for frame in frames(output)]
    assert 2 <= len(times) < FRAMES / 1.5
    # The video begins with the first frame that was detected in: not later than AT_ONCE.
    assert times == sorted(set(times)) and times[-1] > (FRAMES - AT_ONCE - 6) / RATE


def test_a_file_that_a_server_holds_is_no_camera(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4").read_bytes()

    class Files(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(clip)))
            self.end_headers()
            self.wfile.write(clip)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with VideoReader(f"http://127.0.0.1:{server.server_port}/clip.mp4") as reader:
            assert reader.is_live and not reader.is_endless
            assert [frame.index for frame in reader] == list(range(12))
        server.shutdown()


def scripted(*kinds: str, wait: Callable[[int], object] = lambda _: None) -> Iterator[Any]:
    """What a camera sends: `v`ideo and `a`udio."""
    count = 0
    for place, kind in enumerate(kinds):
        wait(place)
        if kind == "v":
            yield Frame("camera", count, count / RATE, cast(av.VideoFrame, None))
            count += 1
        else:
            yield SimpleNamespace(place=place)


def test_all_the_audio_and_the_last_frame_come_in_any_case() -> None:
    was_read = threading.Event()
    kinds = "vavvavva"
    source = newest(scripted(*kinds, wait=lambda place: was_read.set() if place == len(kinds) - 1 else None))
    got: list[Any] = [next(source)]
    assert was_read.wait(5)
    got += source
    assert [each.place for each in got if not isinstance(each, Frame)] == [1, 4, 7]
    numbers = [each.index for each in got if isinstance(each, Frame)]
    assert numbers == sorted(set(numbers)) and numbers[-1] == 4


def test_what_breaks_while_reading_is_raised_where_the_frames_are_used() -> None:
    def broken() -> Iterator[Any]:
        yield from scripted("v")
        raise ValueError("broken")

    source = newest(broken())
    with pytest.raises(ValueError, match="broken"):
        list(source)


def test_nobody_reads_on_after_the_end() -> None:
    packets = scripted(*"v" * 100_000, wait=lambda _: time.sleep(0.001))
    source = newest(packets)
    next(source)
    source.close()
    count = next(packets).index  # which a thread that still read would hold
    time.sleep(0.05)
    assert next(packets).index == count + 1
