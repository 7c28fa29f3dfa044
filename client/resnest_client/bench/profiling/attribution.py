"""Attributes the times of operators to stages, and the work of products to the precisions that they ran in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from resnest_client.bench.profiling.operators import Operators
from resnest_client.bench.profiling.results import CONVERSIONS, UNATTRIBUTED, Stage
from resnest_client.bench.profiling.stages import NETWORK, Graph

Work = Mapping[str, float]
"""GFLOP by precision."""


def ms_by_stage(graph: Graph, operators: Operators) -> dict[str, float]:
    """Return milliseconds by stage, reorders and conversions and what isn't attributed being stages of their own.

    A transpose that the runtime inserted is a reorder too: it has no name of the network's.
    """
    found: dict[str, float] = defaultdict(float)
    for operator in operators:
        stage = graph.stage_of(operator)
        if operator.is_conversion or (stage is None and operator.kind == "Transpose"):
            stage = CONVERSIONS
        found[stage or UNATTRIBUTED] += operator.ms
    return dict(found)


def work_by_stage(graph: Graph, gflop: Mapping[str, float], operators: Operators) -> dict[str, dict[str, float]]:
    """Return of each stage GFLOP by the precision that the runtime ran the product in.

    A product that no operator's name tells, as one that a runtime replaced by others, is counted with the precision in
    which most of the others ran.

    Args:
        graph: the network.
        gflop: GFLOP by node's name.
        operators: those of a run.
    """
    ran_in = {node: each.precision for each in operators if each.is_product for node in graph.nodes_of(each)}
    known: dict[str, float] = defaultdict(float)
    for node, work in gflop.items():
        if node in ran_in:
            known[ran_in[node]] += work
    usual = max(known, key=lambda precision: known[precision], default="fp32")
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for node, work in gflop.items():
        found[graph.nodes[node]][ran_in.get(node, usual)] += work
    return {stage: dict(work) for stage, work in found.items()}


def rows(
    ms: Mapping[str, float], work: Mapping[str, Work], peaks: Mapping[str, float], share_used: float
) -> list[Stage]:
    """Return the stages with their rates, and their shares of the peak.

    Args:
        ms: milliseconds by stage.
        work: of each stage of the network GFLOP by precision.
        peaks: GFLOP/s of all threads by precision.
        share_used: cores that the network had on average ÷ threads.
    """
    whole = sum(ms.values())
    found = []
    for name, each in ms.items():
        by_precision = dict(work.get(name, {})) if name in NETWORK else None
        gflop = None if by_precision is None else sum(by_precision.values())
        share = _share_of_peak(by_precision or {}, each, peaks)
        found.append(
            Stage(
                name=name,
                ms=each,
                share_of_time=each / whole,
                gflop=gflop,
                gflop_by_precision=by_precision,
                gflop_per_second=gflop / each * 1e3 if gflop and each else None,
                share_of_peak=share,
                share_of_used=None if share is None else share / share_used,
            )
        )
    return found


def _share_of_peak(work: Work, ms: float, peaks: Mapping[str, float]) -> float | None:
    """Return the time that the work takes at the peaks of its precisions ÷ the time that it took; None: no peak."""
    if not ms or not sum(work.values()) or any(precision not in peaks for precision in work):
        return None
    return sum(gflop / peaks[precision] for precision, gflop in work.items()) * 1e3 / ms
