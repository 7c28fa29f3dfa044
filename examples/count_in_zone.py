"""Count the objects that stand in a part of each image, with supervision's zones.

python examples/count_in_zone.py 0,0,320,0,320,480,0,480 photo.jpg other.jpg --model mask_rcnn_s50
"""

import argparse

import numpy as np
import supervision as sv

from resnest_core import load_detector

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("polygon", help="x,y,x,y,… in pixels")
parser.add_argument("images", nargs="+")
parser.add_argument("--model", default="demo")
options = parser.parse_args()

polygon = np.array(options.polygon.split(","), int).reshape(-1, 2)
zone = sv.PolygonZone(polygon, triggering_anchors=[sv.Position.CENTER])
with load_detector(options.model) as detector:
    for path, found in zip(options.images, detector.detect_many(options.images, score_threshold=0.5), strict=True):
        inside = found[zone.trigger(found.to_supervision())]
        print(f"{path}: {len(inside)} of {len(found)} in the zone: {', '.join(inside.class_names) or 'none'}")
