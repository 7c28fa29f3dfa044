"""Reports of a profile: table and bar chart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from resnest_client.bench.plots import COLOURS, SIZE_INCHES, SUFFIXES, require_matplotlib
from resnest_client.bench.profiling.results import Profile, Stage
from resnest_client.bench.profiling.stages import NETWORK
from resnest_client.bench.report import NONE, about_machine, markdown_table, print_whole, significant

HEADERS = ("stage", "ms", "% of time", "GFLOP", "in", "GFLOP/s", "% of peak", "% of used")
GREY, LIGHT, PALE = "#999999", "#dddddd", "#a6cde6"


def show(profile: Profile, console: Console) -> None:
    """Print the table and the description of the machine."""
    table = Table(title=title(profile), title_justify="left", box=None, pad_edge=False)
    for header in HEADERS:
        table.add_column(header, justify="left" if header == HEADERS[0] else "right")
    for stage in profile.stages:
        table.add_row(*_cells(stage))
    table.add_section()
    table.add_row(*_cells(whole(profile)))
    print_whole(table, console)
    console.print("\n".join(notes(profile)), markup=False)


def markdown(profile: Profile) -> str:
    """Return the table as Markdown, with the notes, the machine and the package versions."""
    table = markdown_table(HEADERS, [_cells(stage) for stage in (*profile.stages, whole(profile))])
    return "\n\n".join([f"### {title(profile)}", table, *notes(profile), about_machine(profile)]) + "\n"


def whole(profile: Profile) -> Stage:
    """Return the stages' sum as a stage."""
    ms = sum(stage.ms for stage in profile.stages)
    working = [stage for stage in profile.stages if stage.gflop]
    work: Counter[str] = Counter()
    for stage in working:
        work.update(stage.gflop_by_precision or {})
    shares = [[getattr(stage, name) for stage in working] for name in ("share_of_peak", "share_of_used")]
    of_peak, of_used = (
        None if None in each else sum(share * stage.ms for share, stage in zip(each, working, strict=True)) / ms
        for each in shares
    )
    return Stage(
        name="whole",
        ms=ms,
        share_of_time=1,
        gflop=profile.gflop,
        gflop_by_precision=dict(work),
        gflop_per_second=profile.gflop / ms * 1e3,
        share_of_peak=of_peak,
        share_of_used=of_used,
    )


def title(profile: Profile) -> str:
    """Return the title of the report."""
    subject, (height, width) = profile.subject, profile.image.padded_size_hw
    threads = [f"{subject.threads} threads"] if subject.threads else []
    return ", ".join([subject.model, subject.where, subject.precision, *threads, f"{width}×{height}"])


def notes(profile: Profile) -> list[str]:
    """Return the notes below the table."""
    image, (height, width) = profile.image, profile.image.size_hw
    low, high = (significant(end or 0) for end in profile.whole_range_ms)
    return [
        f"{image.file}, {width}×{height}: {profile.detections} detections{'' if profile.masks else ', boxes only'}. "
        f"Medians of {profile.count}, after one to warm up.",
        f"From bytes to JSON {significant(profile.whole_ms)} ms ({low}–{high}), measured around all stages.",
        f"Peak: {_peaks(profile)} on {profile.threads} threads, from the CPU time of products of 512², 1024² and 2048² "
        "matrices, the best of several before and after. % of peak is by the precision that each product ran in.",
        f"The network took {significant(profile.network_cpu_ms)} ms of CPU time, so {profile.network_cores:.2f} cores "
        "on average: % of used is of what those could do, as others may have had the rest.",
        *profile.notes,
    ]


def plot_profile(profile: Profile, folder: Path) -> list[Path]:
    """Write the chart into a folder, as PNG and SVG, and return the files.

    Raises:
        MissingExtraError: matplotlib isn't installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    time, peak = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    stages = profile.stages
    names = [stage.name for stage in stages]
    colours = [COLOURS[0] if name in NETWORK else GREY for name in names]
    of_time = [f"{significant(stage.ms)} ms, {stage.share_of_time:.0%}" for stage in stages]
    time.bar_label(
        time.barh(names, [stage.ms for stage in stages], color=colours, height=0.7), of_time, padding=3, fontsize=8
    )
    used = peak.barh(names, _percent(stage.share_of_used for stage in stages), color=PALE, height=0.7)
    peak.barh(names, _percent(stage.share_of_peak for stage in stages), color=COLOURS[0], height=0.7)
    shares = [
        f"{stage.share_of_peak:.0%}, {stage.share_of_used:.0%}" if stage.share_of_peak and stage.share_of_used else ""
        for stage in stages
    ]
    peak.bar_label(used, shares, padding=3, fontsize=8)
    for axes in (time, peak):
        axes.grid(True, axis="x", color=LIGHT, linewidth=0.8)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    time.invert_yaxis()
    time.set_xlim(0, max(stage.ms for stage in stages) * 1.35)
    time.set_xlabel("ms")
    widest = max(_percent(stage.share_of_used or stage.share_of_peak for stage in stages))
    peak.set_xlim(0, max(widest, 100) * 1.55)
    peak.set_xticks(range(0, 101, 50))
    peak.set_xlabel(f"% of peak: {_peaks(profile)}")
    time.set_title(title(profile), loc="left", fontweight="bold", fontsize=11)
    peak.set_title("pale: of the cores used", loc="right", fontsize=9, color="#555555")
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"profile{suffix}" for suffix in SUFFIXES]
    for file in files:
        figure.savefig(file, dpi=150)
    return files


def _percent(shares: Iterable[float | None]) -> list[float]:
    return [(share or 0) * 100 for share in shares]


def _peaks(profile: Profile) -> str:
    """Return the peaks as a phrase: those of all precisions, such as `190 GFLOP/s in fp32, 380 in bf16`."""
    (first, rate), *others = profile.peaks_gflop_per_second.items()
    return ", ".join(
        [f"{significant(rate)} GFLOP/s in {first}", *(f"{significant(each)} in {name}" for name, each in others)]
    )


def _precisions(stage: Stage) -> str:
    """Return the precisions of a stage's products, that of most of them first; those of less than 1 % are left out."""
    work = sorted((stage.gflop_by_precision or {}).items(), key=lambda each: each[1], reverse=True)
    return ", ".join(name for name, gflop in work if gflop >= 0.01 * (stage.gflop or 0) > 0) or NONE


def _cells(stage: Stage) -> list[str]:
    work = f"{stage.gflop:.1f}" if stage.gflop else NONE
    rate = NONE if stage.gflop_per_second is None else significant(stage.gflop_per_second)
    shares = [NONE if share is None else f"{share * 100:.0f}" for share in (stage.share_of_peak, stage.share_of_used)]
    return [
        stage.name,
        significant(stage.ms),
        f"{stage.share_of_time * 100:.1f}",
        work,
        _precisions(stage),
        rate,
        *shares,
    ]
