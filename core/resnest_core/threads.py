"""Limits the thread pools of OpenCV and BLAS."""

from __future__ import annotations

import cv2
from threadpoolctl import threadpool_limits


def work_in_callers_thread() -> None:
    """Make OpenCV and NumPy's matrix products run in the calling thread, for the whole process.

    Images are processed in parallel already, so more threads per image only contend. An idle OpenBLAS thread also
    spins while it waits, which was measured to take half a core from the network.
    """
    cv2.setNumThreads(1)
    threadpool_limits(1, user_api="blas")
