"""TensorRT, on the GPU: runs the engine `model.plan` in the folder of `model.onnx`.

Unverified: it is tested with a fake of TensorRT's and CUDA's interfaces, and has not been run on a GPU yet.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Self

from resnest_core import tensors
from resnest_core.buckets import Buckets, padded_sizes_hw
from resnest_core.card import ModelCard, read_card
from resnest_core.errors import EngineMismatchError, InvalidModelError, ParameterError, RuntimeUnavailableError
from resnest_core.runtimes.base import Runtime
from resnest_core.runtimes.tensorrt.cuda import Cuda
from resnest_core.runtimes.tensorrt.execution import EngineMemory, ShapeExecution, Shapes
from resnest_core.runtimes.tensorrt.library import CudaEngine, TensorRtLibrary
from resnest_core.runtimes.tensorrt.manifest import PLAN, EngineManifest, ShapeBHW
from resnest_core.runtimes.tensorrt.profile_selection import Fit, largest_batch, nearest
from resnest_core.tensors import Tensors, input_names, output_names, output_shapes

CUDA_GRAPHS = "RESNEST_CUDA_GRAPHS"
"""The environment variable that turns CUDA graphs on. They are off by default: Triton's have answered with an earlier
request's results, and these haven't been run on a GPU yet."""
SWITCH = {"": False, "false": False, "0": False, "true": True, "1": True}
MAX_SHAPES = 32  # shapes whose contexts and graphs are cached, least recently used first out


class TensorRtRuntime(Runtime):
    """Runs an engine on one GPU, one batch at a time; other threads wait.

    A batch is padded to the nearest shape that a profile of the engine holds: what lies outside `image_sizes` is
    ignored, and rows that were added are cut off the answer. More images than a profile holds run in several parts.
    """

    name = "tensorrt"
    title = "TensorRT"
    packages = ("tensorrt", "cuda")
    devices = ("cuda",)
    is_automatic = False  # it has not been run on a GPU yet
    fallbacks = (("onnxruntime", "cuda"), ("onnxruntime", "cpu"))
    device = "cuda:0"  # the first GPU that CUDA shows

    def __init__(
        self,
        card: ModelCard,
        manifest: EngineManifest,
        library: TensorRtLibrary,
        engine: CudaEngine,
        cuda: Cuda,
        *,
        cuda_graphs: bool = False,
    ) -> None:
        self.card = card
        self.manifest = manifest
        self._library = library
        self._engine = engine
        self._cuda_graphs = cuda_graphs
        self._lock = threading.Lock()
        self._executions: OrderedDict[Fit, ShapeExecution] = OrderedDict()
        inputs, outputs = library.tensor_types(engine)
        self._input_names = tuple(inputs)
        # Of several profiles each may be the largest in another dimension.
        bounds = [self._shapes(profile.max) for profile in manifest.profiles]
        largest = {
            name: max((each[name] for shapes in bounds for each in shapes if name in each), key=np.prod)
            for name in (*inputs, *outputs)
        }
        self._memory: EngineMemory | None = EngineMemory(cuda, inputs | outputs, largest, engine.device_memory_size_v2)

    @classmethod
    def load(  # `options` are those of CPUs
        cls,
        path: Path,
        *,
        device: str | None = None,
        cuda_graphs: bool | None = None,
        **options: Any,  # noqa: ARG003
    ) -> Self:
        """Load the engine beside the ONNX file at `path`.

        `cuda_graphs`: whether each shape is captured as a CUDA graph; None: $RESNEST_CUDA_GRAPHS, else no.

        Raises:
            ParameterError: the variable is neither true nor false.
            InvalidModelError: there is no engine, or it or the ONNX file is damaged.
            EngineMismatchError: the engine was built for another machine, or from another ONNX file.
            MissingExtraError: TensorRT or CUDA's bindings aren't installed.
            RuntimeUnavailableError: there is no GPU, or it has too little memory.
        """
        cls.checked_device(device)
        cuda_graphs = _wants_cuda_graphs() if cuda_graphs is None else cuda_graphs
        plan = path.with_name(PLAN)
        card = read_card(path)
        manifest = EngineManifest.find(plan, card)
        library, cuda = TensorRtLibrary.load(manifest.tensorrt_flavour), Cuda.load()
        manifest.check(library.machine(cuda.gpu()))
        manifest.check_files(plan)
        for size_hw in padded_sizes_hw(card, Buckets.EXACT):
            _most_at_once(manifest, size_hw)
        engine = library.load_engine(plan.read_bytes(), version_compatible=manifest.is_version_compatible)
        _check_tensors(library, engine, card, manifest)
        return cls(card, manifest, library, engine, cuda, cuda_graphs=cuda_graphs)

    def run(self, inputs: Tensors) -> Tensors:
        """See `Runtime.run`.

        Raises:
            EngineMismatchError: no profile of the engine holds images of this size.
            RuntimeUnavailableError: CUDA or TensorRT reports an error, or the runtime is closed.
        """
        batch, height, width, _ = inputs[tensors.IMAGES].shape
        most = _most_at_once(self.manifest, (height, width))
        if batch > most:
            parts = [
                self.run({name: array[start : start + most] for name, array in inputs.items()})
                for start in range(0, batch, most)
            ]
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        fit = nearest(self.manifest.profiles, (batch, height, width))
        assert fit is not None
        with self._lock:
            return self._run(inputs, fit)

    @property
    def captured(self) -> int:
        """How many shapes have a CUDA graph; those that TensorRT-RTX makes by itself aren't known."""
        return sum(execution.is_captured for execution in self._executions.values())

    def close(self) -> None:
        """Free the GPU's memory."""
        with self._lock:
            while self._executions:
                self._executions.popitem()[1].close()
            if self._memory is not None:
                self._memory.close()
                self._memory = None

    def _run(self, inputs: Tensors, fit: Fit) -> Tensors:
        if self._memory is None:
            raise RuntimeUnavailableError(f"The engine of {self.card.name} is closed: load it again.")
        execution = self._execution(fit, self._memory)
        input_shapes, shapes = self._shapes(fit.shape_bhw)
        rows = len(inputs[tensors.IMAGES])
        for name, shape in input_shapes.items():
            view, given = self._memory.buffers[name].view(shape), inputs[name]
            if name == tensors.IMAGES:
                view[:rows, : given.shape[1], : given.shape[2]] = given
            else:
                view[:rows], view[rows:] = given, given[:1]
        execution.run()
        return {name: self._memory.buffers[name].view(shape)[:rows].copy() for name, shape in shapes.items()}

    def _execution(self, fit: Fit, memory: EngineMemory) -> ShapeExecution:
        if fit not in self._executions:
            if len(self._executions) == MAX_SHAPES:
                self._executions.popitem(last=False)[1].close()
            self._executions[fit] = ShapeExecution(
                self._library, self._engine, memory, fit, *self._shapes(fit.shape_bhw), cuda_graphs=self._cuda_graphs
            )
        self._executions.move_to_end(fit)
        return self._executions[fit]

    def _shapes(self, shape_bhw: ShapeBHW) -> tuple[Shapes, Shapes]:
        """Return the shapes of the engine's inputs and outputs for `images` of this shape."""
        batch = shape_bhw[0]
        rows = {
            tensors.IMAGES: (*shape_bhw[1:], 3),
            tensors.IMAGE_SIZES: (2,),
            tensors.ORIGINAL_SIZES: (2,),
            tensors.SCORE_THRESHOLDS: (1,),
            tensors.WANT_MASKS: (1,),
        }
        outputs = output_shapes(self.card.max_detections, self.card.mask_size)
        return (
            {name: (batch, *rows[name]) for name in self._input_names},
            {name: (batch, *shape) for name, shape in outputs.items()},
        )


def _wants_cuda_graphs() -> bool:
    value = os.environ.get(CUDA_GRAPHS, "").strip().lower()
    if value not in SWITCH:
        raise ParameterError(f"{CUDA_GRAPHS} is {value!r}: set it to true or false.")
    return SWITCH[value]


def _most_at_once(manifest: EngineManifest, size_hw: tuple[int, int]) -> int:
    """Return how many images of this padded size run at once; raise EngineMismatchError where not even one does."""
    most = largest_batch(manifest.profiles, size_hw)
    if not most:
        sizes = " or ".join(sorted({f"{each.max[1]}×{each.max[2]}" for each in manifest.profiles}))
        raise EngineMismatchError(
            f"The engine of {manifest.model} runs images up to {sizes} (height×width), not {size_hw[0]}×{size_hw[1]}: "
            f"{manifest.remedy}."
        )
    return most


def _check_tensors(library: TensorRtLibrary, engine: CudaEngine, card: ModelCard, manifest: EngineManifest) -> None:
    """Raise InvalidModelError if the engine's tensors differ from those of the card and the manifest."""
    inputs, outputs = library.tensor_types(engine)
    # TensorRT drops an input that nothing reads.
    has_inputs = tensors.IMAGES in inputs and set(inputs) <= set(input_names(card.has_masks))
    has_outputs = set(outputs) == set(output_names(card.has_masks))
    types = tensors.INPUT_TYPES | tensors.OUTPUT_TYPES
    has_types = all(types.get(name) == dtype for name, dtype in (inputs | outputs).items())
    has_profiles = engine.num_optimization_profiles == len(manifest.profiles)
    if not (has_inputs and has_outputs and has_types and has_profiles):
        raise InvalidModelError(f"The engine of {card.name} has other tensors than its model: {manifest.remedy}.")
