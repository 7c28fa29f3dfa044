"""Reads a `.pth` file without executing anything that its pickles name.

Python's unpickler reaches code only through `find_class`. Here that returns functions of this module for tensors,
plain containers, and a stand-in for everything else: configurations, histories, numpy arrays, paths, attacks.
"""

from __future__ import annotations

import os
import pickle
import warnings
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # the names that protocols 0 to 2 give Python 3's modules
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class StandIn(dict[Any, Any]):
    """Replaces an object of a class that isn't imported: keeps what the pickle gave it, and runs none of it.

    Its items are those of a mapping; `arguments` are those of its construction, `state` is its pickled state.
    """

    kind = "object"
    """Full name of the class or function."""
    arguments: tuple[Any, ...]
    state: Any

    __hash__ = object.__hash__  # type: ignore[assignment]  # stands in sets, and as a key
    __eq__ = object.__eq__

    def __new__(cls, *arguments: Any, **_: Any) -> StandIn:
        stand_in: StandIn = dict.__new__(cls)
        stand_in.arguments = arguments
        stand_in.state = None
        return stand_in

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take no items from the arguments, as a dict would."""

    def __call__(self, *arguments: Any, **_: Any) -> StandIn:
        """Stand in for the result of calling it."""
        return type(self)(*arguments)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, _: Any) -> None:
        """Drop an item of what may be a list."""

    def extend(self, _: Any) -> None:
        """Drop items of what may be a list."""

    def add(self, _: Any) -> None:
        """Drop an item of what may be a set."""


class UnsupportedTensor:
    """Stands for a tensor that isn't plain numbers in memory: `kind` says what it is."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class _Function:
    """A function on the unpickler's stack, where nothing can change its attributes."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function has no state")


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    return torch._utils._rebuild_tensor(storage, offset, size, stride)  # type: ignore[no-untyped-call]


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _with_attributes(function: Callable[..., Any], _: Any, arguments: tuple[Any, ...], __: Any) -> Any:
    return function(*arguments)


def _bytes(text: str, encoding: str) -> bytes:
    return text.encode("ascii" if encoding == "ascii" else "latin1")


def _unsupported(kind: str) -> Callable[..., UnsupportedTensor]:
    return lambda *_: UnsupportedTensor(kind)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "_codecs.encode": _bytes,  # protocols 0 to 2 write bytes so
    "torch._utils._rebuild_tensor_v3": _unsupported("of a type without arithmetic"),
    "torch._utils._rebuild_qtensor": _unsupported("quantized"),
    "torch._utils._rebuild_sparse_tensor": _unsupported("sparse"),
    "torch._utils._rebuild_nested_tensor": _unsupported("nested"),
    "torch._utils._rebuild_meta_tensor_no_storage": _unsupported("without data"),
    "torch._utils._rebuild_wrapper_subclass": _unsupported("a subclass of tensors"),
    "torch._utils._rebuild_device_tensor_from_numpy": _unsupported("of another device"),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _unsupported("of another device"),
}
CONTAINERS: dict[str, type] = {
    "collections.OrderedDict": OrderedDict,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.complex": complex,
    "builtins.bytearray": bytearray,
}


class InertUnpickler(pickle.Unpickler):
    """An unpickler that imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what replaces a class or function; the names are the file's."""
        if (module, name) in NAME_MAPPING:
            module, name = NAME_MAPPING[module, name]
        else:
            module = IMPORT_MAPPING.get(module, module)
        full_name = f"{module}.{name}"
        if full_name in FUNCTIONS:
            return _Function(FUNCTIONS[full_name])
        if full_name in CONTAINERS:
            return CONTAINERS[full_name]
        # torch asks a storage for its type: these bytes become an `UnsupportedTensor` afterwards.
        extra = {"dtype": torch.uint8} if name == "UntypedStorage" else {}
        return type("StandIn", (StandIn,), {"kind": full_name, **extra})


class InertPickle:
    """What torch takes instead of the module `pickle`."""

    Unpickler = InertUnpickler

    @staticmethod
    def load(file: IO[bytes], **options: Any) -> Any:
        """Read one pickle."""
        return InertUnpickler(file, **options).load()


def read_inert(path: Path) -> Any:
    """Return what torch saved in a file, with stand-ins for all that isn't a tensor or a builtin.

    The caller makes sure that the file is neither a TorchScript archive nor a tar file: torch reads those otherwise.

    Raises:
        Exception: of any class, on damaged files.
    """
    # Python 2's strings, which are bytes, have no encoding: latin1 reads any.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=InertPickle, encoding="latin1")


def weights_only_is_forced() -> bool:
    """Return whether the environment forbids torch any unpickler but its own, which can't read protocols 3 to 5."""
    return os.environ.get(FORCED, "0").lower() in ("1", "y", "yes", "true")


def plain_tensor(value: object) -> str | None:
    """Return what keeps a value from being a plain tensor, or None."""
    if isinstance(value, UnsupportedTensor):
        return value.kind
    if isinstance(value, StandIn):
        return f"a {value.kind}"
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return "complex" if value.is_complex() else None
