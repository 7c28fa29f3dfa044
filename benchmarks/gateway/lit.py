"""The API that LitServe runs: its worker process finds the class by module and name."""

import litserve as ls
from fastapi import Request, Response

from benchmarks.gateway.work import answer, make_detector


class Detect(ls.LitAPI):  # type: ignore[misc]
    """The same work as everywhere here."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        self.detector = make_detector()

    def decode_request(self, request: Request) -> bytes:
        image: bytes = request["file"].file.read()  # LitServe hands the form over
        return image

    def predict(self, image: bytes) -> bytes:
        return answer(self.detector, image)

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="application/json")
