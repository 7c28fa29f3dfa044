"""Draw boxes, numbers and paths of objects into a video, with supervision and its ByteTrack.

python examples/track_video.py street.mp4 street.annotated.mp4 --model mask_rcnn_s50
"""

import argparse
import warnings

import numpy as np
import supervision as sv

from resnest_core import load_detector

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("source")
parser.add_argument("target")
parser.add_argument("--model", default="demo")
options = parser.parse_args()

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of supervision, that its tracker will move to another package
    tracker = sv.ByteTrack(frame_rate=round(sv.VideoInfo.from_video_path(options.source).fps))
boxes, labels, paths = sv.BoxAnnotator(), sv.LabelAnnotator(), sv.TraceAnnotator()
numbers: set[int] = set()


def annotate(frame: np.ndarray, _: int) -> np.ndarray:
    """Return one frame (BGR) with what was found drawn into it."""
    found = detector.detect(frame, masks=False, score_threshold=0.5, color="bgr")
    tracked = tracker.update_with_detections(found.to_supervision())
    numbers.update(tracked.tracker_id.tolist())
    texts = [f"{name} {number}" for name, number in zip(tracked.data["class_name"], tracked.tracker_id, strict=True)]
    return paths.annotate(labels.annotate(boxes.annotate(frame.copy(), tracked), tracked, texts), tracked)


with load_detector(options.model) as detector:
    sv.process_video(options.source, options.target, annotate)
print(f"{len(numbers)} objects were followed; the video is {options.target}.")
