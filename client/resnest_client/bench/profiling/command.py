"""Command-line part of `resnest bench --profile`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from resnest_client.bench import options
from resnest_client.bench.plots import require_matplotlib
from resnest_client.bench.profiling import report as profile_report
from resnest_client.bench.profiling.profiler import profile
from resnest_client.bench.profiling.request import ProfileRequest
from resnest_client.bench.profiling.results import write_profile
from resnest_client.detector_options import DetectorOptions
from resnest_core.errors import ParameterError

CPU = "cpu"


def refuse(detector_options: DetectorOptions, other_options: bool) -> None:
    """Check the options for a profile.

    Raises:
        ParameterError: there is a URL, a device other than the CPU, or an option for loads.
    """
    if detector_options.url is not None:
        raise ParameterError("--profile can't look into a server: drop --url, and name --model and --runtime.")
    if detector_options.device not in (None, CPU):
        raise ParameterError(f"--profile is for the {CPU}, not for {detector_options.device}: drop --device.")
    if other_options:
        raise ParameterError(
            "--profile runs one image --count times: drop --concurrency, --rate, --duration, --append, --all "
            "and --runtimes."
        )


def run(
    request: ProfileRequest, output: Path | None, markdown: Path | None, plots: Path | None, stdout: Console
) -> None:
    """Profile, print the table, and write the files."""
    options.require_psutil()
    if plots:
        require_matplotlib()
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    found = profile(request, console)
    if output:
        write_profile(output, found)
    if markdown:
        markdown.write_text(profile_report.markdown(found), encoding="utf-8")
    profile_report.show(found, stdout)
    if plots:
        console.print(f"Plots: {', '.join(map(str, profile_report.plot_profile(found, plots)))}.", markup=False)
