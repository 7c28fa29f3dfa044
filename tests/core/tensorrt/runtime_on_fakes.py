"""A TensorRT runtime on fakes, and batches for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from resnest_core import tensors
from resnest_core.card import ModelCard
from resnest_core.runtimes.fake import FAKE_CARD
from resnest_core.runtimes.tensorrt.cuda import Cuda
from resnest_core.runtimes.tensorrt.library import CudaEngine, TensorRtLibrary
from resnest_core.runtimes.tensorrt.manifest import EngineProfile, Flavour, ShapeBHW
from resnest_core.runtimes.tensorrt.runtime import TensorRtRuntime
from resnest_core.tensors import Tensors
from tests.core.tensorrt.fake_cuda import FakeCuda
from tests.core.tensorrt.fake_tensorrt import FakeTensorRt
from tests.core.tensorrt.manifests import PROFILES, make_manifest

LYING_STANDING = (
    EngineProfile(min=(1, 320, 320), opt=(4, 320, 544), max=(8, 320, 544)),
    EngineProfile(min=(1, 320, 320), opt=(4, 544, 320), max=(4, 544, 320)),
)


class Rig:
    """A runtime on fakes, with CUDA graphs unless told otherwise."""

    def __init__(
        self,
        card: ModelCard = FAKE_CARD,
        profiles: tuple[EngineProfile, ...] = PROFILES,
        flavour: Flavour = Flavour.TENSORRT,
        *,
        cuda_graphs: bool = True,
    ) -> None:
        self.api = FakeCuda()
        self.module = FakeTensorRt(self.api, card, profiles)
        self.engine = self.module.engine
        self.engine.is_captured = flavour is Flavour.TENSORRT
        typed: CudaEngine = self.engine  # the fake has the protocol's form
        manifest = make_manifest(profiles=profiles)
        library = TensorRtLibrary(self.module, flavour)
        self.runtime = TensorRtRuntime(card, manifest, library, typed, Cuda(self.api), cuda_graphs=cuda_graphs)

    def calls(self, name: str) -> int:
        return self.api.log.count(name)


def make_inputs(shape_bhw: ShapeBHW, *, seed: int = 0, masks: bool = True) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    batch, height, width = shape_bhw
    inputs = {
        tensors.IMAGES: rng.integers(0, 256, (*shape_bhw, 3), np.uint8),
        tensors.IMAGE_SIZES: np.tile([[height, width]], (batch, 1)),
        tensors.ORIGINAL_SIZES: rng.integers(100, 1000, (batch, 2)),
        tensors.SCORE_THRESHOLDS: rng.uniform(0, 0.8, (batch, 1)).astype(np.float32),
    }
    return inputs | {tensors.WANT_MASKS: rng.random((batch, 1)) < 0.5} if masks else inputs


def assert_equal(found: Tensors, expected: Tensors) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
