"""mmdetection configurations, of versions 2 and 3, read without running them; no torch in this package.

`read_config_file` or `read_config` gives the merged dictionary, `settings_from_config` makes detector settings of it
or refuses by name what can't be built, and `differences` compares those with the published detectors'.
"""

from resnest_export.mmdet_config.comparison import (
    differences,
    differences_from_published,
    nearest_published,
    settings_of_published,
)
from resnest_export.mmdet_config.detector_sections import registered_code, settings_from_config
from resnest_export.mmdet_config.reader import read_config, read_config_file
from resnest_export.mmdet_config.settings import DetectorSettings

__all__ = [
    "DetectorSettings",
    "differences",
    "differences_from_published",
    "nearest_published",
    "read_config",
    "read_config_file",
    "registered_code",
    "settings_from_config",
    "settings_of_published",
]
