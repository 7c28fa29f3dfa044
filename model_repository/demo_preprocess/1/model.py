"""Made by `resnest repository`: the model itself is in resnest_core."""

from resnest_core.triton_models.preprocess import TritonPythonModel

__all__ = ["TritonPythonModel"]
