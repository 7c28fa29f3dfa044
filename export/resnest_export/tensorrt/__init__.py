"""TensorRT engines: the detectors with fixed sizes, the plugins' adapters, and the build."""
