"""A model in a running Triton Inference Server, beside its engine in this process without CUDA graphs.

`python -m tools.gpu_check.triton_server HOST:PORT REPOSITORY MODEL…`: the decision whether `resnest repository
--cuda-graphs` may be used with a Triton release. Not run on a GPU yet.
"""

from __future__ import annotations

import sys
from pathlib import Path

from resnest_client import GrpcDetector
from resnest_core.detector import InProcessDetector
from resnest_core.errors import ResNeStError
from resnest_core.repository import find_model, installed_models
from resnest_core.runtimes import TensorRtRuntime
from tools.gpu_check.comparison import ROUGHLY, answer, compare_in_turns, two_images
from tools.gpu_check.machine import NO_GPU, gpu
from tools.gpu_check.outcome import failed, not_run

TITLE = "A A A B B B A in Triton Inference Server"


def main(address: str, repository: Path, models: list[str]) -> None:
    """Check the models of a repository, all of them where none is named."""
    if gpu() is None:
        return not_run(TITLE, NO_GPU)
    for model in models or installed_models(repository):
        name = f"{TITLE}: {model}"
        try:
            path = find_model(model, repository)
            with InProcessDetector(TensorRtRuntime.load(path, cuda_graphs=False)) as engine:
                check(name, address, model, engine)
        except ResNeStError as error:
            failed(name, str(error))
    return None


def check(name: str, address: str, model: str, reference: InProcessDetector) -> None:
    """Compare a model's answers with those of a detector in this process."""
    images = two_images()
    with GrpcDetector(f"grpc://{address}", model) as served:
        compare_in_turns(name, served.detect, answer(reference), images, reference.card, ROUGHLY)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
