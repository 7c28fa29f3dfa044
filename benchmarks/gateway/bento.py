"""The service that BentoML runs: it finds services by module and name."""

from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType

from benchmarks.gateway.work import answer, make_detector


@bentoml.service(workers=1, traffic={"timeout": 60})
class Detect:
    """The same work as everywhere here."""

    def __init__(self) -> None:
        self.detector = make_detector()

    @bentoml.api(route="/v1/detect")  # type: ignore[untyped-decorator]
    def detect(self, file: Path) -> Annotated[str, ContentType("application/json")]:
        return answer(self.detector, file.read_bytes()).decode()
