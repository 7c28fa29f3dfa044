"""Read mmdetection configurations, of mmdetection 2 and 3, without running them; no torch in this package."""
