"""Compare qbench with other quantizers: accuracy, INT8 share, time, memory and speed on the CPU.

Every tool gets the same preprocessed arrays, written once by a qbench recipe, and runs in a process
and an environment of its own, made by uv on first use. All models are then judged by the same code:

- simulated: accuracy by exact arithmetic, Q/DQ nodes not fused, as TensorRT computes
- native: accuracy as ONNX Runtime's CPU provider really runs it
- INT8: share of multiply-accumulates whose data and weight both are dequantized
- x infer: seconds to quantize, calibration included, over the seconds that plain FP32 inference of
  the same samples took in the same process, the mean of once before and once after
- MiB: the most resident memory of that process
- speed: over the float model, all candidates in paired rounds of random order, each loaded once

A tool that cannot be installed or fails is a row with the reason.

Example:
    python scripts/compare_peers.py model.onnx imgs/ --recipe imagenet --val val/ \
        --labels val.csv --metric top1 --limit 64
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers.environments import TOOLS, UnavailableError, interpreter, run
from peers.judge import METRICS, int8_share
from peers.worker import WAYS
from rich.console import Console
from rich.table import Table

from qbench.artifacts import SCHEMA_VERSION
from qbench.benchmarking import environment
from qbench.benchmarking.judging.judges import Judge
from qbench.benchmarking.judging.material import Material
from qbench.benchmarking.timing.schedule import Measurement, measure
from qbench.benchmarking.timing.settings import MODES
from qbench.data.choice import DataChoice, open_choice
from qbench.data.samples import Sample, Source
from qbench.errors import QbenchError
from qbench.model.load import Model, load
from qbench.model.passes.opset import raise_opset
from qbench.model.save import save
from qbench.runtimes.ort.runner import OrtRunner

WORKER = Path(__file__).parent / "peers/worker.py"
CACHE = Path.home() / ".cache/qbench/peers"

_PER_CHANNEL_OPSET = 13


@dataclass
class Row:
    """One candidate, as far as it came."""

    name: str
    path: Path
    simulated: float | None = None
    native: float | None = None
    int8_share: float | None = None
    cost: dict[str, Any] | None = None
    speed: dict[str, float] | None = None
    error: str | None = None


def main() -> None:
    """Compare, print the table and write the JSON."""
    args = parse_args()
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
        rows, measurement = compare(args, Path(folder))
    print_table(rows, args)
    if not measurement.trusted:
        say("the machine was too busy to time: even identical models differed by more than 1 %")
    if args.json:
        args.json.write_text(json.dumps(document(rows, measurement, args), indent=2, default=str))


def compare(args: argparse.Namespace, folder: Path) -> tuple[list[Row], Measurement]:
    """Quantize the model in every way, then judge and time the results."""
    size = (args.size, args.size) if args.size else None
    model = load(args.model)
    recipe, source = open_choice(model.path, model.inputs, DataChoice(args.val, args.recipe, size))
    judge = METRICS[args.metric](
        Material(source, args.val, recipe, args.labels, args.decoder, model)
    )
    samples = folder / "samples"
    calibration = DataChoice(args.data, recipe, size, args.limit)
    write_samples(open_choice(model.path, model.inputs, calibration)[1], samples)
    rows = [Row("fp32", raised(model, (args.keep or folder) / f"{args.model.stem}.onnx"))]
    for way in (way for way in WAYS if way.split()[0] in args.peers):
        say(way)
        rows.append(quantized(way, rows[0].path, samples, args.cache))
    for row in rows:
        say(f"judging {row.name}")
        examine(row, judge, source.load(0).feeds, args.threads)
    say("timing")
    return rows, time_all(rows, source.load(0), args)


def parse_args() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, help="images or .npz files to calibrate on")
    parser.add_argument("--recipe")
    parser.add_argument("--size", type=int)
    parser.add_argument("--limit", type=int, help="samples to calibrate on; others hold them all")
    parser.add_argument("--val", type=Path, required=True, help="images to judge on")
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--metric", choices=METRICS, default="cosine")
    parser.add_argument("--decoder", default="auto", help="how boxes are read, for map")
    parser.add_argument("--peers", type=lambda text: text.split(","), default=list(TOOLS))
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the environments")
    parser.add_argument("--keep", type=Path, help="folder for the quantized models")
    parser.add_argument("--threads", type=int, default=2, help="of the models that are timed")
    parser.add_argument("--mode", choices=MODES, default="quick")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if unknown := set(args.peers) - set(TOOLS):
        parser.error(f"unknown peers {', '.join(sorted(unknown))}; choose from {', '.join(TOOLS)}")
    return args


def write_samples(source: Source, folder: Path) -> None:
    """Write every sample to a file of its own, so that no tool need hold more than one."""
    folder.mkdir()
    for index in range(len(source)):
        firsts = {name: array[:1] for name, array in source.load(index).feeds.items()}
        np.savez(folder / f"{index:06}.npz", allow_pickle=False, **firsts)


def raised(model: Model, path: Path) -> Path:
    """Write `model` with an opset that has scales per channel, which some tools do not see to."""
    save(raise_opset(model.ir, _PER_CHANNEL_OPSET), path)
    return path


def quantized(way: str, model: Path, samples: Path, cache: Path) -> Row:
    """Return the row of a model that its tool has quantized, or failed to."""
    row = Row(way, model.with_suffix(f".{way.replace(' ', '-')}.onnx"))
    report = row.path.with_suffix(".json")
    try:
        python = interpreter(way.split()[0], cache)
        run([str(part) for part in (python, WORKER, way, model, samples, row.path, report)])
        row.cost = json.loads(report.read_text())
    except UnavailableError as error:
        row.error = str(error)
    return row


def examine(row: Row, judge: Judge, feeds: dict[str, NDArray[Any]], threads: int) -> None:
    """Fill in the accuracy and the INT8 share of a row."""
    if row.error:
        return
    try:
        row.native = judge.judge(OrtRunner(row.path, threads=threads)).accuracy.value
        row.simulated = judge.judge(OrtRunner(row.path, simulate=True)).accuracy.value
        row.int8_share = int8_share(row.path, feeds)
    except QbenchError as error:
        row.error = str(error)


def time_all(rows: list[Row], sample: Sample, args: argparse.Namespace) -> Measurement:
    """Time all models that run in paired rounds, and fill in their speed over the first."""
    running = [row for row in rows if not row.error]
    runners = [OrtRunner(row.path, threads=args.threads) for row in running]
    measurement = measure([runner.bind(sample.feeds) for runner in runners], MODES[args.mode])
    for row, ratio in zip(running, measurement.ratios, strict=True):
        row.speed = {"value": ratio.value, "ci_low": ratio.low, "ci_high": ratio.high}
    return measurement


def document(rows: list[Row], measurement: Measurement, args: argparse.Namespace) -> dict[str, Any]:
    """Return everything that was found, for JSON."""
    control = measurement.control
    return {
        "schema_version": SCHEMA_VERSION,
        "settings": vars(args),
        "environment": {
            f: getattr(e, f) for e in [environment.capture()] for f in e.__struct_fields__
        },
        "control": {"value": control.value, "ci_low": control.low, "ci_high": control.high},
        "trusted": measurement.trusted,
        "rows": [asdict(row) for row in rows],
    }


def print_table(rows: list[Row], args: argparse.Namespace) -> None:
    """Print one line per candidate, and the reasons of those that failed."""
    table = Table(box=None, pad_edge=False)
    table.add_column("candidate", no_wrap=True)
    for heading in ("simulated", "native", "INT8", "seconds", "x infer", "MiB", "speed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *cells(row))
    console = Console(width=None if sys.stdout.isatty() else 80, highlight=False)
    console.print(f"{args.model.name}, accuracy: {args.metric}")
    console.print(table)
    for row in rows:
        if row.error:
            console.print(shorten(f"{row.name} failed: {row.error}", 240), markup=False)


def cells(row: Row) -> list[str]:
    """Return the figures of a row as text; `-` for what is not known."""
    cost = row.cost or {}
    seconds, peak = cost.get("seconds"), cost.get("peak_rss_bytes")
    return [
        "-" if figure is None else pattern.format(figure)
        for figure, pattern in (
            (row.simulated, "{:.4f}"),
            (row.native, "{:.4f}"),
            (row.int8_share, "{:.1%}"),
            (seconds, "{:.1f}"),
            (seconds and seconds / cost["plain_seconds"], "{:.1f}"),
            (peak and peak / 2**20, "{:.0f}"),
            (row.speed and row.speed["value"], "{:.2f}"),
        )
    ]


def say(text: str) -> None:
    """Tell on stderr what comes next."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
