"""Clips that the tests encode: a bright square moves over a dark ground."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

RATE = 10
SIZE_HW = (64, 96)


def picture(index: int, size_hw: tuple[int, int] = SIZE_HW) -> NDArray[np.uint8]:
    """Return a frame: red in its left upper corner, so that it shows which side is up."""
    pixels = np.full((*size_hw, 3), 40, np.uint8)
    pixels[20:40, 10 + 3 * index : 30 + 3 * index] = 220
    pixels[:16, :16] = [255, 0, 0]
    return pixels


def write_clip(
    path: Path,
    frames: int = 12,
    *,
    times: list[float] | None = None,
    audio: bool = False,
    audio_s: float | None = None,
    **options: Any,
) -> Path:
    """Encode a clip; `times` are the frames' seconds, if they aren't evenly spaced."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options={"g": "5", **options})
        video.height, video.width = SIZE_HW
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=8000) if audio else None
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.time_base = Fraction(1, 1000)
            frame.pts = round(1000 * (times[index] if times else index / RATE))
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            tone = (np.sin(np.arange(int(8000 * (audio_s or frames / RATE))) / 5) * 9000).astype(np.int16)
            for start in range(0, len(tone), 1024):
                part = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="s16", layout="mono")
                part.sample_rate, part.pts, part.time_base = 8000, start, Fraction(1, 8000)
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))
    return path


def turn(path: Path) -> None:
    """Write into an MP4 file's header that it is to be shown turned by 90° clockwise, as telephones do."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # after version, times, number, duration, layer, volume
    quarter = (0, 1 << 16, 0, -(1 << 16), 0, 0, SIZE_HW[0] << 16, 0, 1 << 30)
    data[matrix : matrix + 36] = struct.pack(">9i", *quarter)
    path.write_bytes(data)
