"""Where our own operators belong: the domain of their names in ONNX, and the namespace of their plugins."""

DOMAIN = "resnest"
VERSION = 1
