"""Checks of an ensemble's configuration in Triton, and translation of its errors."""

from __future__ import annotations

from types import SimpleNamespace as Namespace
from typing import Any

import pytest

from resnest_core.errors import (
    InvalidModelError,
    ModelNotFoundError,
    NotAnImageError,
    OverloadedError,
    RemoteError,
    ResNeStError,
    TimedOutError,
    UnreachableError,
)
from resnest_core.runtimes.fake import FAKE_CARD
from resnest_core.triton_ensemble import check_tensors, read_error

PLAIN = FAKE_CARD.model_copy(update={"mask_size": None})


def tensor(name: str, datatype: str, *shape: int) -> Any:
    return Namespace(name=name, datatype=datatype, shape=[-1, *shape])


def metadata() -> Any:
    """Return what Triton tells of a model with masks."""
    inputs = [tensor("image", "BYTES", 1), tensor("score_threshold", "FP32", 1), tensor("want_masks", "BOOL", 1)]
    outputs = [
        tensor("num_detections", "INT64", 1),
        tensor("boxes", "FP32", 100, 4),
        tensor("scores", "FP32", 100),
        tensor("labels", "INT64", 100),
        tensor("masks", "FP16", 100, 28, 28),
        tensor("original_sizes", "INT64", 2),
    ]
    return Namespace(inputs=inputs, outputs=outputs)


def test_ours_passes() -> None:
    check_tensors(metadata(), FAKE_CARD)
    plain = metadata()
    del plain.inputs[2], plain.outputs[4]
    check_tensors(plain, PLAIN)


def test_every_difference_is_told_in_one_message() -> None:
    other = metadata()
    other.inputs[0].datatype = "UINT8"
    other.outputs[1].shape = [-1, 300, 4]
    del other.outputs[3]
    other.outputs.append(tensor("extra", "FP32", 1))
    with pytest.raises(InvalidModelError) as caught:
        check_tensors(other, FAKE_CARD)
    for part in (
        "Triton's model fake is of another version",
        "input image is UINT8 [1] instead of BYTES [1]",
        "output boxes is FP32 [300, 4] instead of FP32 [100, 4]",
        "output labels is missing instead of INT64 [100]",
        "output extra is FP32 [1] instead of none",
        "with `resnest repository`",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("status", "message", "kind", "says"),
    [
        ("INVALID_ARGUMENT", "in ensemble 'fake', It is cut short.", NotAnImageError, "It is cut short."),
        ("NOT_FOUND", "gone", ModelNotFoundError, "no model 'fake' at host:1"),
        ("UNAVAILABLE", "Request for unknown model: 'fake' is not found", ModelNotFoundError, "no model 'fake'"),
        ("UNAVAILABLE", "refused", UnreachableError, "try again later"),
        ("UNAVAILABLE", "Exceeds maximum queue size", OverloadedError, "no room"),
        ("RESOURCE_EXHAUSTED", "full", OverloadedError, "no room"),
        ("DEADLINE_EXCEEDED", "late", TimedOutError, "try again later"),
        ("INTERNAL", "a trace with a path", RemoteError, "its log says why"),
    ],
)
def test_what_errors_mean(status: str, message: str, kind: type[ResNeStError], says: str) -> None:
    class TritonError(Exception):
        def status(self) -> str:
            return f"StatusCode.{status}"

        def message(self) -> str:
            return message

    error = read_error(TritonError(), "fake", "host:1")
    assert type(error) is kind
    assert says in str(error) and "path" not in str(error)
