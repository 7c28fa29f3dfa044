"""`resnest detect` on videos, cameras and streams."""
