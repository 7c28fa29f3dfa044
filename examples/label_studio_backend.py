"""Boxes for Label Studio, with its address in LABEL_STUDIO_URL and a token of it in LABEL_STUDIO_API_KEY."""

import os
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI, HTTPException

from resnest_client import HttpDetector

NAMES = {"from_name": "label", "to_name": "image", "type": "rectanglelabels"}  # of the project's labelling interface
KEY = {"Authorization": f"Token {os.environ['LABEL_STUDIO_API_KEY']}"}
studio = httpx.Client(base_url=os.environ["LABEL_STUDIO_URL"], headers=KEY)
app, detector = FastAPI(), HttpDetector(os.environ.get("RESNEST_URL", "http://127.0.0.1:8000"))


@app.get("/health")
@app.post("/setup")
def state() -> dict[str, str]:
    return {"status": "UP", "model_class": "ResNeSt", "model_version": detector.card.name}


@app.post("/predict")
def predict(body: dict[str, Any]) -> dict[str, Any]:
    paths = [task["data"]["image"] for task in body["tasks"]]
    if not all(path.startswith("/") for path in paths):
        raise HTTPException(422, "Use images that were uploaded to Label Studio: its key is for no other server.")
    return {"results": [prediction(path) for path in paths]}


def prediction(path: str) -> dict[str, Any]:
    found = detector.detect(studio.get(path).raise_for_status().content, masks=False, score_threshold=0.5)
    (height, width), regions = found.image_size_hw, []
    for one in found:
        x1, y1, x2, y2 = np.array(one.box_xyxy) / [width, height, width, height] * 100  # per cent
        box = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rectanglelabels": [one.class_name]}
        regions.append({**NAMES, "value": box, "score": one.score, "original_width": width, "original_height": height})
    return {"model_version": detector.card.name, "result": regions}
