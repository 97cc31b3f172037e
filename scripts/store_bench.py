"""What keeping runs costs: rows written one by one with their samples, then listed and loaded.

Printed as JSON: seconds for writing all rows, for one row, for listing all runs in a fresh process
of the store, and for loading the last run with its samples.

Example:
    python scripts/store_bench.py --rows 10000 --rows-per-run 20
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from qbench.benchmarking import environment
from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.result import Accuracy, Latency, Ratio, Row, RunResult
from qbench.benchmarking.timing.settings import Settings
from qbench.runs.request import ModelFile, Request
from qbench.runs.store import Store

_CALLS = 2000


def main() -> None:
    """Fill a store in a temporary folder, read it back, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rows-per-run", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qbench-") as name:
        folder = Path(name) / ".qbench"
        writing = timed(lambda: fill(Store(folder), args.rows, args.rows_per_run))
        listing = timed(lambda: check(Store(folder), args.rows))
        loading = timed(lambda: Store(folder).load("latest"))
        size = Store(folder).path.stat().st_size
    figures = {
        "rows": args.rows,
        "write_seconds": writing,
        "write_seconds_per_row": writing / args.rows,
        "list_seconds": listing,
        "load_one_run_seconds": loading,
        "database_bytes": size,
    }
    print(json.dumps(figures, indent=2))


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def fill(store: Store, rows: int, rows_per_run: int) -> None:
    """Keep `rows` rows, as many runs as that takes."""
    here, settings = environment.capture(), Settings()
    for first in range(0, rows, rows_per_run):
        request = Request(
            command=("bench", "m.onnx"),
            models=(ModelFile("/models/m.onnx", "0" * 64),),
            options={"number": first},
        )
        run, claim = store.begin(request, settings, here)
        pairs = [measured(batch) for batch in range(1, min(rows_per_run, rows - first) + 1)]
        for cell, row in pairs:
            store.add(run, cell, row, np.full(_CALLS, 0.002))
        result = RunResult(environment=here, settings=settings, rows=tuple(row for _, row in pairs))
        store.finish(run, result, [cell for cell, _ in pairs])
        claim.release()


def measured(batch: int) -> tuple[Cell, Row]:
    """Return a cell and its row, as full as they become."""
    cell = Cell(model="m.onnx", sha256="0" * 64, precision="int8", provider="cpu", batch=batch)
    row = Row(
        model="m.onnx",
        precision="int8",
        provider="cpu",
        batch=batch,
        accuracy=Accuracy("top1", 0.85, 1000, 0.84, 0.86),
        latency_ms=Latency(2.0, 0.1, 1.9, 2.2, 2.3, 2.5),
        ratio=Ratio(1.5, 1.49, 1.51, "faster"),
        float_nodes={f"/layer/{i}/Softmax": "softmax stays float" for i in range(10)},
        notes=("this CPU has no VNNI, so its integer products are little faster than float",),
    )
    return cell, row


def check(store: Store, rows: int) -> None:
    """Make sure that the list is complete."""
    listed = sum(run.rows for run in store.summaries())
    if listed != rows:
        raise SystemExit(f"{listed} rows are listed of {rows} that were written")


if __name__ == "__main__":
    main()
