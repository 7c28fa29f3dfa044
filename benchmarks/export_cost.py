"""Time, peak memory and file size of an export.

    python benchmarks/export_cost.py mask_rcnn_s50 --checkpoint FILE [--repository DIR]

Needs the `export` extra. `resnest export` runs in a process of its own, its check of the file included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from resnest_core.repository import network_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--repository", type=Path, help="where the file stays; a temporary folder if not given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(measure(arguments.name, arguments.checkpoint, arguments.repository or Path(folder)))


def measure(name: str, checkpoint: Path, repository: Path) -> str:
    """Export a detector, and return a line of figures."""
    script = "from resnest_core.cli import main; main()"
    options = ["--checkpoint", str(checkpoint), "--repository", str(repository)]
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", script, "export", name, *options])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    seconds, cpu = time.monotonic() - start, usage.ru_utime + usage.ru_stime
    size = network_path(repository, name).stat().st_size / 2**20
    peak = usage.ru_maxrss / 2**20
    return f"{name}: {seconds:.0f} s, {cpu:.0f} CPU s, peak memory {peak:.1f} GiB, file {size:.0f} MiB"


if __name__ == "__main__":
    main()
