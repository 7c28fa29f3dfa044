"""Detectors behind a server, with the interface of one in the process."""

from resnest_client.http_detector import HttpDetector

__all__ = ["HttpDetector"]
