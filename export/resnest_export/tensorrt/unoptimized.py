"""ONNX Runtime without graph optimization, which changes the results of fp8 networks (seen in 1.32)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typing_extensions import Self

from resnest_core.card import ModelCard
from resnest_core.runtimes import OnnxRuntime
from resnest_core.runtimes.onnxruntime_runtime import session_options


class UnoptimizedOnnxRuntime(OnnxRuntime):
    """ONNX Runtime with all graph optimizations disabled."""

    @classmethod
    def load(cls, path: Path, *, threads: int | None = None, **options: Any) -> Self:  # noqa: ARG003 - CPU only
        import onnxruntime

        unoptimized = session_options(threads)
        unoptimized.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(path, unoptimized, providers=["CPUExecutionProvider"])
        return cls(session, ModelCard.from_metadata(session.get_modelmeta().custom_metadata_map, path))
