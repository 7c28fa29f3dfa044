"""How a model is divided between CPUs: batches that run at a time, threads of each, images in each."""

from __future__ import annotations

import logging
from typing import NamedTuple

from resnest_core.runtimes import RUNTIMES
from resnest_server.settings import Settings

log = logging.getLogger(__name__)
