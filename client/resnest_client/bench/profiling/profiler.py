"""Profiles one image by stage, in this process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np
from rich.console import Console

from resnest_client.bench.machine import command_line, describe_machine, git_commit, package_versions
from resnest_client.bench.profiling.attribution import ms_by_stage, rows, work_by_stage
from resnest_client.bench.profiling.flops import count_gflop
from resnest_client.bench.profiling.operators import PROFILED, ProfiledNetwork, load_profiled
from resnest_client.bench.profiling.peak import Peaks
from resnest_client.bench.profiling.request import ProfileRequest, first_image, read_model
from resnest_client.bench.profiling.results import BETWEEN, CONVERSIONS, UNATTRIBUTED, Profile, ProfiledImage, Stage
from resnest_client.bench.profiling.stages import NETWORK, OF_MASKS, Graph
from resnest_client.bench.results import Subject
from resnest_core import tensors
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import checked_threshold, unpack
from resnest_core.errors import ParameterError
from resnest_core.formats.native import native
from resnest_core.images import decode_image
from resnest_core.preprocess import PreparedImage, prepare, stack
from resnest_core.runtimes import preferred_runtime

DECODE, RESIZE, RUN, ENCODE = PASS = ("decode", "resize", "network", "encode")
COUNT = 3
MOST_RUNS = 1000
PEAK_TRIES = 3  # before the runs, and as many after

Times = dict[str, float]


def profile(request: ProfileRequest, console: Console) -> Profile:
    """Profile the first usable image; the console is told which model and image are taken.

    Raises:
        ParameterError: there is no such runtime, or no usable image, or the count makes no sense.
        ModelNotFoundError: there is no such model.
        InvalidModelError: the file is damaged, or wasn't made by `resnest export`.
        MissingExtraError: a package isn't installed.
        RuntimeUnavailableError: the runtime can't run the model here.
    """
    runtime, count = request.runtime or preferred_runtime("cpu").name, COUNT if request.runs is None else request.runs
    if runtime not in PROFILED:
        raise ParameterError(f"There is no runtime {runtime!r}: use one of {', '.join(PROFILED)}.")
    if not 1 <= count <= MOST_RUNS:
        raise ParameterError(f"--count must be from 1 to {MOST_RUNS} with --profile, not {count}.")
    file, data = first_image(request.images)
    graph, card = read_model(request)
    threshold, masks = checked_threshold(request.score_threshold, card), request.masks and card.has_masks
    console.print(f"Profiling {card.name} in {runtime} on {file.name}.", markup=False)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")

    inputs = _inputs(prepare(decode_image(data), card), card, threshold, masks)
    peak = Peaks(runtime, request.threads)
    peak.measure(PEAK_TRIES)
    with TemporaryDirectory() as folder:
        network = load_profiled(runtime, graph.model, card, request.threads, Path(folder))
        passes = [_pass(data, card, network, threshold, masks) for _ in range(count + 1)][1:]
        operators = network.operators()[1:]
        del network
    peak.measure(PEAK_TRIES)
    work = work_by_stage(graph, count_gflop(graph, inputs, request.threads), operators[-1])

    networks = [ms_by_stage(graph, run) for run in operators]
    names = [name for name in NETWORK if name not in OF_MASKS or card.has_masks]
    ms: Times = {name: median(each.ms[name] for each in passes) for name in (DECODE, RESIZE)}
    ms |= {name: median(each.get(name, 0.0) for each in networks) for name in (*names, CONVERSIONS, UNATTRIBUTED)}
    left = [each.ms[RUN] - sum(found.values()) for each, found in zip(passes, networks, strict=True)]
    ms[BETWEEN] = max(median(left), 0.0)
    ms[ENCODE] = median(each.ms[ENCODE] for each in passes)
    cores = median(each.cpu_ms / each.ms[RUN] for each in passes)
    stages = rows(ms, work, peak.gflop_per_second, cores / peak.threads)
    wholes = [each.whole_ms for each in passes]
    height, width = inputs[tensors.IMAGES].shape[1:3]
    return Profile(
        subject=Subject(
            model=card.name,
            precision=card.precision,
            checkpoint_sha256=card.checkpoint_sha256,
            runtime=runtime,
            device="cpu",
            threads=request.threads,
        ),
        image=ProfiledImage(file=file.name, size_hw=passes[0].detections.image_size_hw, padded_size_hw=(height, width)),
        detections=len(passes[0].detections.scores),
        masks=masks,
        score_threshold=request.score_threshold,
        count=count,
        stages=stages,
        whole_ms=median(wholes),
        whole_range_ms=(min(wholes), max(wholes)),
        gflop=sum(stage.gflop or 0.0 for stage in stages),
        network_cpu_ms=median(each.cpu_ms for each in passes),
        network_cores=cores,
        peaks_gflop_per_second=peak.gflop_per_second,
        threads=peak.threads,
        notes=_notes(graph, stages),
        started=started,
        machine=describe_machine(),
        versions=package_versions(),
        git_commit=git_commit(),
        command=command_line(),
    )


class Pass(NamedTuple):
    """One run of an image: milliseconds by stage and in total, and the detections."""

    ms: Times
    whole_ms: float
    cpu_ms: float
    """Of all threads of this process, in the network."""
    detections: Detections


def _pass(data: bytes, card: ModelCard, network: ProfiledNetwork, threshold: float, masks: bool) -> Pass:
    times = [perf_counter()]
    pixels = decode_image(data)
    times.append(perf_counter())
    prepared = prepare(pixels, card)
    inputs = _inputs(prepared, card, threshold, masks)
    times.append(perf_counter())
    cpu = process_time()
    outputs = network.run(inputs)
    cpu = process_time() - cpu
    times.append(perf_counter())
    detections = unpack(outputs, 0, prepared.original_size_hw, masks)
    json.dumps(native(detections, card, masks="rle" if masks else "none"))
    times.append(perf_counter())
    network.note()
    ms = {name: (end - start) * 1e3 for name, (start, end) in zip(PASS, pairwise(times), strict=True)}
    return Pass(ms, (times[-1] - times[0]) * 1e3, cpu * 1e3, detections)


def _inputs(image: PreparedImage, card: ModelCard, threshold: float, masks: bool) -> tensors.Tensors:
    inputs = stack([image]) | {
        tensors.SCORE_THRESHOLDS: np.array([[threshold]], np.float32),
        tensors.WANT_MASKS: np.array([[masks]]),
    }
    return {name: inputs[name] for name in tensors.input_names(card.has_masks)}


def _notes(graph: Graph, stages: Sequence[Stage]) -> list[str]:
    notes = []
    if graph.winograd:
        notes.append(
            "The heads' convolutions are Winograd products: their GFLOP are those of the products done, about a "
            "third of the convolutions'."
        )
    beyond = [stage.name for stage in stages if max(stage.share_of_peak or 0, stage.share_of_used or 0) > 1]
    if beyond:
        notes.append(
            f"More than 100 % ({', '.join(beyond)}): the runtime did fewer multiplications than are counted "
            "(convolutions in Winograd's form), or the data fit the caches better than the peak's matrices, or the "
            "stage had more cores than the network on average."
        )
    return notes
