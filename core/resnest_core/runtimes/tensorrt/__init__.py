"""TensorRT and TensorRT-RTX: engines, their manifests, and the runtime that loads them."""
