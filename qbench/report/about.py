"""What a report says in words: where and how it was measured, and what stayed float."""

from collections.abc import Sequence

from qbench.benchmarking.environment import Environment
from qbench.benchmarking.options import GROUP
from qbench.benchmarking.presentation.naming import named_rows
from qbench.benchmarking.result import RunResult
from qbench.benchmarking.stats import FEWEST_SITTINGS
from qbench.benchmarking.timing.settings import Settings
from qbench.benchmarking.timing.sittings import SITTING_ROUNDS
from qbench.formatting import digits, percent, size_text
from qbench.runtimes.gpu.devices import Gpu

Terms = list[tuple[str, str]]
"""Pairs of a term and its explanation."""


def machine_terms(environment: Environment) -> Terms:
    """Return what the measurement was made on; what the platform did not tell is left out."""
    load = environment.load_average
    quota = environment.core_quota
    cores = f"{environment.cores} logical cores"
    found = {
        "processor": environment.cpu,
        "cores": cores if quota is None else f"{cores}, of which the group may use {quota:g}",
        "instruction sets": ", ".join(environment.isa or ()),
        "governor": environment.governor,
        "load": load and f"{', '.join(map(digits, load))} over the last 1, 5 and 15 minutes",
        **dict(_gpu_terms(environment)),
        "system": environment.os,
        "python": environment.python,
        "packages": ", ".join(f"{name} {v}" for name, v in environment.versions.items()),
        "commit": environment.git_commit,
        "measured": environment.time_utc,
    }
    return [(term, text) for term, text in found.items() if text]


def _gpu_terms(environment: Environment) -> Terms:
    gpus = environment.gpus or ()
    return [
        ("GPU" if len(gpus) == 1 else f"GPU {number}", _gpu_text(gpu))
        for number, gpu in enumerate(gpus)
    ]


def _gpu_text(gpu: Gpu) -> str:
    memory = [] if gpu.memory_bytes is None else [size_text(gpu.memory_bytes)]
    parts = [
        gpu.name,
        *memory,
        f"compute capability {gpu.compute_capability}",
        f"driver {gpu.driver}",
        f"clock {gpu.sm_clock_mhz or '?'} of {gpu.max_sm_clock_mhz or '?'} MHz",
    ]
    return ", ".join(parts)


def method_terms(settings: Settings) -> Terms:
    """Return how the figures were made."""
    return [
        (
            "order",
            "Rounds with two blocks of calls for each candidate, in fresh random order; how the "
            "first compares with the second is the control. A block lasts at least "
            f"{1e3 * settings.block_seconds:g} ms.",
        ),
        (
            "loads",
            f"After a sitting of {SITTING_ROUNDS} rounds or more candidates are loaded anew, since "
            "two loads of one file differ: all in fresh processes, or where that takes too long "
            "all in their own. Those that take too long to load at all are not, and say so.",
        ),
        (
            "length",
            f"Until every speed-up's interval is at most {percent(settings.half_width)} to "
            f"each side, after {settings.min_rounds} to {settings.max_rounds} rounds in "
            f"{settings.min_sittings} sittings or more, or {settings.max_seconds:g} s for each "
            f"group of up to {GROUP} candidates.",
        ),
        (
            "warm-up",
            "Until the timings stop drifting, at most "
            f"{settings.warmup_seconds:g} s for each candidate.",
        ),
        (
            "speed-up",
            "The baseline's block median / the row's, per image: median over the rounds of a "
            "sitting, mean of their logarithms over sittings, with Student's interval. Of fewer "
            f"than {FEWEST_SITTINGS} sittings it is the median over all rounds, with a bootstrap "
            f"interval, seed {settings.seed}.",
        ),
        ("intervals", "All are of 95 %. No outlier is left out."),
    ]


def float_groups(result: RunResult) -> list[tuple[str, Terms]]:
    """Return what stayed float: names of rows, and beside each reason its nodes.

    Rows that left the same nodes float share a group.
    """
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, row in named_rows(result):
        if row.float_nodes:
            groups.setdefault(tuple(row.float_nodes.items()), []).append(name)
    return [(", ".join(names), _by_reason(nodes)) for nodes, names in groups.items()]


def _by_reason(nodes: Sequence[tuple[str, str]]) -> Terms:
    reasons: dict[str, list[str]] = {}
    for node, reason in nodes:
        reasons.setdefault(reason, []).append(node)
    return [(reason, ", ".join(names)) for reason, names in reasons.items()]
