"""Triton's model repository, generated: configuration as dataclasses, their text, and the files of a model."""
