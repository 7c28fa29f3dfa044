"""Trained PyTorch detectors to ONNX, OpenVINO and TensorRT."""
