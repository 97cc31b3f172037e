"""What rows and metrics are called where people read them."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path

from qbench.benchmarking.result import Ratio, Row, RunResult

METRICS = {
    "top1": "top-1",
    "top5": "top-5",
    "map": "COCO mAP",
    "map50": "mAP at IoU .50",
    "miou": "mean IoU",
    "agreement": "detections in common with FP32",
    "top1_agreement": "the same class first as with FP32",
    "cosine": "cosine with FP32",
    "sqnr_db": "SQNR in dB",
    "retrieval": "the same nearest image as with FP32",
}


def metric_name(metric: str) -> str:
    """Return the name of a metric."""
    return METRICS.get(metric, metric)


def told_apart(paths: Iterable[Path]) -> dict[Path, str]:
    """Return a name for each path: its last part, and of those that share it as many as differ."""
    alike: dict[str, set[Path]] = defaultdict(set)
    for path in paths:
        alike[path.name].add(path)
    return {path: name for group in alike.values() for path, name in _endings(group).items()}


def _endings(paths: Collection[Path]) -> dict[Path, str]:
    """Return the last parts of distinct paths, as few for all as tell them apart."""
    length = 1
    while len({path.parts[-length:] for path in paths}) < len(paths):
        length += 1
    return {path: Path(*path.parts[-length:]).as_posix() for path in paths}


def row_names(result: RunResult) -> list[str]:
    """Return a name for each row: what tells it from the others, and never twice the same."""
    several = len({row.model for row in result.rows}) > 1
    modes = {(row.mode, row.rate) for row in result.rows if row.latency_ms}
    names = [row_name(row, with_model=several, with_mode=len(modes) > 1) for row in result.rows]
    seen: Counter[str] = Counter()
    for number, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[number] = f"{name} ({seen[name]})"
    return names


def named_rows(result: RunResult) -> list[tuple[str, Row]]:
    """Return every row behind its name of `row_names`."""
    return list(zip(row_names(result), result.rows, strict=True))


def is_baseline(ratio: Ratio | None) -> bool:
    """Tell whether a speed-up is that of the baseline over itself."""
    return ratio is not None and ratio.value == ratio.ci_low == ratio.ci_high == 1.0


def row_name(row: Row, *, with_model: bool = True, with_mode: bool = True) -> str:
    """Return what a row measures, in a few words; what is as usual goes without saying."""
    parts = [row.model] if with_model else []
    parts += [row.precision, row.provider]
    parts += [f"batch {row.batch}"] if row.batch > 1 else []
    parts += [f"{row.threads} threads"] if row.threads else []
    parts += [f"{row.streams} streams"] if row.streams > 1 else []
    if with_mode:
        parts += [row.mode] if row.mode != "latency" else []
        parts += [f"{row.rate:g}/s"] if row.rate else []
    return " ".join(parts)
