"""The newest frames of a camera or stream, for detectors that are slower than it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from resnest_client.video.reader import Frame

if TYPE_CHECKING:
    import av


def newest(packets: Iterable[Frame | av.Packet[Any]], every: int = 1) -> Generator[Frame | av.Packet[Any], None, None]:
    """Yield all packets of audio, and the newest frame whenever one is asked for.

    A thread reads on in the meantime, so that no buffer on the way fills up, and what is detected is what happens now.
    Frames that nobody asked for in time are left out.

    Args:
        packets: what the camera or stream sends.
        every: take only each Nth frame.
    """
    latest = _Latest(packets, every)
    thread = threading.Thread(target=latest.read, daemon=True)
    thread.start()
    try:
        yield from latest
    finally:
        latest.is_stopped = True
        thread.join()  # the container must not be closed while it is read


class _Latest:
    def __init__(self, packets: Iterable[Frame | av.Packet[Any]], every: int) -> None:
        self._packets = packets
        self._every = every
        self._changed = threading.Condition()
        self._audio: deque[av.Packet[Any]] = deque()
        self._frame: Frame | None = None
        self._has_ended = False
        self._error: BaseException | None = None
        self.is_stopped = False

    def read(self) -> None:
        count = 0
        try:
            for each in self._packets:
                if self.is_stopped:
                    return
                with self._changed:
                    if not isinstance(each, Frame):
                        self._audio.append(each)
                    else:
                        if count % self._every == 0:
                            self._frame = each
                        count += 1
                    self._changed.notify()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify()

    def __iter__(self) -> Iterator[Frame | av.Packet[Any]]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frame or self._audio or self._has_ended)
                audio, self._audio = self._audio, deque()
                frame, self._frame = self._frame, None
                has_ended = self._has_ended
            yield from audio
            if frame is not None:
                yield frame
            elif has_ended:
                if self._error is not None:
                    raise self._error
                return
