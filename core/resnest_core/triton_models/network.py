"""`<model>_network` where Triton has no backend for the file: ONNX Runtime or OpenVINO in Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnest_core.cpus import share_of_cpus
from resnest_core.repository import load_detector
from resnest_core.tensors import input_names
from resnest_core.triton_models.common import (
    Request,
    Response,
    cancelled,
    fail,
    read,
    read_instances,
    read_parameters,
    respond,
)


class TritonPythonModel:
    """Runs a batch of requests of one padded shape at once."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load `model.onnx` of this version; a damaged one leaves this model unavailable, and the others serve."""
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        parameters = read_parameters(args)
        threads, instances = int(parameters["threads"]) or None, read_instances(args)
        if threads is None and instances > 1:  # each is a process of its own, whose runtime knows nothing of the others
            threads = share_of_cpus(instances)
        self.runtime = load_detector(path, runtime=parameters["runtime"], threads=threads).runtime
        self.inputs = input_names(self.runtime.card.has_masks)

    def execute(self, requests: list[Request]) -> list[Response]:
        """Answer the requests of a batch; cancelled ones aren't run."""
        gone = [request.is_cancelled() for request in requests]
        waiting = [request for request, has_gone in zip(requests, gone, strict=True) if not has_gone]
        try:
            answers = iter(self._run(waiting) if waiting else [])
        except Exception as error:  # the batch ran as one, so it fails as one
            answers = iter([fail(error) for _ in waiting])
        return [cancelled() if has_gone else next(answers) for has_gone in gone]

    def finalize(self) -> None:
        """Close the runtime."""
        self.runtime.close()

    def _run(self, requests: list[Request]) -> list[Response]:
        rows: list[dict[str, NDArray[Any]]] = [
            {name: array for name in self.inputs if (array := read(request, name)) is not None} for request in requests
        ]
        batch = (
            rows[0] if len(rows) == 1 else {name: np.concatenate([row[name] for row in rows]) for name in self.inputs}
        )
        outputs = self.runtime.run(batch)
        ends = np.cumsum([len(row[self.inputs[0]]) for row in rows])[:-1]
        parts = {name: np.split(array, ends) for name, array in outputs.items()}
        return [respond({name: split[index] for name, split in parts.items()}) for index in range(len(rows))]
