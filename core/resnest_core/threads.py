"""Threads of the libraries below, kept out of the network's way."""

from __future__ import annotations

import cv2
from threadpoolctl import threadpool_limits


def work_in_callers_thread() -> None:
    """Make OpenCV and NumPy's products use no threads of their own, for the whole process.

    Images are worked on side by side, so several threads for one of them only wait for each other. And a thread of
    OpenBLAS's that waits for the next product spins: half a core is gone that the network needs.
    """
    cv2.setNumThreads(1)
    threadpool_limits(1, user_api="blas")
