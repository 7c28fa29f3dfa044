"""Made by `resnest repository`: the model itself is in resnest_core."""

from resnest_core.triton_models.network import TritonPythonModel

__all__ = ["TritonPythonModel"]
