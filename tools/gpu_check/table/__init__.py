"""`tools/gpu_check.sh --table`: speed, memory and accuracy of the detectors' engines on a GPU. Not run yet."""
